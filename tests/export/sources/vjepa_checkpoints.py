"""Small checkpoints of the V-JEPA 2 family with random weights of which every one matters, in the layouts of their publishers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from export.reference import random_vjepa
from export.reference.random_vjepa import randomised, write_official
from export.sources.vjepa_ac_model import ActionPredictor
from export.sources.vjepa_model import ClipSpec, Encoder, MaskedPredictor, StackSpec

__all__ = ["write_official"]

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


def encoder_state() -> dict[str, Tensor]:
    """In facebookresearch's names, without prefixes."""
    return randomised(Encoder(ENCODER, CLIP, "tiled"), 0)


def masked_state() -> dict[str, Tensor]:
    return randomised(MaskedPredictor(MASKED, ENCODER.width, MASK_TOKENS, 1, CLIP.grid, "tiled"), 1)


def acting_state() -> dict[str, Tensor]:
    state = randomised(ActionPredictor(ACTING, ENCODER.width, 1, CLIP.grid), 2)
    return state | {"extrinsics_encoder.weight": torch.randn(256, 6), "extrinsics_encoder.bias": torch.randn(256)}


def second_state() -> dict[str, Tensor]:
    """An encoder of V-JEPA 2.1: two tokenizers, a norm for each of four layers that training reads."""
    state = encoder_state()
    torch.manual_seed(3)
    for kind in ("weight", "bias"):
        last = state.pop(f"norm.{kind}")
        state |= {f"norms_block.{i}.{kind}": torch.rand(128) + 0.5 for i in range(3)} | {f"norms_block.3.{kind}": last}
    state |= {"patch_embed_img.proj.weight": torch.randn(128, 3, 1, 16, 16) / 28, "patch_embed_img.proj.bias": torch.randn(128)}
    return state | {"img_mod_embed": torch.randn(1, 1, 128), "video_mod_embed": torch.randn(1, 1, 128)}


def hugging_face_state() -> dict[str, Tensor]:
    """Encoder and predictor in the names of a VJEPA2Model."""
    return random_vjepa.hugging_face_state(encoder_state(), masked_state())


def write_hugging_face(folder: Path) -> Path:
    return random_vjepa.write_hugging_face(folder, CONFIG, hugging_face_state())
