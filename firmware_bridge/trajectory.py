"""A planned motion on its way to the device: cut into frames, each sent after the answer to the one before.

So a frame that gets lost, and is repeated, leaves no hole in the motion, and what is refused takes the rest of the plan with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from firmware_bridge import framing
from firmware_bridge.controller import BridgeError, Knot
from firmware_bridge.messages import MAX_POINTS, Axis, Code, Mode, Point, TrajPush

AHEAD_NS = 1_900_000_000
"""How far a plan may reach. The device takes 2 s; the rest is for the difference of the clocks."""
STEP_NS = 1_000_000
"""Shortest time between two knots."""


def check_knots(axes: Sequence[str], knots: Sequence[Knot], most: int, now_ns: int) -> None:
    """Raises BridgeError for what is no plan for these axes. most: knots that the device has room for; 0 if it cannot follow."""
    if most == 0:
        raise BridgeError(
            "these motors follow no trajectories: send targets instead, or use a board whose firmware has room for them"
        )
    if not 0 < len(knots) <= most:
        raise BridgeError(f"a plan has 1 to {most} knots, and this one has {len(knots)}: hand over its beginning")
    for i, knot in enumerate(knots):
        for name, values in (("positions", knot.position), ("velocities", knot.velocity)):
            if len(values) != len(axes):
                raise BridgeError(f"knot {i} has {len(values)} {name} for the axes {', '.join(axes)}: give one each")
            if not all(map(math.isfinite, values)):
                raise BridgeError(f"knot {i} has the {name} {tuple(values)}: give finite numbers")
    for i, (before, after) in enumerate(pairwise(knots)):
        if after.at_ns - before.at_ns < STEP_NS:
            step_ms = (after.at_ns - before.at_ns) / 1e6
            raise BridgeError(f"knot {i + 1} comes {step_ms:g} ms after knot {i}: let them rise by 1 ms at least")
    ahead_ns = knots[-1].at_ns - now_ns
    if ahead_ns > AHEAD_NS:
        raise BridgeError(
            f"the plan reaches {ahead_ns / 1e9:.2f} s ahead and may reach {AHEAD_NS / 1e9:g} s: hand over its beginning"
        )


def points_of(axes: Sequence[Axis], knots: Sequence[Knot], to_device_us: Callable[[int], int]) -> tuple[list[Point], bool]:
    """The knots within the limits of the axes, in device time, and whether one of them was beyond."""
    points, beyond = [], False
    for knot in knots:
        position, velocity = [], []
        for axis, place, speed in zip(axes, knot.position, knot.velocity, strict=True):
            wanted = round(place * 1000) if axis.mode == Mode.POSITION else 0
            position.append(max(axis.min_position, min(axis.max_position, wanted)))
            fast = round(speed * 1000)
            velocity.append(max(-axis.max_speed, min(axis.max_speed, fast)))
            beyond = beyond or position[-1] != wanted or velocity[-1] != fast
        points.append(Point(to_device_us(knot.at_ns), tuple(position), tuple(velocity)))
    return points, beyond


class PlanFeed:
    """What of a plan is still to be sent. A new plan takes the place of the one before. Not thread-safe."""

    def __init__(self, axes: int) -> None:
        room = framing.MAX_BODY - framing.HEADER_BYTES - framing.CRC_BYTES - TrajPush.size(axes)
        self._per_frame = min(MAX_POINTS, room // Point.size(axes))
        self._points: list[Point] = []
        self._replace_from_us = 0
        self._last_us = 0
        self.until_ns = 0
        """Time of the last knot, host monotonic ns."""

    def start(self, points: Sequence[Point], replace_from_us: int, until_ns: int) -> None:
        self._points, self._replace_from_us, self.until_ns = list(points), replace_from_us, until_ns

    def clear(self) -> None:
        self._points = []

    def next(self) -> TrajPush | None:
        """The next frame; None when the plan has been sent."""
        if not self._points:
            return None
        points, self._points = self._points[: self._per_frame], self._points[self._per_frame :]
        self._last_us = points[-1].t_us
        return TrajPush(self._replace_from_us, tuple(points))

    def answered(self, code: int) -> bool:
        """To the newest frame. What follows is put behind it; where all of it was late, in its place. False if the plan is refused,
        which ends it: a rest of it would be another motion than the one that was planned."""
        if code == Code.OK:
            self._replace_from_us = (self._last_us + 1) & 0xFFFFFFFF
        elif code != Code.LATE or not self._points:
            self.clear()
            return False
        return True
