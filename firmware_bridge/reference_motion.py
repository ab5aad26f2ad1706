"""From targets to outputs in the reference firmware: limits held by time and not by message."""

from __future__ import annotations

from math import isqrt

from firmware_bridge.board import AxisLimits
from firmware_bridge.messages import Mode
from firmware_bridge.reference_trajectory import NRAD, Aim, quotient

_FARTHEST_URAD = 1 << 38


def stoppable(distance_nrad: int, acceleration: int, elapsed_us: int) -> int:
    """The largest speed, mrad/s, from which an axis can still stop within the distance after one step more of it.

    v dt + v^2 / 2a <= d, so v = sqrt((a dt)^2 + 2 a d) - a dt.
    """
    if distance_nrad <= 0:
        return 0
    urad = min(distance_nrad // 1000, _FARTHEST_URAD)
    gained = (acceleration * elapsed_us + NRAD - 1) // NRAD
    return min(max(0, isqrt(gained * gained + 2 * acceleration * urad // 1000) - gained), 0x7FFFFFFF)


class AxisMotion:
    """One axis. speed: mrad/s. place: nrad, the finer output of a position axis. output: mrad/s or mrad."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.speed = 0
        self.place = 0
        self.output = 0
        self._rest = 0

    def start_at(self, position: int) -> None:
        self.output = position
        self.place = position * NRAD

    def cut(self) -> None:
        self.speed = 0
        self._rest = 0
        if self.mode is Mode.VELOCITY:
            self.output = 0

    def pursue(self, aim: Aim, limits: AxisLimits, elapsed_us: int) -> int:
        """The speed at which a position axis should go, before the acceleration limit."""
        lowest, highest = limits.min_position * NRAD, limits.max_position * NRAD
        missing = max(lowest, min(highest, aim.place)) - self.place - aim.speed * elapsed_us
        approach = stoppable(abs(missing), limits.max_acceleration, elapsed_us)
        wanted = aim.speed + (approach if missing > 0 else -approach)
        wanted = max(-limits.max_speed, min(limits.max_speed, wanted))
        up = stoppable(highest - self.place, limits.max_acceleration, elapsed_us)
        down = stoppable(self.place - lowest, limits.max_acceleration, elapsed_us)
        return max(-down, min(up, wanted))

    def step(self, wanted: int, acceleration: int, limits: AxisLimits, elapsed_us: int) -> None:
        missing = wanted - self.speed
        step, rest = divmod(acceleration * elapsed_us + self._rest, NRAD)
        if abs(missing) <= step:
            self.speed = wanted
            self._rest = 0
        else:
            self.speed += step if missing > 0 else -step
            self._rest = rest
        if self.mode is Mode.VELOCITY:
            self.output = self.speed
            return
        lowest = min(limits.min_position * NRAD, self.place)
        highest = max(limits.max_position * NRAD, self.place)
        self.place = max(lowest, min(highest, self.place + self.speed * elapsed_us))
        self.output = quotient(self.place + (NRAD // 2 if self.place >= 0 else -NRAD // 2), NRAD)
