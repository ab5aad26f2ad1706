"""The FP16 form of a graph, held against the onnx package, which is not used to make it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.engines.onnx_file import OnnxFileError
from edge.engines.onnx_half import LARGEST, SMALLEST_SCALE, with_half_floats
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from tests.conftest import ROOT

onnx = pytest.importorskip("onnx", reason="graphs are built with the onnx package")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*/*.onnx"))


def model_of(nodes, constants=None, inputs=("x",), outputs=("y",), shape=(2, 4), raw=True):
    values = [numpy_helper.from_array(v, n) if raw else by_numbers(v, n) for n, v in (constants or {}).items()]
    tensors = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in names] for names in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *tensors, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()


def by_numbers(values, name):
    return helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.ravel().tolist())


def half(model):
    made = onnx.load_from_string(with_half_floats(model))
    onnx.checker.check_model(made, full_check=True)
    return made


def run(model, **feeds):
    engine = OnnxRuntimeEngine(model, "test")
    for name, values in feeds.items():
        engine.input(name)[...] = values
    engine.enqueue()
    engine.wait()
    return engine.output("y").copy()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_nothing_inside_a_shipped_graph_stays_float32(path: Path) -> None:
    raw = path.read_bytes()
    before, made = onnx.load_from_string(raw), half(raw)
    assert [list(made.graph.input), list(made.graph.output)] == [list(before.graph.input), list(before.graph.output)]
    inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    kinds = {each.name: each.type.tensor_type.elem_type for each in inferred.graph.value_info}
    assert len(kinds) > 20 and TensorProto.FLOAT not in kinds.values()
    assert TensorProto.FLOAT not in {each.data_type for each in made.graph.initializer}
    kept = [node.op_type for node in made.graph.node]
    casts = len(kept) - len(before.graph.node)
    assert kept[: kept.index(before.graph.node[0].op_type)].count("Cast") <= casts
    assert sorted(kept) == sorted([*(node.op_type for node in before.graph.node), *["Cast"] * casts])


@pytest.mark.parametrize("raw", [True, False])
def test_numbers_become_the_nearest_ones(raw: bool) -> None:
    weights = np.array([[1.0001, -70000.0, 1e-9, 3e38]] * 2, np.float32)
    made = half(model_of([helper.make_node("Add", ["x", "w"], ["y"])], {"w": weights}, raw=raw))
    (found,) = made.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(found), np.clip(weights, -LARGEST, LARGEST).astype(np.float16))


def test_scales_stay_above_zero_and_only_scales() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "tiny"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    constants = {"tiny": np.float32(1e-9), "scale": np.float32(1e-9), "zero": np.int8(0)}
    made = half(model_of(nodes, {name: np.asarray(value) for name, value in constants.items()}))
    found = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    assert found["scale"] == np.float16(SMALLEST_SCALE) and found["tiny"] == 0 and found["zero"].dtype == np.int8


def test_an_output_that_is_used_inside_and_an_input_used_twice() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["z"]),
        helper.make_node("Add", ["z", "x"], ["y"]),
    ]
    model = model_of(nodes, outputs=("y", "z"))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(run(half(model).SerializeToString(), x=x), x * x + x)


def test_casts_and_constants_inside() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([0.5]))),
        helper.make_node("Add", ["f", "c"], ["y"]),
    ]
    made = half(model_of(nodes))
    x = np.full((2, 4), 2.75, np.float32)
    np.testing.assert_array_equal(run(made.SerializeToString(), x=x), np.full((2, 4), 2.5))


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([helper.make_node("Resize", ["x", "", "s"], ["y"])], "Resize needs float32"),
        ([helper.make_node("Constant", [], ["y"], value_float=1.0)], "not written as a tensor"),
        (
            [helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([], "a", [], []))],
            "If holds another graph",
        ),
    ],
)
def test_what_has_no_such_form_is_named(nodes, says: str) -> None:
    with pytest.raises(OnnxFileError, match=says):
        with_half_floats(model_of(nodes, {"s": np.ones(2, np.float32)}))


def test_an_output_that_is_an_input_is_refused() -> None:
    with pytest.raises(OnnxFileError, match="an input or a constant"):
        with_half_floats(model_of([], outputs=("x",)))


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_file_gives_an_error_of_its_own_or_a_result(at: int, value: int) -> None:
    raw = bytearray(model_of([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones((2, 4), np.float32)}))
    raw[at % len(raw)] = value
    for broken in (bytes(raw), bytes(raw[: at % len(raw)])):
        try:
            with_half_floats(broken)
        except OnnxFileError as error:
            assert str(error)
