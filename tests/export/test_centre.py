"""One-sided activations: all 256 levels, what is 0 stays 0, and only where a bias can take it back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from calibration.activations import ActivationRange, ScaleTable
from calibration.histogram import LEVELS
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import run
from export.layers import without_rounding
from export.quantize.centre import WORTH, centred
from export.quantize.linears import find_linears
from export.quantize.pipeline import Calibration, quantize
from export.quantize.switched import SwitchedGraph

S, D = 6, 64


def model(*, bias: bool = True, steps: int = 1, again: bool = False, kind: str = "Relu") -> onnx.ModelProto:
    """x (S, D) -> y (S, D): a one-sided activation and a Linear, ``steps`` times with the same weights. again: the bias is added
    once more at the end."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(0, D**-0.5, (D, D)), "down.bias": rng.normal(0, 0.3, D)}
    nodes, x = [], "x"
    for step in range(steps):
        nodes.append(helper.make_node(kind, [x], [f"up{step}"], f"up{step}"))
        nodes.append(helper.make_node("MatMul", [f"up{step}", "w"], [f"product{step}"], f"linear{step}"))
        x = f"product{step}"
        if bias:
            nodes.append(helper.make_node("Add", [x, "down.bias"], [f"step{step}"], f"add{step}"))
            x = f"step{step}"
    nodes.append(helper.make_node("Add", [x, "down.bias"], ["y"], "last") if again else helper.make_node("Neg", [x], ["y"], "last"))
    shape = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, (S, D)) for name in "xy"}
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [shape["x"]], [shape["y"]], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def feeds(seed: int, count: int = 16) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(S, D)).astype(np.float32)} for _ in range(count)]


def outputs(graph: onnx.ModelProto | bytes, seed: int = 2) -> np.ndarray:
    data = graph if isinstance(graph, bytes) else graph.SerializeToString()
    engine = OnnxRuntimeEngine(data, "a test")
    return np.stack([run(engine, feed) for feed in feeds(seed)])


def error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def by_max(made: onnx.ModelProto, *, correcting: bool = True):
    return quantize(made, lambda: feeds(1), Calibration("max", correcting=correcting), made_from="a test")


@pytest.mark.parametrize("correcting", [True, False])
def test_a_centre_takes_a_quarter_off_the_error_and_every_product_stays_integer(monkeypatch, correcting):
    made = model()
    exact = outputs(made)
    with_centre = by_max(made, correcting=correcting)
    monkeypatch.setattr("export.quantize.pipeline.centred", lambda table, model, linears: table)
    without = by_max(made, correcting=correcting)
    assert with_centre.table.tensors["up0"].centre > 0 and without.table.tensors["up0"].centre == 0
    assert error(outputs(with_centre.model), exact) < error(outputs(without.model), exact) * 0.75
    info = OnnxRuntimeEngine(with_centre.model, "a test").info
    assert info.quantized_linears == info.integer_gemms == 1


@settings(max_examples=60, deadline=None)
@given(low=st.floats(-1.0, 0.0), high=st.floats(1e-3, 1e3), flipped=st.booleans())
def test_what_is_0_stays_0_and_the_range_fits(low, high, flipped):
    low = low * high * (2 * WORTH - 1.0) * 0.99
    ends = (-high, -low) if flipped else (low, high)
    made = model()
    table = ScaleTable("max", "a test", {"up0": ActivationRange(*ends, high, 1)})
    found = centred(table, made, find_linears(made)).tensors["up0"]
    steps = found.centre / found.scale
    assert found.centre and steps == round(steps)
    integers = np.clip(np.rint((np.array([*ends, 0.0]) - found.centre) / found.scale), -LEVELS - 1, LEVELS)
    rounded = integers * found.scale + found.centre
    assert rounded[2] == 0.0
    assert np.abs(rounded[:2] - ends).max() <= 1.6 * found.scale  # scales are FP16's, centres whole steps
    assert found.scale <= 1.002 * WORTH * high / LEVELS


LEFT_ALONE = {
    "two-sided": model(kind="Identity"),
    "no bias": model(bias=False),
    "a bias that something else reads": model(again=True),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_activations_without_need_or_remedy_get_no_centre(case):
    made = LEFT_ALONE[case]
    quantized = by_max(made)
    assert quantized.table.tensors["up0"].centre == 0.0
    assert not [n for n in onnx.load_from_string(quantized.model).graph.node if n.op_type == "Sub"]
    assert error(outputs(quantized.model), outputs(made)) < 0.03


def test_steps_that_share_weights_share_a_centre():
    made = model(steps=3)
    quantized = by_max(made)
    ranges = [quantized.table.tensors[f"up{step}"] for step in range(3)]
    assert len({(each.centre, each.scale) for each in ranges}) == 1 and ranges[0].centre > 0
    assert error(outputs(quantized.model), outputs(made)) < 0.02


def test_float_arithmetic_of_the_same_graph_undoes_the_centre():
    made = model()
    assert error(outputs(without_rounding(onnx.load_from_string(by_max(made).model))), outputs(made)) < 0.01


def test_a_layer_tried_alone_meets_the_centre_too():
    made = model()
    quantized = by_max(made, correcting=False)
    graph = SwitchedGraph(quantized)
    tried = np.stack([graph.run(feed, graph.layers) for feed in feeds(2)])
    np.testing.assert_allclose(tried, outputs(quantized.model), rtol=1e-4, atol=1e-5)
