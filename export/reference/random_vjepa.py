"""Checkpoints of the V-JEPA 2 family with random weights, in the layouts of their publishers: what their sizes cost in INT8 can be
measured without anybody's checkpoint.

    python -m export.reference.random_vjepa vitl --out build/vjepa2-vitl
    python -m export.reference.random_vjepa vith --out build/vjepa2-vith
    python -m export.reference.random_vjepa ac-reduced --out build/vjepa2-ac

``vitl`` and ``vith`` are V-JEPA 2 ViT-L and ViT-H for ``latentloop export vjepa2``; the encoder of the latter is over 2 GB.
``ac-reduced`` is a V-JEPA 2-AC for ``latentloop export vjepa2-official``, as wide as the published one, with 4 of its 40 and 4
of its 24 layers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from export.sources.vjepa_ac_model import ActionPredictor
from export.sources.vjepa_keys import hugging_face_name
from export.sources.vjepa_model import ClipSpec, Encoder, MaskedPredictor, StackSpec

State = dict[str, Tensor]
ENCODERS = {"vitl": StackSpec(1024, 24, 16, 4096), "vith": StackSpec(1280, 32, 16, 5120)}
PREDICTOR, MASK_TOKENS = StackSpec(384, 12, 12, 1536), 10
AC, AC_PREDICTOR = StackSpec(1408, 4, 22, 6144), StackSpec(1024, 4, 16, 4096)
ACTION_STD = 1.0 / 0.075
"""An action is some centimetres, in metres: its Linear makes as much of it as of the other tokens."""
SEED = 0


def randomised(model: nn.Module, seed: int = SEED) -> State:
    """Its weights, of which every one counts: training starts some at zero, here they keep the scale of what goes through."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "mask_tokens" in name:
            nn.init.normal_(parameter, std=0.5)
        elif "action_encoder" in name and parameter.ndim == 2:
            nn.init.normal_(parameter, std=ACTION_STD)
        elif parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
        else:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return dict(model.state_dict())


def hugging_face_state(encoder: Mapping[str, Tensor], predictor: Mapping[str, Tensor]) -> State:
    """Both parts under the names of a ``VJEPA2Model``."""
    state: State = {}
    for part, original in (("encoder", encoder), ("predictor", predictor)):
        for key, value in original.items():
            name = hugging_face_name(part, key)
            if ".attention.query." in name:
                thirds = zip(("query", "key", "value"), value.chunk(3), strict=True)
                state |= {name.replace("query", third): weights.clone() for third, weights in thirds}
            elif not key.startswith("mask_tokens."):
                state[name] = value
    masks = [value for key, value in predictor.items() if key.startswith("mask_tokens.")]
    return state | {"predictor.embeddings.mask_tokens": torch.stack(masks)}


def write_hugging_face(folder: Path, config: Mapping[str, object], state: State) -> Path:
    """A folder as transformers writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "vjepa2", **config}))
    save_file(state, folder / "model.safetensors")
    return folder


def write_official(path: Path, parts: Mapping[str, State]) -> Path:
    """A file as facebookresearch's training writes it, with what else it keeps. parts: by the name of their section."""
    saved = {name: {f"module.backbone.{key}": value for key, value in state.items()} for name, state in parts.items()}
    torch.save({**saved, "opt": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "epoch": 3}, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=(*ENCODERS, "ac-reduced"), help="architecture")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write it")
    args = parser.parse_args()
    clip = ClipSpec()
    if args.model in ENCODERS:
        spec = ENCODERS[args.model]
        encoder = randomised(Encoder(spec, clip, "tiled"))
        predictor = MaskedPredictor(PREDICTOR, spec.width, MASK_TOKENS, 1, clip.grid, "tiled")
        sizes = {"hidden_size": spec.width, "num_hidden_layers": spec.layers, "num_attention_heads": spec.heads}
        write_hugging_face(args.out, sizes, hugging_face_state(encoder, randomised(predictor)))
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        parts = {
            "encoder": randomised(Encoder(AC, clip, "tiled")),
            "predictor": randomised(ActionPredictor(AC_PREDICTOR, AC.width, 1, clip.grid)),
        }
        write_official(args.out / "vjepa2-ac-reduced.pt", parts)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
