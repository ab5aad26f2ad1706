"""From the numbers of a servo to radians and back, per axis: where zero lies and which way is up."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """ticks_per_rad: of the encoder. zero: the ticks at 0 rad. sign: -1 where the servo counts against the axis."""

    ticks_per_rad: float
    zero: float = 0.0
    sign: int = 1

    def to_ticks(self, rad: float) -> int:
        """The nearest whole tick."""
        return round(self.zero + self.sign * rad * self.ticks_per_rad)

    def to_rad(self, ticks: float) -> float:
        return self.sign * (ticks - self.zero) / self.ticks_per_rad

    def to_rate(self, rad_s: float) -> float:
        """Ticks per second; not rounded, because its unit differs."""
        return self.sign * rad_s * self.ticks_per_rad

    def from_rate(self, ticks_s: float) -> float:
        return self.sign * ticks_s / self.ticks_per_rad

    def range_rad(self, low_ticks: float, high_ticks: float) -> tuple[float, float]:
        """The same range in rad, lower end first."""
        ends = self.to_rad(low_ticks), self.to_rad(high_ticks)
        return min(ends), max(ends)


def per_turn(ticks: int, zero: float = 0.0, sign: int = 1) -> Scale:
    return Scale(ticks / (2 * math.pi), zero, sign)
