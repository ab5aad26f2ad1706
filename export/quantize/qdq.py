"""Write the scales into the graph as QuantizeLinear and DequantizeLinear nodes: the one master graph for all dialects.

Activations: per tensor, symmetric int8, zero point 0. Weights: per output channel, symmetric int8 in [-127, 127],
stored as int8. Only Linears; residual adds, norms, GELU, softmax and attention products stay in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from calibration.activations import SMALLEST_FP16, ScaleTable, fp16_exact
from calibration.histogram import LEVELS
from edge.engines.onnx_file import ACTIVATION_ZERO_POINT
from export.external_weights import values
from export.lint.outline import outline
from export.onnx_cleaning import drop_unused_constants
from export.quantize.linears import Linear

Constant = Callable[[str, NDArray[np.generic]], str]
"""Stores a constant in the graph under a name, once, and gives the name back."""


def quantize_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(K, N) float32 -> (K, N) int8 in [-127, 127] and one scale per column, float32 (N,), that FP16 has too and
    that no kernel flushes to 0, so 2^-14 or more; which is the scale of a channel of zeros as well."""
    scale = np.maximum(fp16_exact(np.abs(weight).max(axis=0) / np.float32(LEVELS)), np.float32(SMALLEST_FP16))
    return np.clip(np.rint(weight / scale), -LEVELS, LEVELS).astype(np.int8), scale


def write_qdq(model: onnx.ModelProto, table: ScaleTable, linears: Sequence[Linear]) -> onnx.ModelProto:
    """A copy of an FP32 graph with ``linears`` quantized. The table has a scale for the activation of each."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    done: set[str] = set()

    def rewrite(linear: Linear, node: onnx.NodeProto, constant: Constant) -> list[onnx.NodeProto]:
        x, w = linear.activation, linear.weight
        nodes = [] if x in done else activation_pair(x, table, constant)
        if w not in done:
            nodes.append(weight_dequantized(linear, values(constants[w]), constant))
        done.update((x, w))
        return [*nodes, helper.make_node("MatMul", [f"{x}_dequantized", f"{w}_dequantized"], list(node.output), node.name)]

    return rewritten(model, {linear.node: linear for linear in linears}, rewrite)


def activation_pair(x: str, table: ScaleTable, constant: Constant) -> list[onnx.NodeProto]:
    """Q and DQ of an activation, which give ``{x}_dequantized``: the activation less its centre."""
    zero = constant(ACTIVATION_ZERO_POINT, np.array(0, np.int8))
    scale = constant(f"{x}_scale", np.array(table.tensors[x].scale, np.float32))
    integers, result = f"{x}_quantized", f"{x}_dequantized"
    centre = table.tensors[x].centre
    before = []
    if centre:
        middle = constant(f"{x}_centre", np.array(centre, np.float32))
        before = [helper.make_node("Sub", [x, middle], [f"{x}_centred"], f"{x}_centring")]
        x = f"{x}_centred"
    return [
        *before,
        helper.make_node("QuantizeLinear", [x, scale, zero], [integers], f"{x}_q"),
        helper.make_node("DequantizeLinear", [integers, scale, zero], [result], f"{x}_dq"),
    ]


def dynamic_pair(x: str) -> list[onnx.NodeProto]:
    """Q and DQ of an activation by the range that it turns out to have, which give ``{x}_dequantized``."""
    made = [f"{x}_quantized", f"{x}_scale", f"{x}_zero_point"]
    return [
        helper.make_node("DynamicQuantizeLinear", [x], made, f"{x}_q"),
        helper.make_node("DequantizeLinear", made, [f"{x}_dequantized"], f"{x}_dq"),
    ]


def weight_dequantized(linear: Linear, weight: NDArray[np.float32], constant: Constant) -> onnx.NodeProto:
    """DQ of a weight that is stored as int8, which gives ``{weight}_dequantized``."""
    w = linear.weight
    steps, scales = quantize_weight(weight)
    named = [
        constant(f"{w}_int8", steps),
        constant(f"{w}_scale", scales),
        constant(f"zero_points_{linear.n}", np.zeros(linear.n, np.int8)),
    ]
    return helper.make_node("DequantizeLinear", named, [f"{w}_dequantized"], f"{w}_dq", axis=1)


def rewritten(
    model: onnx.ModelProto,
    chosen: Mapping[str, Linear],
    rewrite: Callable[[Linear, onnx.NodeProto, Constant], list[onnx.NodeProto]],
) -> onnx.ModelProto:
    """A checked copy in which other nodes stand for the chosen ones. chosen: by name of their node."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    new: dict[str, onnx.TensorProto] = {}

    def constant(name: str, value: NDArray[np.generic]) -> str:
        if name not in new:
            new[name] = numpy_helper.from_array(value, name)
        return name

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        linear = chosen.get(node.name)
        nodes += [node] if linear is None else rewrite(linear, node, constant)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.extend(new.values())
    drop_unused_constants(graph)
    onnx.checker.check_model(outline(copy), full_check=True)
    return copy
