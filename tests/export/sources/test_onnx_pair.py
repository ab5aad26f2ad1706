"""A pair of ONNX files: adapted to a bundle's form, refused with a reason, exported without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edge.bundle import load
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import run
from export.sources.onnx_pair import open_onnx_pair
from export.sources.source import SourceError
from tests.conftest import ROOT
from tests.export.sources.pair import CANDIDATES, HORIZON, write_pair, write_pictures


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("opset", [17, 19])
def test_the_encoder_sees_the_picture_normalised_as_the_signature_says(tmp_path, batch, opset):
    path = write_pair(tmp_path, batch=batch, opset=opset)
    path.write_text(path.read_text() + '\n[normalisation]\nmean = [0.1, 0.2, 0.3]\nstd = [0.5, 0.6, 0.7]\n')
    picture = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    source = open_onnx_pair(path)
    found = run(OnnxRuntimeEngine(source.graphs["encoder"].SerializeToString(), "encoder"), {"picture": picture})
    rgb = picture[..., ::-1].transpose(0, 3, 1, 2) / 255.0
    pixels = (rgb - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.6, 0.7])[:, None, None]
    original = ort.InferenceSession(str(tmp_path / "encoder.onnx"), providers=["CPUExecutionProvider"])
    expected = original.run(None, {"pixels": pixels.astype(np.float32)})[0]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    assert [o.version for o in source.graphs["encoder"].opset_import] == [19]


def test_bgr_pictures_are_not_turned(tmp_path):
    path = write_pair(tmp_path)
    rgb = open_onnx_pair(path).graphs["encoder"]
    path.write_text(path.read_text() + '\n[normalisation]\ncolour = "bgr"\nmean = [0.485, 0.456, 0.406]\n')
    bgr = open_onnx_pair(path).graphs["encoder"]
    picture = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    one, other = (OnnxRuntimeEngine(g.SerializeToString(), "encoder") for g in (rgb, bgr))
    straight = {"picture": np.ascontiguousarray(picture[..., ::-1])}
    np.testing.assert_allclose(run(one, {"picture": picture}), run(other, straight), rtol=1e-4, atol=1e-5)


def test_a_robot_has_three_graphs(tmp_path):
    source = open_onnx_pair(write_pair(tmp_path, robot=True))
    assert set(source.graphs) == {"encoder", "predictor", "rollout"} and source.plan_shape == (CANDIDATES, HORIZON)
    assert [value.name for value in source.graphs["rollout"].graph.input] == ["context", "past_actions", "actions", "goal"]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails, as where it is not installed
from edge.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("robot", [False, True])
def test_the_command_makes_a_bundle_without_torch(tmp_path, robot):
    path = write_pair(tmp_path, robot=robot)
    frames = write_pictures(tmp_path / "frames", 80, (32, 48))
    arguments = ["export", "onnx", str(path), "--frames", str(frames), "--out", str(tmp_path / "bundle"), "--fp32", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    bundle = load(tmp_path / "bundle")
    assert summary["accepted"] and bundle.manifest.kind == ("robot" if robot else "camera")
    assert bundle.manifest.int8["encoder"]["cosine"] >= 0.999
    assert bundle.manifest.int8["linears_quantized"]["encoder"] == 2
    assert bundle.path("encoder.fp32.onnx") is not None and bundle.path("calibration/encoder.scales.json") is not None


def edit(old, new):
    def spoil(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return spoil


def truncate(path):
    whole = (path.parent / "encoder.onnx").read_bytes()
    (path.parent / "encoder.onnx").write_bytes(whole[: len(whole) // 2])


def make_nan(path):
    model = onnx.load(str(path.parent / "predictor.onnx"))
    values = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    values[0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    onnx.save(model, str(path.parent / "predictor.onnx"))


def use_foreign(path):
    model = onnx.load(str(path.parent / "predictor.onnx"))
    model.graph.node[-1].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, str(path.parent / "predictor.onnx"))


def remove(path):
    (path.parent / "predictor.onnx").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (edit('name = "pair"', "name = 3"), r"signature.toml is not valid: .*name"),
        (edit("step_s = 0.1", "step_s = nan"), "time.step_s nan"),
        (edit("tokens = 1", "tokens = 0"), "latent.tokens 0"),
        (edit("tokens = 1", "tokens = 1\ngrid = [2, 3]"), "does not make latent.tokens 1"),
        (edit("dim = 16", "dim = 15"), r"encoder.onnx gives 'z' float \[1, 16\]"),
        (edit("height = 16", "height = 32"), r"encoder.onnx takes 'pixels' \[1, 3, 16, 24\]"),
        (edit("context = 2", "context = 3"), r"predictor.onnx takes 'context' \[1, 2, 16\]"),
        (edit('name = "pair"', 'name = "pair"\nactions = [{name = "a", unit = "", low = 0, high = 1}]'), "lacks rollout, plans"),
        (edit('name = "pair"', 'name = "pair"\nactions = [{name = "a", unit = "", low = 1, high = 0}]'), "low must be below high"),
        (truncate, "encoder.onnx is no whole ONNX model"),
        (make_nan, "predictor.onnx has 'w' with values that are not finite"),
        (use_foreign, "uses operators of com.example"),
        (remove, "predictor.onnx cannot be read"),
        (lambda path: path.unlink(), "signature.toml cannot be read"),
    ],
)
def test_a_broken_pair_is_named_in_one_sentence(tmp_path, spoil, said):
    path = write_pair(tmp_path)
    spoil(path)
    with pytest.raises(SourceError, match=said) as caught:
        open_onnx_pair(path)
    assert "\n" not in str(caught.value)
