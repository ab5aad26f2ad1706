"""Numbers that leave the range of FP16."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, operand
from export.lint.target import Target


def fp16_mean_square(network: Network, target: Target) -> Iterator[Fault]:
    fix = "export the norm as one operator (LayerNormalization), or square in float32 between two Casts"
    for node in network.of("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2"):
        name = operand(node, 0)
        if network.type_of(name) != "FLOAT16":
            continue
        maker = network.maker.get(name)
        squared = node.op_type in ("ReduceSumSquare", "ReduceL2") or (
            maker is not None
            and (
                (maker.op_type == "Mul" and operand(maker, 0) == operand(maker, 1))
                or (maker.op_type == "Pow" and _is_two(network, operand(maker, 1)))
            )
        )
        if squared:
            reason = "a sum of squares in FP16 overflows for values above 256, as a norm written out in single operators does"
            yield Fault(label(node), reason, fix)


def _is_two(network: Network, name: str) -> bool:
    value = network.value(name)
    return value is not None and value.size == 1 and value.item() == 2
