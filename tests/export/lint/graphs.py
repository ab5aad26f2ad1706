"""Small ONNX graphs for the lint: one quantized Linear whose every part can be made wrong, and free-hand ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

M, K, N = 4, 32, 48  # rows, inputs and outputs of the Linear

SCALE, ZERO = np.float32(0.05), np.array(0, np.int8)
Array = NDArray[Any]
Shape = Sequence[int | str]


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    constants: Mapping[str, Array] = {},
    *,
    opset: int = 19,
    types: Mapping[str, int] = {},
    opsets: Mapping[str, int] = {},
) -> onnx.ModelProto:
    """A model of ``nodes``; inputs and outputs are float32 unless ``types`` says otherwise."""

    def values(shapes: Mapping[str, Shape]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
            for name, shape in shapes.items()
        ]

    made = helper.make_graph(
        list(nodes),
        "graph",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*pair) for pair in opsets.items())]
    return helper.make_model(made, opset_imports=imports, ir_version=10)


def op(kind: str, inputs: str, outputs: str, **settings: Any) -> onnx.NodeProto:
    """A node named after its operator and first output; names of tensors separated by spaces, "-" for a missing one."""
    names = [name.replace("-", "") for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), f"{kind}:{outputs.split()[0]}", **settings)


def linear(
    *,
    opset: int = 19,
    body: type[np.generic] = np.float32,
    scale: Any = SCALE,
    zero: Array | None = ZERO,
    weight: Array | None = None,
    weight_scale: Array | None = None,
    weight_zero: Array | None = None,
    axis: int | None = 1,
    tail: Sequence[onnx.NodeProto] = (),
) -> onnx.ModelProto:
    """x (M, K) quantized, times a quantized weight (K, N), plus a bias: what the quantizer writes, with faults on wish.

    tail: nodes from ``sum``, the result of the Linear, to ``y``, the output of the graph.
    """
    rng = np.random.default_rng(0)
    if weight is None:
        weight = rng.integers(-127, 128, (K, N)).astype(np.int8)
    if weight_scale is None:
        weight_scale = np.full(weight.shape[axis if axis is not None else 1], 0.01, body)
    if weight_zero is None:
        weight_zero = np.zeros(weight_scale.shape, weight.dtype)
    constants: dict[str, Array] = {
        "scale": np.asarray(scale),
        "weight": weight,
        "weight_scale": weight_scale,
        "weight_zero": weight_zero,
        "bias": rng.normal(size=weight.shape[-1]).astype(body),
    }
    zeros = ""
    if zero is not None:
        constants["zero"], zeros = zero, " zero"
    along = {} if scale.ndim == 0 else {"axis": 1}
    nodes = [
        op("QuantizeLinear", "x scale" + zeros, "xq", **along),
        op("DequantizeLinear", "xq scale" + zeros, "xd", **along),
        op("DequantizeLinear", "weight weight_scale weight_zero", "wd", **({} if axis is None else {"axis": axis})),
        op("MatMul", "xd wd", "product"),
        op("Add", "product bias", "sum" if tail else "y"),
        *tail,
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(body))
    shapes = {"x": (M, weight.shape[0])}, {"y": (M, weight.shape[1])}
    return graph(nodes, *shapes, constants, opset=opset, types={"x": kind, "y": kind})
