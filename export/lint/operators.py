"""Operators that the parser does not know."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label
from export.lint.target import Target

_STATIC = "quantize with fixed scales: QuantizeLinear and DequantizeLinear"
_FIXES = {
    **dict.fromkeys(("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"), _STATIC),
    "Attention": "write attention out as MatMul, Softmax, MatMul",
    "RMSNormalization": "write it out, with the square in float32",
    "RotaryEmbedding": "write it out with Mul, Add and tables stored as constants",
}


def unknown_operator(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.nodes:
        if node.domain in ("", "ai.onnx") and node.op_type not in target.operators:
            fix = _FIXES.get(node.op_type, "write it with operators that TensorRT has")
            yield Fault(label(node), f"TensorRT {target.tensorrt} has no operator {node.op_type}", fix)


def foreign_operator(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.nodes:
        if node.domain not in ("", "ai.onnx"):
            reason = f"operator {node.op_type} of '{node.domain}', which TensorRT has only as a plugin"
            fix = "lint the graph from before onnxruntime or another tool optimised it"
            yield Fault(label(node), reason, fix)
