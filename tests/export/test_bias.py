"""Bias correction takes out of a Linear what rounding adds on average, and touches nothing it should not."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import run
from export.quantize.pipeline import Calibration, quantize

S, K, N = 64, 32, 16


def linear_model(*, shared: bool = False, biased: bool = True) -> onnx.ModelProto:
    """y = x W + b; shared: something else reads b as well."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(K, N)).astype(np.float32), "layer.bias": rng.normal(size=N).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m" if biased else "y"], "linear")]
    if biased:
        nodes.append(helper.make_node("Add", ["m", "layer.bias"], ["z" if shared else "y"], "bias"))
    if shared:
        nodes.append(helper.make_node("Mul", ["z", "layer.bias"], ["y"], "another_reader"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, (S, K))],
        [value("y", TensorProto.FLOAT, (S, N))],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if biased or name == "w"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def skewed(seed: int) -> dict[str, np.ndarray]:
    """Channels that are far from symmetric, so that rounding and clipping have a mean, half of them negative: no centre helps."""
    x = np.random.default_rng(seed).exponential(1.0, (S, K)).astype(np.float32) ** 2
    x[:, ::2] *= -1.0
    return {"x": x + np.linspace(0.0, 0.3, K, dtype=np.float32)}


def mean_error(model: onnx.ModelProto, correcting: bool) -> float:
    how = Calibration("percentile", correcting=correcting)
    made = quantize(model, lambda: [skewed(i) for i in range(64)], how, made_from="a test").model
    exact, rounded = (OnnxRuntimeEngine(m, "test") for m in (model.SerializeToString(), made))
    fresh = [skewed(1000 + i) for i in range(64)]
    return float(np.abs(np.mean([run(rounded, feed) - run(exact, feed) for feed in fresh], axis=(0, 1))).max())


def test_the_mean_error_on_fresh_data_all_but_disappears():
    assert mean_error(linear_model(), True) < 0.2 * mean_error(linear_model(), False)


def test_biases_with_other_readers_and_linears_without_stay_as_they_are():
    for model in (linear_model(shared=True), linear_model(biased=False)):
        made, plain = (
            quantize(model, lambda: [skewed(0)], Calibration(correcting=correcting), made_from="a test").model
            for correcting in (True, False)
        )
        assert made == plain
