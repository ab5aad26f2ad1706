"""Small checkpoints of the V-JEPA 2 family with random weights of which every one matters, in the layouts of their publishers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from export.sources.vjepa_ac_model import ActionPredictor
from export.sources.vjepa_keys import hugging_face_name
from export.sources.vjepa_model import ClipSpec, Encoder, MaskedPredictor, StackSpec

ENCODER = StackSpec(width=128, layers=2, heads=2, hidden=256)
MASKED = StackSpec(width=192, layers=2, heads=12, hidden=384)
ACTING = StackSpec(width=256, layers=2, heads=16, hidden=512)
CLIP = ClipSpec(size=(48, 48), patch=16, tubelet=2, frames=4)
MASK_TOKENS = 3
CONFIG = {
    "model_type": "vjepa2",
    "crop_size": 48,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "mlp_ratio": 2.0,
    "pred_hidden_size": 192,
    "pred_num_attention_heads": 12,
    "pred_num_hidden_layers": 2,
    "pred_mlp_ratio": 2.0,
    "pred_num_mask_tokens": MASK_TOKENS,
}


def randomise(model: nn.Module) -> nn.Module:
    """Training starts some weights at zero or one; here all are drawn."""
    for name, parameter in model.named_parameters():
        if "mask_tokens" in name or "mod_embed" in name:
            nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
        else:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def encoder_state() -> dict[str, Tensor]:
    """In facebookresearch's names, without prefixes."""
    torch.manual_seed(0)
    return randomise(Encoder(ENCODER, CLIP, "tiled")).state_dict()


def masked_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return randomise(MaskedPredictor(MASKED, ENCODER.width, MASK_TOKENS, 1, CLIP.grid, "tiled")).state_dict()


def acting_state() -> dict[str, Tensor]:
    torch.manual_seed(2)
    state = randomise(ActionPredictor(ACTING, ENCODER.width, 1, CLIP.grid)).state_dict()
    return state | {"extrinsics_encoder.weight": torch.randn(256, 6), "extrinsics_encoder.bias": torch.randn(256)}


def second_state() -> dict[str, Tensor]:
    """An encoder of V-JEPA 2.1: two tokenizers, a norm for each of four layers that training reads."""
    torch.manual_seed(3)
    state = encoder_state()
    for kind in ("weight", "bias"):
        last = state.pop(f"norm.{kind}")
        state |= {f"norms_block.{i}.{kind}": torch.rand(128) + 0.5 for i in range(3)} | {f"norms_block.3.{kind}": last}
    state |= {"patch_embed_img.proj.weight": torch.randn(128, 3, 1, 16, 16) / 28, "patch_embed_img.proj.bias": torch.randn(128)}
    return state | {"img_mod_embed": torch.randn(1, 1, 128), "video_mod_embed": torch.randn(1, 1, 128)}


def wrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As distributed training saves it."""
    return {f"module.backbone.{key}": value for key, value in state.items()}


def write_official(path: Path, parts: dict[str, dict[str, Tensor]]) -> Path:
    """parts: by the name of their section. The rest of a training checkpoint comes along."""
    saved = {name: wrapped(state) for name, state in parts.items()}
    torch.save({**saved, "opt": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "epoch": 3}, path)
    return path


def hugging_face_state() -> dict[str, Tensor]:
    """Encoder and predictor in the names of a VJEPA2Model."""
    state: dict[str, Tensor] = {}
    for part, original in (("encoder", encoder_state()), ("predictor", masked_state())):
        for key, value in original.items():
            name = hugging_face_name(part, key)
            if ".attention.query." in name:
                thirds = zip(("query", "key", "value"), value.chunk(3), strict=True)
                state |= {name.replace("query", third): weights.clone() for third, weights in thirds}
            elif "mask_tokens" not in key:
                state[name] = value
        if part == "predictor":
            tokens = [original[f"mask_tokens.{i}"] for i in range(MASK_TOKENS)]
            state["predictor.embeddings.mask_tokens"] = torch.stack(tokens)
    return state


def write_hugging_face(folder: Path, state: dict[str, Tensor] | None = None) -> Path:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(hugging_face_state() if state is None else state, folder / "model.safetensors")
    return folder
