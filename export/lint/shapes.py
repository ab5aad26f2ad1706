"""Sizes that are not known before the graph runs."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, result
from export.lint.target import Target


def dynamic_shape(network: Network, target: Target) -> Iterator[Fault]:
    for value in network.model.graph.input:
        if value.name in network.tensors:
            continue
        shape = network.shapes.get(value.name)
        if shape is None:
            yield Fault(value.name, "an input of unknown shape", "export with fixed shapes")
        elif not all(shape):
            said = "x".join("?" if size is None else str(size) for size in shape)
            reason = f"an input of shape {said}, which needs an optimisation profile that a bundle does not carry"
            yield Fault(value.name, reason, "export with fixed shapes")


def data_dependent_shape(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("NonZero", "NonMaxSuppression"):
        if not network.is_constant(result(node)):
            reason = f"the size of what {node.op_type} returns depends on the data, and an engine's outputs are allocated before"
            yield Fault(label(node), reason, "use a mask, or TopK of a fixed number")
