"""Vision encoders: the deployment graph against the plain model, a bundle without a predictor, and broken checkpoints."""

from __future__ import annotations

import json
import platform

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge.belief import seen
from edge.bundle import load
from edge.clock import FakeClock
from edge.engines import EngineError
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Frame, Latent
from edge.perception import Perception
from export.feeds import run
from export.footage import run_length
from export.frames import read_footage
from export.lint.rules import lint
from export.lint.target import TARGETS
from export.pipeline import export_bundle
from export.reference.random_vit import write_random_vit
from export.sources.source import SourceError
from export.sources.vit import Preprocessor, open_vit, preprocessed_size, read_config
from tests.export.sources.pair import write_pictures

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "patch_size": 14}
FAMILIES = {
    "vit": {},
    "deit": {},
    "dinov2": {"mlp_ratio": 2},
    "dinov2_with_registers": {"use_swiglu_ffn": True, "num_register_tokens": 4},
}


def checkpoint(folder, family="dinov2", **extra):
    torch.set_num_threads(1)
    write_random_vit({"model_type": family, "image_size": 56, **SMALL, **FAMILIES[family], **extra}, folder)
    preprocessor = {"image_std": [0.5, 0.4, 0.3], "size": {"height": 42, "width": 70}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fp32_graph_equals_the_plain_model_and_lint_takes_it(tmp_path, family):
    source = open_vit(checkpoint(tmp_path, family))
    assert (source.picture.height, source.picture.width, source.latent.grid) == (42, 70, (3, 5))
    graph = source.graphs["encoder"]
    assert set(source.graphs) == {"encoder"} and graph.opset_import[0].version == 19
    picture = np.random.default_rng(0).integers(0, 256, (1, 42, 70, 3), dtype=np.uint8)
    found = run(OnnxRuntimeEngine(graph.SerializeToString(), family), {"picture": picture})
    original = source.peer("encoder", {"picture": picture})
    assert found.shape == (1, 15, 64)
    assert np.linalg.norm(found - original) < 1e-5 * np.linalg.norm(original)
    assert not any(lint(graph, target) for target in TARGETS.values())


def test_a_bundle_without_a_predictor_is_exported_and_seen_with(tmp_path):
    source = open_vit(checkpoint(tmp_path / "model"))
    (tmp_path / "pictures").mkdir()
    write_pictures(tmp_path / "pictures", 40, (42, 70))
    footage = read_footage(str(tmp_path / "pictures"), source.picture, source.time.step_s, run_length(source), 2)
    outcome = export_bundle(source, footage, tmp_path / "bundle")
    assert outcome.bundle is not None, outcome.failures
    assert outcome.report["encoder"]["cosine"] > 0.999 and "predictor" not in outcome.report
    assert outcome.report["linears_quantized"] == {"encoder": 8}
    if platform.machine() == "x86_64":
        assert outcome.report["integer_gemms"] == {"encoder": 8}
    bundle = load(tmp_path / "bundle")
    assert bundle.manifest.kind == "camera" and not bundle.predicts
    perception = Perception(bundle, FakeClock())
    picture = np.random.default_rng(0).integers(0, 256, (84, 140, 3), dtype=np.uint8)
    for second in (1, 2):
        belief = perception.see(Frame(picture, second * 10**9, second))
        assert belief is not None and belief.predicted is None and belief.latent.shape == (15, 64)
    assert set(perception.engines) == set(perception.timings_ns) == {"encoder"}
    perception.close()


def test_latents_that_are_not_finite_are_no_belief():
    with pytest.raises(EngineError, match="not finite: check the bundle"):
        seen(Latent(np.full((2, 3), np.nan, np.float32), 0, 0))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 196}, "do_center_crop": True}, (224, 196)),
        ({"size": 112}, (112, 112)),
        ({"size": {"shortest_edge": 256}}, (256, 256)),
        ({}, None),
    ],
)
def test_the_size_that_the_preprocessor_makes(size, expected):
    assert preprocessed_size(Preprocessor(**size)) == expected


def test_broken_folders_are_told_with_file_and_remedy(tmp_path):
    folder = checkpoint(tmp_path)
    weights, config = folder / "model.safetensors", json.loads((folder / "config.json").read_text())

    def said(**changes):
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(SourceError) as caught:
            open_vit(folder)
        (folder / "config.json").write_text(json.dumps(config))
        return str(caught.value)

    assert "model_type 'swin' and known are vit," in said(model_type="swin")
    assert "hidden_act 'relu'" in said(hidden_act="relu")
    assert "image_size 57, which 14 does not divide" in said(image_size=57)
    assert "lacks" in said(num_hidden_layers=3)
    assert "does not know" in said(num_hidden_layers=1)
    (folder / "latentloop.toml").write_text("picture = [50, 70]")
    with pytest.raises(SourceError, match="the picture is 50x70 and patches are 14x14: set 'picture'"):
        open_vit(folder)
    (folder / "latentloop.toml").write_text("step_s = 0.0")
    with pytest.raises(SourceError, match=r"step_s 0\.0 and it must be above 0"):
        open_vit(folder)
    (folder / "latentloop.toml").unlink()
    state = load_file(weights)
    state["layernorm.bias"][3] = float("nan")
    save_file(state, weights)
    with pytest.raises(SourceError, match=r"'layernorm.bias' with values that are not finite"):
        open_vit(folder)
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(SourceError, match=r"model.safetensors is no whole file of plain weights"):
        open_vit(folder)
    weights.unlink()
    with pytest.raises(SourceError, match=r"has no model.safetensors"):
        open_vit(folder)


def test_heads_for_other_tasks_are_passed_over(tmp_path):
    folder = checkpoint(tmp_path, "vit")
    state = {f"vit.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    heads = {"classifier.weight": torch.zeros(2, 64), "vit.pooler.dense.bias": torch.zeros(64)}
    save_file(state | heads, folder / "model.safetensors")
    assert read_config(folder / "config.json")[0] == "vit"
    assert set(open_vit(folder).graphs) == {"encoder"}
