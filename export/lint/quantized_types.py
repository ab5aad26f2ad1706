"""Which integers and small floats may stand between a QuantizeLinear and a DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, operand, result
from export.lint.target import Target


def int32_bias(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("DequantizeLinear"):
        if network.type_of(operand(node, 0)) == "INT32":
            reason = "an int32 tensor (a quantized bias, as onnxruntime writes it), which TensorRT does not dequantize"
            yield Fault(label(node), reason, "leave biases in float")


def weight_uint8(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("DequantizeLinear"):
        if network.type_of(operand(node, 0)) == "UINT8" and network.is_constant(operand(node, 0)):
            yield Fault(label(node), "a weight stored as uint8", "quantize weights symmetrically to int8, zero point 0")


def quantized_type(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        kind = network.type_of(result(node) if node.op_type == "QuantizeLinear" else operand(node, 0))
        if kind not in target.quantized | {"UNDEFINED", "UINT8", "INT32"}:
            reason = f"quantized to {kind}, and {target.name} has {', '.join(sorted(target.quantized))}"
            yield Fault(label(node), reason, "quantize to int8")
