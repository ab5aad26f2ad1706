"""The one contract behind which every planner sits."""

from __future__ import annotations

from typing import Protocol

from edge.errors import UserError
from edge.messages import Belief, Goal, Plan


class PlanningError(UserError):
    """The planner cannot be made from this bundle and configuration; one sentence with the remedy."""


class Planner(Protocol):
    """Turns a belief and a goal into a plan. One thread, the loop's, uses it."""

    engine_ns: int
    """Time spent in the engine by the last :meth:`plan`."""

    def plan(self, belief: Belief, goal: Goal, deadline_ns: int) -> Plan:
        """The best plan found until ``deadline_ns``; always one, however late it already is. Raises EngineError."""

    def forget(self) -> None:
        """Drop the warm start, because the next belief or goal has nothing to do with the last one."""
