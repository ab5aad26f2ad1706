"""Where Q/DQ goes and where it must not, the numbers in it, and the two dialects."""

from __future__ import annotations

import platform
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from calibration.activations import SMALLEST_FP16
from edge.engines.onnx_file import ACTIVATION_ZERO_POINT, integer_gemms, with_unsigned_activations
from export.quantize.linears import find_linears
from export.quantize.pipeline import quantize
from export.quantize.qdq import quantize_weight

S, D = 6, 32  # tokens and width of the block below


def block() -> onnx.ModelProto:
    """One attention block with everything that must stay in float, and a first layer of 2 inputs."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {"half": np.array(0.5, np.float32), "axes": np.array([-1])}
    nodes = []

    def linear(name: str, x: str, k: int, n: int) -> str:
        constants[f"{name}.w"] = rng.normal(0, k**-0.5, (k, n)).astype(np.float32)
        constants[f"{name}.bias"] = rng.normal(0, 0.1, n).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [x, f"{name}.w"], [f"{name}.m"], f"{name}.matmul"))
        nodes.append(helper.make_node("Add", [f"{name}.bias", f"{name}.m"], [name], f"{name}.add"))
        return name

    def op(kind: str, inputs: list[str], output: str, **settings: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], output, **settings))
        return output

    constants["gain"] = np.ones(D, np.float32)
    normed = op("LayerNormalization", [op("Add", ["x", linear("first", "action", 2, D)], "joined"), "gain"], "normed")
    q, k, v = (linear(name, normed, D, D) for name in ("query", "key", "value"))
    scores = op("MatMul", [q, op("Transpose", [k], "turned", perm=[1, 0])], "scores")
    mixed = op("MatMul", [op("Softmax", [scores], "weights"), v], "mixed")
    residual = op("Add", ["joined", linear("mix", mixed, D, D)], "residual")
    up = linear("up", residual, D, 2 * D)
    gelu = op("Mul", [op("Erf", [up], "erf"), up], "gelu")
    op("Add", [residual, linear("down", gelu, 2 * D, D)], "second")
    linear("last", "second", D, 8)
    nodes.append(helper.make_node("MatMul", ["last", "last.square"], ["y"], "tiny"))
    constants["last.square"] = np.eye(8, dtype=np.float32)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (S, D)),
        helper.make_tensor_value_info("action", TensorProto.FLOAT, (S, 2)),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (S, 8))]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "block", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def batch(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(S, D)).astype(np.float32), "action": rng.uniform(-1, 1, (S, 2)).astype(np.float32)}


@pytest.fixture(scope="module")
def master() -> onnx.ModelProto:
    return onnx.load_from_string(quantize(block(), lambda: [batch(i) for i in range(8)], made_from="a test").model)


PLACEMENT = {
    "first.matmul": False,  # 2 inputs
    "query.matmul": True,
    "key.matmul": True,
    "value.matmul": True,
    "scores": False,  # attention: a product of two activations
    "mixed": False,
    "mix.matmul": True,
    "up.matmul": True,
    "down.matmul": True,
    "last.matmul": False,  # 8 outputs
    "tiny": False,
}


@pytest.mark.parametrize(("name", "quantized"), PLACEMENT.items())
def test_placement(master, name, quantized):
    maker = {output: node for node in master.graph.node for output in node.output}
    node = next(node for node in master.graph.node if node.name == name)
    from_dq = [name in maker and maker[name].op_type == "DequantizeLinear" for name in node.input]
    assert from_dq == [quantized, quantized]


def test_nothing_but_linears_reads_a_dequantized_tensor(master):
    dequantized = {node.output[0] for node in master.graph.node if node.op_type == "DequantizeLinear"}
    assert {node.op_type for node in master.graph.node if dequantized & set(node.input)} == {"MatMul"}


def test_consumers_of_one_tensor_share_one_pair(master):
    """Query, key and value read the same norm: one Q and one DQ for all three."""
    counts = Counter(node.op_type for node in master.graph.node)
    assert counts["QuantizeLinear"] == 4  # norm, mixed, residual, gelu
    assert counts["DequantizeLinear"] == 4 + 6  # and a DQ per weight


def test_activations_are_int8_with_a_zero_point_written_out_and_weights_are_stored_as_int8(master):
    constants = {t.name: numpy_helper.to_array(t) for t in master.graph.initializer}
    assert constants[ACTIVATION_ZERO_POINT].dtype == np.int8 and constants[ACTIVATION_ZERO_POINT] == 0
    for node in master.graph.node:
        if node.op_type == "QuantizeLinear":
            assert node.input[2] == ACTIVATION_ZERO_POINT and constants[node.input[1]].shape == ()
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weight, scale, zero = (constants[name] for name in node.input)
            assert weight.dtype == zero.dtype == np.int8 and not zero.any() and np.abs(weight).max() == 127
            assert scale.shape == zero.shape == (weight.shape[1],) and (scale > 0).all()
            assert node.attribute[0].name == "axis" and node.attribute[0].i == 1
    float_weights = {name for name, value in constants.items() if name.endswith(".w") and value.dtype == np.float32}
    assert float_weights == {"first.w", "last.w"}


def test_layers_that_are_named_stay_in_float():
    kept = quantize(block(), lambda: [batch(0)], made_from="a test", keep_float=("down", "query"))
    assert kept.linears == 4
    names = {linear.layer for linear in find_linears(onnx.load_from_string(kept.model))}
    assert names == {"down", "query"}  # those that still have a float weight


@settings(max_examples=60)
@given(arrays(np.float32, (5, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_weights_round_to_at_most_half_a_step_of_their_own_channel(weight):
    steps, scale = quantize_weight(weight)
    assert steps.min() >= -127
    amax = np.abs(weight).max(axis=0)
    error = np.abs(steps * scale.astype(np.float64) - weight)
    normal = amax > 1e-30  # below that a float32 scale has no precision left
    assert (error[:, normal] <= 0.51 * scale[normal]).all()
    assert (scale[amax == 0] == np.float32(SMALLEST_FP16)).all() and (scale > 0).all()


def run(model: bytes, feed: dict[str, np.ndarray], level: ort.GraphOptimizationLevel) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_two_dialects_give_the_same_bits(master, seed):
    """Also far outside of the calibrated range, where both must clip alike."""
    feed = batch(100 + seed)
    feed["x"] *= np.float32(10.0**seed)
    signed = master.SerializeToString()
    off = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    np.testing.assert_array_equal(run(with_unsigned_activations(signed), feed, off), run(signed, feed, off))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="about kernels of x86")
def test_without_the_dialect_linears_that_share_an_input_would_stay_float(master, tmp_path):
    """Why the dialect exists; when this fails, onnxruntime has learned it and the rewriting can go."""

    def gemms(model: bytes) -> int:
        options = ort.SessionOptions()
        options.add_session_config_entry("optimization.disable_specified_optimizers", "MatMulAddFusion")
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return integer_gemms((tmp_path / "optimised.onnx").read_bytes())

    assert gemms(with_unsigned_activations(master.SerializeToString())) == 6
    assert gemms(master.SerializeToString()) < 6
