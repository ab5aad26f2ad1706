"""Our definition of the V-JEPA 2 family against its publishers' code, where that is at hand: the same numbers.

transformers is in no extra, because nothing else needs it. facebookresearch's code is no package: clone facebookresearch/vjepa2
and say where in LATENTLOOP_VJEPA2_SOURCE.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import nn

from export.sources.vjepa_ac_model import ActionPredictor
from export.sources.vjepa_keys import arranged, from_hugging_face
from export.sources.vjepa_model import Encoder, MaskedPredictor
from tests.export.sources import vjepa_checkpoints as made

SOURCE = "LATENTLOOP_VJEPA2_SOURCE"
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)


def ours(kind, state, heads, *sizes):
    model = kind(*sizes).eval()
    model.load_state_dict(arranged(state, heads))
    return model


@torch.no_grad()
def test_transformers_computes_the_same():
    transformers = pytest.importorskip("transformers")
    sizes = {key: value for key, value in made.CONFIG.items() if key != "model_type"}
    model = transformers.VJEPA2Model(transformers.VJEPA2Config(**sizes, frames_per_clip=made.CLIP.frames)).eval()
    model.load_state_dict(made.hugging_face_state())
    states = from_hugging_face(model.state_dict())
    encoder = ours(Encoder, states[0], made.ENCODER.heads, made.ENCODER, made.CLIP, "tiled")
    sizes = (made.MASKED, made.ENCODER.width, made.MASK_TOKENS, 1, made.CLIP.grid, "tiled")
    predictor = ours(MaskedPredictor, states[1], made.MASKED.heads, *sizes)
    clip, patches = torch.randn(1, 4, 3, 48, 48), made.CLIP.patches
    seen, hidden = torch.arange(patches)[None], torch.arange(patches, 2 * patches)[None]
    found = model(clip, context_mask=[seen], target_mask=[hidden])
    tokens = encoder(clip.transpose(1, 2))
    close(tokens, found.last_hidden_state)
    close(encoder(clip.transpose(1, 2), newest=True), found.last_hidden_state[:, patches:])
    predicted = predictor(tokens[:, :patches])
    close(predicted, found.predictor_output.last_hidden_state)
    assert (predicted[:, 0] - predicted[:, -1]).norm() > 0.1 * predicted[:, 0].norm()


@pytest.fixture
def official(monkeypatch):
    """facebookresearch's models. What they import beside torch plays no part in inference."""
    folder = os.environ.get(SOURCE)
    if not folder:
        pytest.skip(f"{SOURCE} names no clone of facebookresearch/vjepa2")
    parts = {"timm": {}, "timm.models": {}, "timm.models.layers": {"drop_path": None}, "einops": {"rearrange": None}}
    for name, contents in parts.items():
        stub = ModuleType(name)
        vars(stub).update(contents)
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.setattr(torch.backends.cuda, "sdp_kernel", contextlib.nullcontext, raising=False)
    monkeypatch.syspath_prepend(folder)
    return lambda name: importlib.import_module(f"src.models.{name}")


COMMON = {
    "img_size": (48, 48),
    "num_frames": 4,
    "tubelet_size": 2,
    "mlp_ratio": 2,
    "norm_layer": partial(nn.LayerNorm, eps=1e-6),
    "use_rope": True,
}


@torch.no_grad()
def test_facebookresearch_encodes_the_same(official):
    model = official("vision_transformer").VisionTransformer(embed_dim=128, depth=2, num_heads=2, **COMMON).eval()
    model.load_state_dict(made.encoder_state())
    clip = torch.randn(1, 3, 4, 48, 48)
    close(ours(Encoder, made.encoder_state(), 2, made.ENCODER, made.CLIP, "tiled")(clip), model(clip))


@torch.no_grad()
def test_facebookresearch_predicts_the_same_patches(official):
    sizes = {"predictor_embed_dim": 192, "depth": 2, "num_heads": 12, "use_mask_tokens": True, "num_mask_tokens": made.MASK_TOKENS}
    model = official("predictor").VisionTransformerPredictor(embed_dim=128, **sizes, **COMMON).eval()
    model.load_state_dict(made.masked_state())
    tokens, patches = torch.randn(1, 9, 128), torch.arange(18)[None]
    predictor = ours(MaskedPredictor, made.masked_state(), 12, made.MASKED, 128, made.MASK_TOKENS, 1, made.CLIP.grid, "tiled")
    close(predictor(tokens), model(tokens, patches[:, :9], patches[:, 9:]))


@torch.no_grad()
def test_facebookresearch_predicts_the_same_after_actions(official):
    sizes = {**COMMON, "num_frames": 8}
    model = official("ac_predictor").VisionTransformerPredictorAC(
        embed_dim=128, predictor_embed_dim=256, depth=2, num_heads=16, **sizes
    ).eval()
    model.load_state_dict(made.acting_state())
    state = {key: value for key, value in made.acting_state().items() if not key.startswith("extrinsics")}
    predictor = ours(ActionPredictor, state, 16, made.ACTING, 128, 3, made.CLIP.grid)
    latents, actions, poses = torch.randn(2, 3, 9, 128), torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    found = model(latents.flatten(1, 2), actions, poses).unflatten(1, (3, 9))
    close(predictor(latents, actions, poses), found)
    actions[:, 0] += 1.0
    assert (model(latents.flatten(1, 2), actions, poses).unflatten(1, (3, 9)) - found)[:, 2].norm() > 1e-2
