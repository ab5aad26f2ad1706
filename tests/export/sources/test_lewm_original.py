"""Our definition of LeWorldModel against the original packages, where they are installed: the same numbers.

They are in no extra, because nothing else needs them: ``make originals`` installs them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
import torch

from export.sources.lewm import published_names


@pytest.fixture
def original(monkeypatch):
    """The original model, weights as made. Its package's own __init__ needs simulators; the model does not."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("einops")
    found = importlib.util.find_spec("stable_worldmodel")
    if found is None or found.origin is None:
        pytest.skip("stable-worldmodel is not installed")
    folder = found.origin.rsplit("/", 1)[0]
    for name in ("stable_worldmodel", "stable_worldmodel.wm"):
        package = ModuleType(name)
        package.__path__ = [folder + name.removeprefix("stable_worldmodel").replace(".", "/")]
        monkeypatch.setitem(sys.modules, name, package)
    model = importlib.import_module("stable_worldmodel.wm.lewm.lewm")
    parts = importlib.import_module("stable_worldmodel.wm.lewm.module")
    sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
    config = transformers.ViTConfig(**sizes, image_size=224, patch_size=14)
    predictor = {"num_frames": 3, "input_dim": 192, "hidden_dim": 192, "depth": 6, "heads": 16, "mlp_dim": 2048, "dim_head": 64}
    projector = {"input_dim": 192, "output_dim": 192, "hidden_dim": 2048, "norm_fn": torch.nn.BatchNorm1d}
    return model.LeWM(
        transformers.ViTModel(config, add_pooling_layer=False),
        parts.Predictor(**predictor),
        parts.Embedder(input_dim=10, emb_dim=192),
        parts.MLP(**projector),
        parts.MLP(**projector),
    ).eval()


@torch.no_grad()
def test_the_original_computes_the_same(original, full_size):
    ours = full_size.state_dict()
    names = published_names({name: name for name in original.state_dict()})
    assert set(names) == set(ours)
    original.load_state_dict({names[name]: value for name, value in ours.items()})
    torch.manual_seed(1)
    pixels, actions = torch.randn(1, 3, 3, 224, 224), torch.randn(4, 7, 10)
    actions[:, :2] = actions[0, :2]  # what was done is the same for every plan, what is planned is not
    rolled = original.rollout({"pixels": pixels.unsqueeze(1).expand(1, 4, -1, -1, -1, -1)}, actions.unsqueeze(0))["predicted_emb"]
    latents = full_size.encode(pixels[0]).unsqueeze(0)
    torch.testing.assert_close(latents, rolled[:, 0, :3], rtol=1e-4, atol=1e-4)
    future = full_size.rollout(latents.expand(4, -1, -1), actions[:, :2], actions[:, 2:])
    torch.testing.assert_close(future, rolled[0, :, 3:], rtol=1e-4, atol=1e-4)
    assert (future[0] - future[1]).norm() > 0.1 * future[0].norm()
