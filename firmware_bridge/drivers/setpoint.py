"""What one axis is told next: inside its range, its speed and its acceleration, from whatever it was asked for."""

from __future__ import annotations

import math

from firmware_bridge.controller import Axis, AxisMode

LONGEST_STEP_S = 0.1
"""A turn that comes later counts as this long, so that a pause is never made up for by a jump."""


class Setpoint:
    """The moving target of one motor.

    drives: what the motor takes. asked: what ``advance`` is given; a position motor asked for a velocity integrates it, here
    and nowhere else. Limits are per time, not per call.
    """

    def __init__(self, drives: Axis, asked: AxisMode) -> None:
        self._drives = drives
        self._asked = asked
        self.value = 0.0
        """rad for a position motor, its unit of speed for a velocity motor."""
        self.speed = 0.0

    def start(self, position: float) -> None:
        """Stand still where the motor is, even if that is outside of its range."""
        self.value = position if self._drives.mode is AxisMode.POSITION else 0.0
        self.speed = 0.0

    def advance(self, target: float | None, elapsed_s: float) -> float:
        """The value to send now. target: in the asked unit, None to come to a stand."""
        step_s = min(max(elapsed_s, 0.0), LONGEST_STEP_S)
        axis = self._drives
        if axis.mode is AxisMode.VELOCITY:
            wanted = 0.0 if target is None else max(axis.low, min(axis.high, target))
        elif target is None or step_s == 0.0:
            wanted = 0.0
        elif self._asked is AxisMode.POSITION:
            wanted = self._approach(max(axis.low, min(axis.high, target)) - self.value, step_s)
        else:
            end = axis.high if target > 0 else axis.low
            room = max(0.0, (end - self.value) * math.copysign(1.0, target))
            fastest = self._approach(room, step_s)
            wanted = math.copysign(min(abs(target), fastest), target)
        wanted = max(-axis.max_speed, min(axis.max_speed, wanted))
        change = axis.max_acceleration * step_s
        self.speed += max(-change, min(change, wanted - self.speed))
        if axis.mode is AxisMode.VELOCITY:
            self.value = self.speed
        else:
            self._move(self.speed * step_s)
        return self.value

    def _approach(self, distance: float, step_s: float) -> float:
        """The fastest speed from which it can still brake within the distance, a step of travel included."""
        rate = self._drives.max_acceleration
        fastest = rate * (math.sqrt(step_s * step_s / 4 + 2 * abs(distance) / rate) - step_s / 2)
        return math.copysign(min(fastest, abs(distance) / step_s), distance)

    def _move(self, by: float) -> None:
        """Never further out of the range than it was."""
        axis = self._drives
        lowest, highest = min(axis.low, self.value), max(axis.high, self.value)
        self.value += by
        if not lowest <= self.value <= highest:
            self.value = max(lowest, min(highest, self.value))
            self.speed = 0.0
