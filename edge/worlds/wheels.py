"""Wheels that are not what the firmware takes them for: reversed, weak, stiff, late. What a calibration has to find out.

Between the firmware's output and the speed that a motor strives for lie, in this order, a dead time, static and sliding
friction, the strength of the motor, its top speed and its torque. The lag of the rotor is the rover's own.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edge.config import ConfigError, convert

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

STANDING = 0.02
"""A wheel slower than this, in rad/s, stands: static friction holds it again."""


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One wheel; the defaults are the perfect one.

    reversed: its motor is connected the wrong way round. encoder_reversed: its encoder counts down when the wheel turns
    forward. gain: speed per command, beyond the friction. dead_band: the command, rad/s, that overcomes static friction.
    friction: what sliding friction takes off a command, rad/s, at most the dead band. delay_ms: from the command to the
    driver's output. max_speed: rad/s, of the wheel. max_acceleration: rad/s^2, of the wheel. noise_mrad: standard deviation
    of one encoder reading.
    """

    reversed: bool = False
    encoder_reversed: bool = False
    gain: Annotated[float, Meta(ge=0, le=4)] = 1.0
    dead_band: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    friction: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    delay_ms: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    max_speed: Annotated[float, Meta(gt=0)] = 1e6
    max_acceleration: Annotated[float, Meta(gt=0)] = 1e6
    noise_mrad: Annotated[float, Meta(ge=0, le=1000)] = 0.0


class RoverWheels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The two wheels of the rover."""

    left: Wheel = Wheel()
    right: Wheel = Wheel()


def load_wheels(path: Path) -> tuple[Wheel, Wheel]:
    """Left and right from a TOML file with those two tables. Raises ConfigError."""
    try:
        found = convert(tomllib.loads(path.read_bytes().decode("utf-8")), RoverWheels, str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give a TOML file that describes the wheels") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for name, wheel in (("left", found.left), ("right", found.right)):
        if wheel.friction > wheel.dead_band:
            raise ConfigError(
                f"{path}: {name}.friction is {wheel.friction:g} and must be at most the dead band, {wheel.dead_band:g}"
            )
    return found.left, found.right


class Drivetrain:
    """What stands between the firmware's outputs and some wheels. Made for steps of ``step_s``; delays are whole steps."""

    def __init__(self, wheels: Sequence[Wheel], step_s: float, seed: int = 0) -> None:
        self._wheels = tuple(wheels)
        self._step_s = step_s
        self._late = [deque([0.0] * (1 + round(wheel.delay_ms / 1000 / step_s))) for wheel in wheels]
        self._strive = [0.0] * len(self._wheels)
        self._noisy = any(wheel.noise_mrad for wheel in wheels)
        self._rng = np.random.default_rng([seed, 78])

    def step(self, outputs: Sequence[float], speeds: Sequence[float]) -> list[float]:
        """One step on: the speeds that the motors strive for, rad/s. outputs: of the firmware. speeds: of the wheels now."""
        for place, wheel in enumerate(self._wheels):
            late = self._late[place]
            late.append(float(outputs[place]))
            late.popleft()
            size = abs(late[0])
            held = wheel.dead_band if abs(speeds[place]) < STANDING else wheel.friction
            goal = 0.0
            if size > held:
                goal = math.copysign(min(wheel.gain * (size - wheel.friction), wheel.max_speed), late[0])
            if wheel.reversed:
                goal = -goal
            change = wheel.max_acceleration * self._step_s
            before = self._strive[place]
            self._strive[place] = before + max(-change, min(change, goal - before))
        return self._strive

    def encoders(self, angles: Sequence[float], speeds: Sequence[float]) -> tuple[list[float], list[float]]:
        """What the encoders make of the wheels' true angles (rad) and speeds (rad/s)."""
        signs = [-1.0 if wheel.encoder_reversed else 1.0 for wheel in self._wheels]
        read = [sign * float(angle) for sign, angle in zip(signs, angles, strict=True)]
        if self._noisy:
            noise = self._rng.standard_normal(len(read))
            read = [a + 1e-3 * w.noise_mrad * float(n) for a, w, n in zip(read, self._wheels, noise, strict=True)]
        return read, [sign * float(speed) for sign, speed in zip(signs, speeds, strict=True)]
