"""Bias correction: what rounding changes in a Linear on average goes into its bias.

The empirical variant of Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv 1906.04721, section 4.2), layer by layer on the activations of the FP32 graph: b += E[x] W - E[q(x)] q(W).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.external_weights import values
from export.quantize.linears import Linear
from export.quantize.qdq import quantize_weight


def corrected(
    quantized: onnx.ModelProto, fp32: onnx.ModelProto, linears: Sequence[Linear], rounding: Mapping[str, NDArray[np.float64]]
) -> onnx.ModelProto:
    """A copy of a Q/DQ graph with corrected biases. linears: those that are quantized in it. rounding: of the activation of
    each, as by measure_rounding. A bias that several places share is corrected by their mean. Linears without a bias stay as
    they are, and so do biases that something else reads too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(quantized)
    weights = {tensor.name: tensor for tensor in fp32.graph.initializer}
    biases = {tensor.name: tensor for tensor in copy.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in copy.graph.node:
        for name in node.input:
            readers[name].append(node)
    products = {node.name: node.output[0] for node in copy.graph.node}
    biased: dict[str, list[tuple[str, Linear]]] = defaultdict(list)
    errors: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for linear in linears:
        after = readers[products[linear.node]]
        bias = next((n for n in after[0].input if n in biases), "") if [n.op_type for n in after] == ["Add"] else ""
        if not bias or tuple(biases[bias].dims) != (linear.n,):
            continue
        biased[linear.weight].append((bias, linear))
    for name, users in biased.items():  # one weight after the other: all of them in float64 may not fit into memory
        weight = values(weights[name])
        integers, scale = quantize_weight(weight)
        rounded_weight = integers.astype(np.float64) * scale
        for bias, linear in users:
            mean, rounded = rounding[linear.activation]
            errors[bias].append(mean @ weight - rounded @ rounded_weight)
    for bias, found in errors.items():
        if len(found) == len(readers[bias]):
            mended = values(biases[bias]) + np.mean(found, axis=0)
            biases[bias].CopyFrom(numpy_helper.from_array(mended.astype(np.float32), bias))
    return copy
