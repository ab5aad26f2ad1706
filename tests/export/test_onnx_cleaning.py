"""Each cleaning of an exported graph changes its form and not its numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.onnx_cleaning import fold_transposes, order_gelus, split_gemms, strip_notes


def model_of(nodes, constants, shape=(4, 6), out=(4, 5)):
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)]
    weights = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "g", values, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def run(model):
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def ops(model):
    return [node.op_type for node in model.graph.node]


RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(5, 6)), RNG.normal(size=5)


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("biased", [True, False])
def test_gemm_becomes_matmul_and_add(trans, biased):
    inputs = ["x", "w", "b"] if biased else ["x", "w"]
    node = helper.make_node("Gemm", inputs, ["y"], "gemm", transB=trans)
    model = model_of([node], {"w": W if trans else W.T, "b": B})
    before = run(model)
    split_gemms(model)
    assert ops(model) == (["MatMul", "Add"] if biased else ["MatMul"])
    np.testing.assert_allclose(run(model), before, rtol=1e-5, atol=1e-6)
    assert "w" not in {t.name for t in model.graph.initializer} or not trans  # the turned weight replaces the other


@pytest.mark.parametrize("settings", [{"alpha": 0.5}, {"beta": 2.0}])
def test_a_gemm_that_scales_is_left_alone(settings):
    model = model_of([helper.make_node("Gemm", ["x", "w", "b"], ["y"], "g", transB=1, **settings)], {"w": W, "b": B})
    split_gemms(model)
    assert ops(model) == ["Gemm"]


def test_transposed_weights_are_stored_transposed_and_activations_still_turned():
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], "fold", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["a"], "m"),
        helper.make_node("Transpose", ["a"], ["at"], "keep", perm=[1, 0]),
        helper.make_node("Transpose", ["at"], ["y"], "keep2", perm=[1, 0]),
    ]
    model = model_of(nodes, {"w": W})
    before = run(model)
    fold_transposes(model)
    assert ops(model) == ["MatMul", "Transpose", "Transpose"]
    np.testing.assert_array_equal(run(model), before)


@pytest.mark.parametrize("swapped", [False, True])
def test_gelus_are_written_so_that_onnxruntime_fuses_them(tmp_path, swapped):
    def pair(a, b):
        return [b, a] if swapped else [a, b]

    nodes = [
        helper.make_node("Div", ["x", "root2"], ["d"], "d"),
        helper.make_node("Erf", ["d"], ["e"], "e"),
        helper.make_node("Add", pair("e", "one"), ["p"], "p"),
        helper.make_node("Mul", pair("half", "p"), ["h"], "h"),
        helper.make_node("Mul", pair("x", "h"), ["y"], "y"),
    ]
    model = model_of(nodes, {"root2": 2**0.5, "one": 1.0, "half": 0.5}, out=(4, 6))
    before = run(model)
    order_gelus(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-6, atol=1e-7)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert ops(onnx.load(tmp_path / "fused.onnx")) == ["Gelu"]


def test_products_that_only_look_like_a_gelu_are_left_alone():
    nodes = [
        helper.make_node("Add", ["x", "one"], ["p"], "p"),
        helper.make_node("Mul", ["half", "p"], ["h"], "h"),
        helper.make_node("Mul", ["x", "h"], ["y"], "y"),
    ]
    model = model_of(nodes, {"one": 1.0, "half": 0.5}, out=(4, 6))
    before = model.SerializeToString()
    order_gelus(model)
    assert model.SerializeToString() == before


def test_notes_about_the_machine_are_removed():
    model = model_of([helper.make_node("Relu", ["x"], ["y"], "r", doc_string="somewhere/me/model.py:3")], {}, out=(4, 6))
    model.producer_name = "me"
    model.graph.node[0].metadata_props.add(key="stack_trace", value="somewhere/me/model.py")
    model.metadata_props.add(key="where", value="somewhere/me")
    strip_notes(model)
    assert b"me" not in model.SerializeToString().replace(b"Relu", b"")
