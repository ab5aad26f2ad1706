"""Stored int8 numbers: TensorRT takes them for weights, and only in one place."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, operand, result
from export.lint.target import Target


def int8_constant(network: Network, target: Target) -> Iterator[Fault]:
    for name in network.tensors:
        if network.type_of(name) != "INT8":
            continue
        for node in network.readers[name]:
            if node.op_type not in ("DequantizeLinear", "QuantizeLinear", "Identity"):
                reason = f"reads the int8 constant '{name}', and only a DequantizeLinear may: the build fails"
                yield Fault(label(node), reason, "dequantize first, or store the constant the way it is needed")


def quantized_scalar(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("DequantizeLinear"):
        name = operand(node, 0)
        if network.is_constant(name) and network.shapes.get(name) == () and name in network.tensors:
            reason = f"the constant '{name}' is a quantized scalar, for which the build fails"
            yield Fault(label(node), reason, "leave constants of Add, Mul and Div in float: quantize Linears only")


def int8_arithmetic(network: Network, target: Target) -> Iterator[Fault]:
    outputs = {value.name for value in network.model.graph.output}
    for node in network.of("QuantizeLinear"):
        name = result(node)
        for reader in network.readers[name]:
            if reader.op_type == "Cast" or not (reader.op_type == "DequantizeLinear" or network.moves(reader)):
                reason = f"{reader.op_type} reads int8 '{name}', which TensorRT only has between a Q and a DQ"
                yield Fault(label(reader), reason, "dequantize first")
        if name in outputs:
            yield Fault(
                label(node), f"the graph's output '{name}' is int8 without its scale", "end with a DequantizeLinear"
            )
