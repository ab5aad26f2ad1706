"""The version of the ONNX standard that a graph is written in."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, operand
from export.lint.target import Target

FP16_SCALES_SINCE = 19


def opset_range(network: Network, target: Target) -> Iterator[Fault]:
    lowest, highest = target.opsets
    if not lowest <= network.opset <= highest:
        reason = f"opset {network.opset or '(none)'}, and TensorRT {target.tensorrt} reads {lowest} to {highest}"
        yield Fault("(graph)", reason, "export with opset 19")


def fp16_scale_opset(network: Network, target: Target) -> Iterator[Fault]:
    if network.opset >= FP16_SCALES_SINCE:
        return
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        if network.type_of(operand(node, 1)) == "FLOAT16":
            reason = f"an FP16 scale in opset {network.opset}, which onnxruntime refuses below {FP16_SCALES_SINCE}"
            yield Fault(label(node), reason, "export with opset 19")
