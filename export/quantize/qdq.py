"""Write the scales into the graph as QuantizeLinear and DequantizeLinear nodes: the one master graph for all dialects.

Activations: per tensor, symmetric int8, zero point 0. Weights: per output channel, symmetric int8 in [-127, 127],
stored as int8. Only Linears; residual adds, norms, GELU, softmax and attention products stay in float.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from calibration.activations import LEVELS, ScaleTable
from edge.engines.onnx_file import ACTIVATION_ZERO_POINT
from export.onnx_cleaning import drop_unused_constants
from export.quantize.linears import Linear

DEAD_CHANNEL_SCALE = 2.0**-14
"""For channels of zeros: runtimes refuse a scale of 0, and FP16 flushes anything smaller than this."""


def quantize_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(K, N) float32 -> (K, N) int8 in [-127, 127] and one scale per column, float32 (N,)."""
    scale = np.abs(weight).max(axis=0) / np.float32(LEVELS)
    scale[scale < np.finfo(np.float32).tiny] = DEAD_CHANNEL_SCALE
    return np.clip(np.rint(weight / scale), -LEVELS, LEVELS).astype(np.int8), scale


def write_qdq(model: onnx.ModelProto, table: ScaleTable, linears: Sequence[Linear]) -> onnx.ModelProto:
    """A copy of an FP32 graph with ``linears`` quantized. The table has a scale for the activation of each."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    chosen = {linear.node: linear for linear in linears}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    new: dict[str, onnx.TensorProto] = {}
    done: set[str] = set()
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: NDArray[np.generic]) -> str:
        new.setdefault(name, numpy_helper.from_array(value, name))
        return name

    for node in graph.node:
        linear = chosen.get(node.name)
        if linear is not None:
            zero = constant(ACTIVATION_ZERO_POINT, np.array(0, np.int8))
            x, w = linear.activation, linear.weight
            if x not in done:
                scale = constant(f"{x}_scale", np.array(table.tensors[x].scale, np.float32))
                integers, floats = f"{x}_quantized", f"{x}_dequantized"
                nodes.append(helper.make_node("QuantizeLinear", [x, scale, zero], [integers], f"{x}_q"))
                nodes.append(helper.make_node("DequantizeLinear", [integers, scale, zero], [floats], f"{x}_dq"))
            if w not in done:
                steps, scales = quantize_weight(numpy_helper.to_array(constants[w]))
                named = [
                    constant(f"{w}_int8", steps),
                    constant(f"{w}_scale", scales),
                    constant(f"zero_points_{linear.n}", np.zeros(linear.n, np.int8)),
                ]
                nodes.append(helper.make_node("DequantizeLinear", named, [f"{w}_dequantized"], f"{w}_dq", axis=1))
            done |= {x, w}
            node = helper.make_node("MatMul", [f"{x}_dequantized", f"{w}_dequantized"], list(node.output), node.name)
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.extend(new.values())
    drop_unused_constants(graph)
    onnx.checker.check_model(copy, full_check=True)
    return copy
