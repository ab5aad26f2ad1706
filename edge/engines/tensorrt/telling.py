"""The lines by which ``engines build`` tells how far it is, written and read in one place: people read them at the
terminal, and the runtime those of its child."""

from __future__ import annotations

import re
from dataclasses import dataclass

BUILDING = "building"
_STEP = re.compile(r"  (?P<phase>.+): (?P<percent>\d{1,3}) %")
_CAME = re.compile(r"(?P<label>\w+ as [\w-]+): (?P<outcome>.+)")


@dataclass(frozen=True, slots=True)
class Step:
    """share: 0 to 1, of one plan's build."""

    phase: str
    share: float

    def __str__(self) -> str:
        return f"  {self.phase}: {self.share * 100:.0f} %"


@dataclass(frozen=True, slots=True)
class Plan:
    """label: part and recipe. outcome: what came of it, or :data:`BUILDING`."""

    label: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.label}: {self.outcome}"


def read(line: str) -> Step | Plan | None:
    """One line without its end; None if it is of another kind."""
    if step := _STEP.fullmatch(line):
        return Step(step["phase"], min(1.0, int(step["percent"]) / 100))
    if plan := _CAME.fullmatch(line):
        return Plan(plan["label"], plan["outcome"])
    return None
