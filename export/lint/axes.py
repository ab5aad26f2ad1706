"""Per-channel scales: along which axis, and of what."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from export.lint.finding import Fault
from export.lint.network import Network, attribute, label, operand, result
from export.lint.target import JETPACK6, Target


def activation_per_channel(network: Network, target: Target) -> Iterator[Fault]:
    for node in _per_channel(network):
        if node.op_type == "QuantizeLinear" and not network.is_constant(operand(node, 0)):
            reason = "one scale per channel of an activation, which TensorRT documents as unsupported and builds all the same"
            yield Fault(
                label(node),
                reason,
                "use one scale per activation; fold outlier channels into the weights (SmoothQuant)",
            )


def weight_axis(network: Network, target: Target) -> Iterator[Fault]:
    for node in _per_channel(network):
        if node.op_type != "DequantizeLinear" or not network.is_constant(operand(node, 0)):
            continue
        rank = len(network.shapes.get(operand(node, 0), ()))
        axis = attribute(node, "axis", 1)
        for reader in network.readers[result(node)]:
            wanted = _output_axis(reader, result(node), rank)
            if wanted is not None and axis % rank != wanted:
                reason = f"scales along axis {axis} of the weight, and the output channels of {label(reader)} lie along {wanted}"
                yield Fault(label(node), reason, f"quantize per output channel: axis={wanted}")
                break


def weight_axis_implicit(network: Network, target: Target) -> Iterator[Fault]:
    if target is not JETPACK6:
        return
    for node in _per_channel(network):
        if attribute(node, "axis") is None:
            reason = "per-channel scales with no axis: ONNX then means axis 1, the parser of this TensorRT takes axis 0"
            yield Fault(label(node), reason, "write the axis out")


def _per_channel(network: Network) -> Iterator[onnx.NodeProto]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        shape = network.shapes.get(operand(node, 1), ())
        if len(shape) == 1 and shape != (1,):
            yield node


def _output_axis(reader: onnx.NodeProto, weight: str, rank: int) -> int | None:
    """Where the output channels of a weight lie; None if the reader has none."""
    if reader.op_type == "MatMul" and rank >= 2:
        return rank - 1 if operand(reader, 1) == weight else rank - 2
    if reader.op_type == "Gemm" and rank == 2 and operand(reader, 1) == weight:
        return 0 if attribute(reader, "transB", 0) else 1
    if reader.op_type in ("Conv", "ConvTranspose") and rank >= 3 and operand(reader, 1) == weight:
        return 0 if reader.op_type == "Conv" else 1
    return None
