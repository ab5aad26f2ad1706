"""Our definition of vision encoders against transformers, where it is installed: the same names and the same numbers."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from export.sources.vit import canonical_names, read_config
from export.sources.vit_model import Vit
from export.sources.weights import fit

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 56, "patch_size": 14}
MODELS = {
    "ViTModel": ("ViTConfig", {"intermediate_size": 96}),
    "ViTForImageClassification": ("ViTConfig", {"intermediate_size": 96, "qkv_bias": False}),
    "DeiTModel": ("DeiTConfig", {"intermediate_size": 96}),
    "IJepaModel": ("IJepaConfig", {"intermediate_size": 96}),
    "ViTMSNModel": ("ViTMSNConfig", {"intermediate_size": 96}),
    "Dinov2Model": ("Dinov2Config", {}),
    "Dinov2ForImageClassification": ("Dinov2Config", {"use_swiglu_ffn": True}),
    "Dinov2WithRegistersModel": ("Dinov2WithRegistersConfig", {}),
}


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [56, 84])
def test_transformers_computes_the_same(tmp_path, name, size):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")
    kind, extra = MODELS[name]
    torch.manual_seed(0)
    original = getattr(transformers, name)(getattr(transformers, kind)(**SMALL, **extra)).eval()
    for parameter in original.parameters():  # of which every one matters, also those that start at zero or one
        parameter.copy_(torch.randn(parameter.shape) * 0.3)
    original.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"]

    family, spec = read_config(tmp_path / "config.json")
    ours = Vit(spec).eval()
    weights = tmp_path / "model.safetensors"
    fit(ours, canonical_names(load_file(weights), family), weights, "")
    pixels = torch.randn(2, 3, size, size)
    body = getattr(original, original.base_model_prefix, original)
    dino = family.startswith("dino")
    stretched = {} if dino or size == SMALL["image_size"] else {"interpolate_pos_encoding": True}
    expected = body(pixels, **stretched).last_hidden_state[:, spec.leading + spec.registers :]
    found = ours(pixels)
    assert found.shape == (2, (size // 14) ** 2, 48)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
