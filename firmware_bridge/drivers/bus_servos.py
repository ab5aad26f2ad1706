"""What all bus servos have in common: who they are, what they drive, and how their ticks become radians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from firmware_bridge.controller import Axis, AxisMode, BridgeError
from firmware_bridge.drivers.scale import Scale, per_turn
from firmware_bridge.drivers.spec import Spec

KEYS = {
    "ids": "the servos, in the order of the axes: ids=1,2,3,4,5,6",
    "mode": "position or wheel",
    "command": "position or velocity: what targets of position servos are",
    "zero": "ticks at 0 rad, 2048",
    "signs": "-1 where a servo counts against its axis",
    "low": "rad, -3.14",
    "high": "rad, 3.14",
    "speed": "largest speed, 2 rad/s",
    "acceleration": "largest acceleration, 10 rad/s^2",
    "rest": "hold or release: what the servos do when disarmed",
    "rate": "turns per second, 50",
}
TICKS_PER_TURN = 4096
HEADROOM = 1.2
"""The servo's own speed limit, as a share of that of the setpoint: a second line, not a brake on the first."""


@dataclass(frozen=True, slots=True)
class BusServos:
    """Per servo: its id on the bus, its axis, its scale. wheels: all turn without end. hold: they keep their power at rest."""

    ids: tuple[int, ...]
    axes: tuple[Axis, ...]
    scales: tuple[Scale, ...]
    wheels: bool
    hold: bool

    def within(self, index: int, low_ticks: int, high_ticks: int) -> Axis:
        """The axis, in the range that its servo allows. Raises BridgeError when nothing is left."""
        axis = self.axes[index]
        bottom, top = self.scales[index].range_rad(low_ticks, high_ticks)
        if bottom >= axis.high or top <= axis.low:
            raise BridgeError(
                f"the range of servo {self.ids[index]}, {bottom:.2f} to {top:.2f} rad, has nothing in common with that of axis "
                f"{axis.name}, {axis.low:g} to {axis.high:g}: see to the keys zero, signs, low and high"
            )
        return replace(axis, low=max(axis.low, bottom), high=min(axis.high, top))


def of(spec: Spec, axes: Sequence[str], last_id: int) -> BusServos:
    """Raises BridgeError for a value that cannot be."""
    ids = spec.integers("ids", None, 0, last_id)
    n = len(ids)
    wheels = spec.choice("mode", ("position", "wheel")) == "wheel"
    zero = spec.numbers("zero", n, TICKS_PER_TURN / 2, -32767, 32767)
    low, high = spec.numbers("low", n, -3.14, -50, 50), spec.numbers("high", n, 3.14, -50, 50)
    speed, acceleration = spec.numbers("speed", n, 2, 0.01, 50), spec.numbers("acceleration", n, 10, 0.1, 1000)
    if any(bottom >= top for bottom, top in zip(low, high, strict=True)):
        raise BridgeError(f"{spec.text} has a 'low' that is not below its 'high': correct one of them")
    mode, unit = (AxisMode.VELOCITY, "rad/s") if wheels else (AxisMode.POSITION, "rad")
    if wheels:
        low, high = tuple(-each for each in speed), speed
    return BusServos(
        ids,
        tuple(
            Axis(name, mode, unit, *limits)
            for name, *limits in zip(spec.names(axes, n), low, high, speed, acceleration, strict=True)
        ),
        tuple(per_turn(TICKS_PER_TURN, 0 if wheels else at, sign) for at, sign in zip(zero, spec.signs(n), strict=True)),
        wheels,
        spec.choice("rest", ("hold", "release")) == "hold",
    )
