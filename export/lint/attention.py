"""The fused Attention operator, where TensorRT 10.14 and later read it."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, operand
from export.lint.target import Target


def attention_float32(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("Attention"):
        if "Attention" in target.operators and network.type_of(operand(node, 0)) == "FLOAT":
            reason = "Attention in float32 has no fused kernel, and TensorRT does not fall back to several"
            yield Fault(label(node), reason, "write it out as MatMul, Softmax, MatMul, or compute it in FP16")
