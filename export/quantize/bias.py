"""What quantization does to a Linear and a bias can undo: what rounding changes on average, and the centre of its activation.

The empirical variant of Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv 1906.04721, section 4.2), layer by layer on the activations of the FP32 graph: b += E[x] W - E[q(x)] q(W). Centres: see
export.quantize.centre.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration.activations import ScaleTable
from export.external_weights import values
from export.quantize.linears import Linear
from export.quantize.qdq import quantize_weight


def own_biases(model: onnx.ModelProto, linears: Sequence[Linear]) -> dict[str, str]:
    """By node of a Linear, the name of its bias, where nothing but these Linears reads it."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    products = {node.name: node.output[0] for node in model.graph.node}
    vectors = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found: dict[str, str] = {}
    for linear in linears:
        after = readers[products[linear.node]]
        bias = next((n for n in after[0].input if n in vectors), "") if [n.op_type for n in after] == ["Add"] else ""
        if vectors.get(bias) == (linear.n,):
            found[linear.node] = bias
    counts: dict[str, int] = defaultdict(int)
    for bias in found.values():
        counts[bias] += 1
    return {node: bias for node, bias in found.items() if counts[bias] == len(readers[bias])}


def with_new_biases(
    quantized: onnx.ModelProto,
    fp32: onnx.ModelProto,
    linears: Sequence[Linear],
    table: ScaleTable,
    rounding: Mapping[str, NDArray[np.float64]],
) -> onnx.ModelProto:
    """A copy of a Q/DQ graph with the biases that it needs. linears: those that are quantized in it. rounding: of the activation
    of each, as by measure_rounding; empty to correct nothing. A bias that several places share is corrected by their mean. Linears
    without a bias of their own stay as they are: their activations have no centres."""
    copy = onnx.ModelProto()
    copy.CopyFrom(quantized)
    weights = {tensor.name: tensor for tensor in fp32.graph.initializer}
    biases = {tensor.name: tensor for tensor in copy.graph.initializer}
    own = own_biases(copy, linears)
    biased: dict[str, list[Linear]] = defaultdict(list)
    shifts: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for linear in linears:
        if linear.node not in own:
            continue
        biased[linear.weight].append(linear)
    for name, users in biased.items():  # one weight after the other: all of them in float64 may not fit into memory
        weight = values(weights[name])
        integers, scale = quantize_weight(weight)
        rounded_weight = integers.astype(np.float64) * scale
        for linear in users:
            shift = table.tensors[linear.activation].centre * rounded_weight.sum(axis=0)
            if rounding:
                mean, rounded = rounding[linear.activation]
                shift = shift + (mean @ weight - rounded @ rounded_weight)
            shifts[own[linear.node]].append(shift)
    for bias, found in shifts.items():
        mended = values(biases[bias]) + np.mean(found, axis=0)
        biases[bias].CopyFrom(numpy_helper.from_array(mended.astype(np.float32), bias))
    return copy
