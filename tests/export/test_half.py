"""TensorRT's dialect: FP16 wherever the master has floats, the same integers, nothing that the lint or FP16 cannot take."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import run
from export.frames import read_footage
from export.lint.rules import lint
from export.lint.target import TARGETS
from export.pipeline import export_bundle, run_length
from export.quantize.half import HalfError, half
from export.quantize.pipeline import quantize
from export.sources.onnx_pair import open_onnx_pair
from tests.conftest import ROOT
from tests.export.sources.pair import write_pair, write_pictures
from tests.export.test_quantize import batch, block

SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*/*.onnx"))


def made(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load_from_string(quantize(model, lambda: [batch(i) for i in range(8)], made_from="a test").model)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_integers_are_those_of_the_master_and_no_float32_is_left():
    master = made(block())
    one, other = constants(master), constants(half(master))
    assert one.keys() == other.keys() and not any(array.dtype == np.float32 for array in other.values())
    for name, array in one.items():
        if array.dtype == np.int8 or name.endswith("_scale"):
            np.testing.assert_array_equal(other[name].astype(array.dtype), array)  # FP16 has the very same scales
    ends = [(value.name, value.type.tensor_type.elem_type) for value in half(master).graph.output]
    assert ends == [("y", TensorProto.FLOAT)]


def test_fp16_adds_little_to_the_error_of_int8():
    """Not nothing: a value between two steps of INT8 may be rounded to the other one."""
    master = made(block())
    graphs = (block(), master, half(master))
    exact, integer, halved = (OnnxRuntimeEngine(model.SerializeToString(), "test") for model in graphs)
    feeds = [batch(seed) for seed in range(50, 66)]
    errors = [np.linalg.norm([run(engine, feed) - run(exact, feed) for feed in feeds]) for engine in (integer, halved)]
    assert 0.0 < errors[1] < 1.1 * errors[0]


def test_a_scale_too_small_for_fp16_is_raised_and_its_weights_rounded_anew():
    model = block()
    for tensor in model.graph.initializer:
        if tensor.name == "up.w":
            weight = numpy_helper.to_array(tensor).copy()
            weight[:, 3] *= 1e-3
            weight[:, 4] = 0.0
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    master, dialect = made(model), half(made(model))
    steps, scale = (constants(dialect)[f"up.w_{kind}"] for kind in ("int8", "scale"))
    assert constants(master)["up.w_scale"][3] < 2.0**-14 == scale[3] == scale[4] == scale.min()
    np.testing.assert_allclose(steps[:, 3] * 2.0**-14, weight[:, 3], atol=2.0**-15 * 1.01)
    assert not steps[:, 4].any()


def test_a_constant_beyond_fp16_is_named():
    model = block()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e6], np.float32), "huge"))
    model.graph.node.append(helper.make_node("Mul", ["y", "huge"], ["z"], "too_much"))
    with pytest.raises(HalfError, match="'huge' holds 1e\\+06, which FP16 does not reach"):
        half(model)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_graphs_have_a_dialect_that_the_lint_passes(path):
    dialect = half(onnx.load(str(path)))
    assert [str(finding) for target in TARGETS.values() for finding in lint(dialect, target)] == []


def test_bundles_carry_it_on_request(tmp_path):
    source = open_onnx_pair(write_pair(tmp_path))
    frames = write_pictures(tmp_path / "frames", 80, (32, 48))
    footage = read_footage(str(frames), source.picture, source.time.step_s, run_length(source), 4)
    outcome = export_bundle(source, footage, tmp_path / "bundle", halves=True)
    assert outcome.bundle is not None
    names = {name for name in outcome.bundle.manifest.files if name.endswith(".half.onnx")}
    assert names == {"encoder.half.onnx", "predictor.half.onnx"}
    assert OnnxRuntimeEngine((tmp_path / "bundle" / "encoder.half.onnx").read_bytes(), "test").inputs["picture"].dtype == "uint8"
