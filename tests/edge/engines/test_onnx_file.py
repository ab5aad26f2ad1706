"""The walker over protobuf bytes, held against the onnx package."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engines import onnx_file

onnx = pytest.importorskip("onnx", reason="graphs are built with the onnx package")
from onnx import helper, numpy_helper  # noqa: E402

NAMES = st.text("abcdefg_./0123", min_size=1, max_size=140)


def model_of(nodes, constants):
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(v, n) for n, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


ANY_MODEL = st.builds(
    lambda nodes, constants: model_of(
        [helper.make_node(op, inputs, outputs, axis=3) for op, inputs, outputs in nodes],
        {name: np.arange(size, dtype=np.float32) for name, size in constants.items()},
    ),
    st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=4), st.lists(NAMES, max_size=3)), max_size=8),
    st.dictionaries(NAMES, st.integers(0, 300), max_size=4),
)


@given(ANY_MODEL)
def test_nodes_are_those_that_the_onnx_package_sees(model):
    seen = [(n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node]
    assert [(n.op, n.inputs, n.outputs) for n in onnx_file.nodes(model.SerializeToString())] == seen


@given(ANY_MODEL, st.data())
def test_a_cut_or_changed_file_gives_an_error_of_its_own_or_a_result_never_anything_else(model, data):
    raw = bytearray(model.SerializeToString())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    for broken in (bytes(raw), bytes(raw[:at])):
        try:
            onnx_file.nodes(broken)
            onnx_file.with_unsigned_activations(broken)
        except onnx_file.OnnxFileError as error:
            assert str(error)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(raw):
    try:
        onnx_file.nodes(raw)
    except onnx_file.OnnxFileError:
        return
    onnx.ModelProto().MergeFromString(raw)  # taken for a model: then it is one


@settings(max_examples=30)
@given(ANY_MODEL)
def test_the_dialect_changes_the_zero_point_and_nothing_else(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), onnx_file.ACTIVATION_ZERO_POINT))
    changed = onnx.ModelProto.FromString(onnx_file.with_unsigned_activations(model.SerializeToString()))
    zero = changed.graph.initializer[-1]
    assert numpy_helper.to_array(zero).dtype == np.uint8 and numpy_helper.to_array(zero) == 128
    zero.CopyFrom(model.graph.initializer[-1])
    assert changed == model


def test_a_graph_without_quantization_stays_as_it_is():
    raw = model_of([helper.make_node("Add", ["a", "b"], ["c"])], {"b": np.zeros(3, np.float32)}).SerializeToString()
    assert onnx_file.with_unsigned_activations(raw) == raw


@pytest.mark.parametrize("value", [np.array(1, np.int8), np.array(128, np.uint8), np.zeros(2, np.int8)])
def test_an_unexpected_zero_point_is_refused(value):
    raw = model_of([], {onnx_file.ACTIVATION_ZERO_POINT: value}).SerializeToString()
    with pytest.raises(onnx_file.OnnxFileError, match="not the int8 number 0"):
        onnx_file.with_unsigned_activations(raw)


def test_linears_with_dynamic_scales_count_as_quantized():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["1"]),
        helper.make_node("MatMul", ["x", "w"], ["2"]),
    ]
    assert onnx_file.quantized_linears(model_of(nodes, {}).SerializeToString()) == 1


def test_only_matmuls_on_two_dequantized_tensors_count_as_quantized():
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["y"]),
        helper.make_node("MatMul", ["x", "y"], ["1"]),
        helper.make_node("MatMul", ["x", "float"], ["2"]),
        helper.make_node("MatMul", ["float", "y"], ["3"]),
        helper.make_node("Add", ["x", "y"], ["4"]),
    ]
    assert onnx_file.quantized_linears(model_of(nodes, {}).SerializeToString()) == 1
