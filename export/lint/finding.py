"""One thing that is wrong with a graph, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Effect = Literal["rejected", "wrong", "costly"]
"""rejected: a parser or builder refuses it. wrong: it builds and computes something else. costly: it builds, and loses
accuracy or speed."""


class Fault(NamedTuple):
    """What a rule's check reports. node: name of the node, else of the tensor."""

    node: str
    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault with the rule that found it."""

    rule: str
    effect: Effect
    node: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.rule} ({self.effect}): {self.node}: {self.reason}: {self.fix}"
