"""What a motor must be told so that its wheel turns as wanted: the calibration of each axis, on the last step of a command.

Without friction a command is a speed. A real motor does nothing below its dead band, and beyond it turns with

    speed = gain * (|command| - friction)

so the command for a wanted speed is the inverse of that, but never less than the dead band. Speeds slower than the motor
can turn at all are rounded to standing still or to the slowest one, whichever is nearer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edge.config import AxisConfig, ConfigError, WayConfig
from edge.safety import ActionAxis
from firmware_bridge.controller import Axis, AxisMode, MotorController, Telemetry


def drive_of(axis: AxisConfig) -> Callable[[float], float]:
    """From a wanted speed of a wheel to what the firmware is told, both in rad/s. A speed that is not finite comes out not
    finite. Plain floats, worked out beforehand: every command goes through here."""
    forward, backward = axis.forward, axis.backward
    sign = -1.0 if axis.reversed else 1.0
    least_up, slope_up, friction_up, band_up = 0.5 * forward.slowest, 1 / forward.gain, forward.friction, forward.dead_band
    least_down, slope_down = -0.5 * backward.slowest, 1 / backward.gain
    friction_down, band_down = backward.friction, backward.dead_band

    def command(speed: float) -> float:
        if speed > 0.0:
            if speed < least_up:
                return 0.0
            drive = speed * slope_up + friction_up
            return sign * (band_up if drive < band_up else drive)
        if speed > least_down or speed == 0.0:
            return 0.0
        drive = friction_down - speed * slope_down
        return -sign * (band_down if drive < band_down else drive)

    return command


class CalibratedMotors:
    """A :class:`~firmware_bridge.controller.MotorController` whose axes do what they are told; all else is that of the
    controller behind it. Encoders that count the wrong way are set right in the telemetry."""

    def __init__(self, controller: MotorController, axes: Mapping[str, AxisConfig]) -> None:
        """axes: the calibration, by name; an axis without one is taken to be perfect."""
        self._controller = controller
        found = [axes.get(name) for name in controller.axes]
        self._commands: tuple[Callable[[float], float], ...] = tuple(
            _unchanged if axis is None else drive_of(axis) for axis in found
        )
        self._signs = tuple(-1.0 if axis is not None and axis.encoder_reversed else 1.0 for axis in found)
        self._turned = any(sign < 0.0 for sign in self._signs)
        self._raw: Telemetry | None = None
        self._seen: Telemetry | None = None
        self.describe = controller.describe
        self.identity = controller.identity
        self.connect = controller.connect
        self.arm = controller.arm
        self.disarm = controller.disarm
        self.estop = controller.estop
        self.clear_estop = controller.clear_estop
        self.heartbeat = controller.heartbeat
        self.close = controller.close

    @property
    def axes(self) -> tuple[str, ...]:
        return self._controller.axes

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        """targets: wanted wheel speeds, rad/s."""
        commands = [command(target) for command, target in zip(self._commands, targets, strict=True)]
        self._controller.send(commands, valid_until_ns)

    def telemetry(self) -> Telemetry:
        """The newest telemetry, with forward as forward."""
        raw = self._controller.telemetry()
        if not self._turned:
            return raw
        seen = self._seen
        if raw is not self._raw or seen is None:
            position = tuple(sign * value for sign, value in zip(self._signs, raw.position))  # noqa: B905 (empty offline)
            velocity = tuple(sign * value for sign, value in zip(self._signs, raw.velocity))  # noqa: B905
            self._raw, self._seen = raw, (seen := replace(raw, position=position, velocity=velocity))
        return seen


def action_axis(name: str, low: float, high: float, found: AxisConfig | None, board: Axis | None = None) -> ActionAxis:
    """One axis of the action space, with what its motor can do where that was measured, and no more than the board lets it do.
    low, high: at -1 and +1, in the unit of the controller. board: the axis as the board says it, where it keeps the motor to less
    than the motor can."""
    if board is None:
        bottom, top, slew = -math.inf, math.inf, math.inf
    else:
        bottom, top = board.low, board.high
        slew = board.max_acceleration if board.mode is AxisMode.VELOCITY else board.max_speed
    if found is None:
        return ActionAxis(name, low, high, bottom, top, slew)
    up, down = (-bottom, top) if found.reversed else (top, -bottom)
    forward, backward = _fastest(found.forward, up), _fastest(found.backward, down)
    followed = math.inf if found.max_slew is None else found.max_slew
    slew = min(followed, slew * min(found.forward.gain, found.backward.gain))
    return ActionAxis(name, low, high, -backward, forward, slew)


def _fastest(way: WayConfig, command: float) -> float:
    """With commands up to this one: the inverse of what :func:`drive_of` does."""
    return min(way.max_speed, way.gain * max(0.0, command - way.friction))


def check_names(axes: Mapping[str, AxisConfig], names: Sequence[str]) -> None:
    """Raises ConfigError for a calibration of an axis that the robot does not have."""
    for name in axes:
        if name not in names:
            raise ConfigError(f"[axes.{name}] is for no axis of this robot (its axes are {', '.join(names)}): correct the name")


def _unchanged(speed: float) -> float:
    return speed
