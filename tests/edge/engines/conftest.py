"""A small quantized MLP with known weights, as ONNX bytes."""

from __future__ import annotations

import numpy as np
import pytest

LAYERS = 3
WIDTH = 32


@pytest.fixture(scope="session")
def mlp() -> tuple[bytes, bytes]:
    """(FP32, INT8) of three Linears with a residual, input ``x`` float32 (4, 32), output ``y``."""
    pytest.importorskip("onnx", reason="graphs are built with the onnx package")
    from onnx import TensorProto, helper, numpy_helper

    from export.quantize.pipeline import quantize

    rng = np.random.default_rng(0)
    nodes, constants, x = [], [], "x"
    for layer in range(LAYERS):
        weight = rng.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32)
        bias = rng.normal(0, 0.2, WIDTH).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        nodes += [
            helper.make_node("MatMul", [x, f"w{layer}"], [f"m{layer}"], f"linear{layer}"),
            helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"], f"bias{layer}"),
            helper.make_node("Add", [f"a{layer}", x], [f"r{layer}"], f"residual{layer}"),
        ]
        x = f"r{layer}"
    nodes.append(helper.make_node("Relu", [x], ["y"], "relu"))
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (4, WIDTH)) for name in "xy"]
    graph = helper.make_graph(nodes, "mlp", shapes[:1], shapes[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    batches = [{"x": rng.normal(size=(4, WIDTH)).astype(np.float32)} for _ in range(16)]
    return model.SerializeToString(), quantize(model, lambda: batches, made_from="a test").model
