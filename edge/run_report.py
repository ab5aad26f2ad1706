"""What a run amounted to: counts and percentiles over all its ticks, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.clock import NS_PER_MS, NS_PER_S
from edge.messages import RobotState, Tick

WARM_UP_TICKS = 10
"""The first ticks fault in memory pages and caches and are left out of the timings."""


class RunReport:
    """Observes ticks. Keeps a few numbers per tick and no pictures."""

    def __init__(self) -> None:
        self.ticks = 0
        self.events: dict[str, int] = {}
        self.newest: Tick | None = None
        self._first_ns = 0
        self._overhead: list[int] = []
        self._latency: list[int] = []
        self._motor_latency: list[int] = []
        self._stages: dict[str, list[int]] = {}
        self._planned = 0
        self._candidates = 0

    def observe(self, tick: Tick) -> None:
        """Take in a finished tick."""
        self.ticks += 1
        self.newest = tick
        for event in tick.events:
            name = f"{event.kind}:{event.cause}"
            self.events[name] = self.events.get(name, 0) + 1
        if self.ticks == WARM_UP_TICKS:
            self._first_ns = tick.started_ns
        if self.ticks <= WARM_UP_TICKS:
            return
        self._overhead.append(tick.total_ns - tick.engine_ns)
        if tick.capture_to_command_ns is not None and tick.state is RobotState.ACTING:
            self._latency.append(tick.capture_to_command_ns)
        if tick.capture_to_motor_ns is not None and tick.state is RobotState.ACTING:
            self._motor_latency.append(tick.capture_to_motor_ns)
        for stage, ns in tick.timings_ns.items():
            self._stages.setdefault(stage, []).append(ns)
        if tick.plan is not None:
            self._planned += 1
            self._candidates += tick.plan.candidates

    @property
    def tick_hz(self) -> float:
        """Ticks per second after the warm-up."""
        if self.newest is None or self.newest.started_ns <= self._first_ns or self.ticks <= WARM_UP_TICKS:
            return 0.0
        return (self.ticks - WARM_UP_TICKS) * NS_PER_S / (self.newest.started_ns - self._first_ns)

    def summary(self) -> dict[str, Any]:
        """Everything as plain numbers; times in ms."""
        newest = self.newest
        return {
            "ticks": self.ticks,
            "tick_hz": round(self.tick_hz, 3),
            "overruns": 0 if newest is None else newest.overruns,
            "planned_ticks": self._planned,
            "candidates_per_tick": round(self._candidates / max(1, self._planned)),
            "camera_to_command_ms": _spread(self._latency),
            "camera_to_motor_ms": _spread(self._motor_latency),
            "overhead_ms": _spread(self._overhead),
            "stage_ms": {stage: _spread(values) for stage, values in self._stages.items()},
            "state": "" if newest is None else newest.state.value,
            "events": self.events,
        }


def _spread(values_ns: Sequence[int]) -> dict[str, float]:
    if not values_ns:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    p50, p99, highest = np.percentile(np.asarray(values_ns) / NS_PER_MS, (50, 99, 100))
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(float(highest), 3)}
