"""Inputs that must be known when the engine is built."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, operand
from export.lint.target import JETPACK6, Target

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
ALWAYS = {**{f"Reduce{kind}": 1 for kind in _REDUCTIONS}, "Squeeze": 1, "Unsqueeze": 1, "CumSum": 1, "OneHot": 1}
"""Operator -> place of the input: axes, and OneHot's depth."""
JETPACK6_TOO = {"Slice": 3, "Pad": 3}


def computed_axes(network: Network, target: Target) -> Iterator[Fault]:
    places = {**ALWAYS, **(JETPACK6_TOO if target is JETPACK6 else {})}
    for node in network.of(*places):
        name = operand(node, places[node.op_type])
        if name and not network.is_constant(name):
            reason = f"input '{name}' of {node.op_type} is computed, and TensorRT needs it when the engine is built"
            yield Fault(label(node), reason, "store it as a constant")
