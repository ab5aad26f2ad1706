"""Where Q/DQ helps and where it ruins a transformer: on Linears and convolutions, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from export.lint.finding import Fault
from export.lint.network import Network, label, operand
from export.lint.target import Target

_WEIGHTED = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_SUMS = ("Add", "Sub", "Sum")
_AS_GOOD_IN_INT8 = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "QuantizeLinear")
SMALLEST = 16
"""Side of a weight below which tensor cores have no INT8 kernel that fits."""
_LINEARS_ONLY = "quantize the inputs of Linears only"


def quantized_sum(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of(*_SUMS):
        if any(_quantized_activation(network, name) for name in node.input):
            reason = f"{node.op_type} of quantized tensors: eight bits for a residual stream cost a ViT 80 points of accuracy"
            yield Fault(label(node), reason, _LINEARS_ONLY)


def quantized_attention(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("MatMul", "Attention"):
        computed = [name for name in node.input if name and not network.is_constant(name)]
        if len(computed) > 1 and any(network.dequantized(name) for name in computed):
            reason = "an attention product of quantized tensors: no fused INT8 kernel above 512 tokens or outside few head sizes"
            yield Fault(label(node), reason, f"{_LINEARS_ONLY}; attention is faster as a fused FP16 kernel")


def quantized_elsewhere(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.nodes:
        if node.op_type in (*_WEIGHTED, *_SUMS, *_AS_GOOD_IN_INT8, "Attention", "DequantizeLinear") or network.moves(
            node
        ):
            continue
        if any(_quantized_activation(network, name) for name in node.input):
            reason = f"{node.op_type} of a quantized tensor runs in float all the same, after an extra conversion"
            yield Fault(label(node), reason, _LINEARS_ONLY)


def half_quantized(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of(*_WEIGHTED):
        x, weight = operand(node, 0), operand(node, 1)
        if network.is_constant(x) == network.is_constant(weight):
            continue  # an attention product, or nothing to compute
        quantized = network.dequantized(x), network.dequantized(weight)
        if quantized[0] != quantized[1]:
            only = "weight" if quantized[network.is_constant(weight)] else "activation"
            reason = f"only the {only} of this {node.op_type} is quantized, so it multiplies in float"
            yield Fault(label(node), reason, "quantize both inputs or none")


def tiny_quantized(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("MatMul", "Gemm"):
        weight = next((name for name in node.input[:2] if network.is_constant(name)), "")
        shape = network.shapes.get(weight, ())
        sizes = [size for size in shape[-2:] if size is not None and size < SMALLEST]
        if sizes and network.dequantized(weight) and any(_quantized_activation(network, name) for name in node.input):
            reason = f"a weight with a side of {min(sizes)}, and integer kernels begin at {SMALLEST}"
            yield Fault(label(node), reason, "leave it in float")


def repeated_quantize(network: Network, target: Target) -> Iterator[Fault]:
    seen: dict[str, onnx.NodeProto] = {}
    for node in network.of("QuantizeLinear"):
        first = seen.setdefault(operand(node, 0), node)
        if first is not node:
            reason = f"'{operand(node, 0)}' is already quantized by {label(first)}"
            yield Fault(label(node), reason, "let all readers share one pair of Q and DQ")


def _quantized_activation(network: Network, name: str) -> bool:
    return bool(name) and not network.is_constant(name) and network.dequantized(name)
