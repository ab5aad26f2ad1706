"""What all controllers of wheels have in common: their axes, out of the spec."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.controller import Axis, AxisMode
from firmware_bridge.drivers.spec import Spec

KEYS = {
    "signs": "-1 where a motor turns against its axis",
    "speed": "largest speed, 10 rad/s",
    "acceleration": "largest acceleration, 40 rad/s^2",
    "rate": "turns per second, 50",
}


def of(spec: Spec, axes: Sequence[str], count: int, unit: str = "rad/s") -> tuple[Axis, ...]:
    """Raises BridgeError for a value that cannot be."""
    speed = spec.numbers("speed", count, 10 if unit == "rad/s" else 0.5, 0.01, 1000)
    acceleration = spec.numbers("acceleration", count, 40 if unit == "rad/s" else 2, 0.1, 10_000)
    names = spec.names(axes, count)
    return tuple(
        Axis(name, AxisMode.VELOCITY, unit, -v, v, v, a) for name, v, a in zip(names, speed, acceleration, strict=True)
    )
