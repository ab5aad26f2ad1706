"""The last steps of a command in injected time: supervisor, calibration, the firmware's slew, and wheels with faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge.bench.world import DELAY_S
from edge.clock import NS_PER_S, FakeClock
from edge.config import AxisConfig, SafetyConfig
from edge.messages import Belief, Floats, Plan
from edge.motors import CalibratedMotors, action_axis
from edge.safety import Supervisor
from edge.worlds.rover import SPEC, STEP_S, Rover
from edge.worlds.wheels import Drivetrain, Wheel
from firmware_bridge.controller import Axis, AxisMode, FirmwareState, Identity, Telemetry

AXES = ("left", "right")
_NOTHING = np.zeros((1, 1), dtype=np.float32)
_STILL = (0.0, 0.0)


class _Device:
    """A MotorController that keeps the newest targets, rad/s, and is always in order."""

    axes = AXES

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._state = FirmwareState.LINKED
        self.targets: tuple[float, ...] = _STILL

    def describe(self) -> tuple[Axis, ...]:
        top = SPEC.max_wheel_speed
        return tuple(Axis(name, AxisMode.VELOCITY, "rad/s", -top, top, top, SPEC.max_wheel_acceleration) for name in AXES)

    def identity(self) -> Identity:
        return Identity("bench", "", False, "", "", True, "")

    def connect(self, timeout_s: float = 3.0) -> None: ...

    def arm(self, timeout_s: float = 1.0) -> None:
        self._state = FirmwareState.ACTIVE

    def disarm(self) -> None:
        self._state = FirmwareState.LINKED

    def estop(self, reason: int = 1) -> None:
        self._state = FirmwareState.ESTOP

    def clear_estop(self) -> None:
        self._state = FirmwareState.LINKED

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        self.targets = tuple(targets)

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None: ...

    def telemetry(self) -> Telemetry:
        return Telemetry(self._state, _STILL, _STILL, _STILL, self._clock.now_ns())

    def close(self) -> None: ...


class WornMotors:
    """A :class:`~edge.bench.world.Motors`: the runtime's own supervisor and calibration in front of wheels with faults.

    axes: what a calibration has found, by name; none for motors that are taken to be perfect.
    """

    def __init__(self, wheels: Sequence[Wheel], axes: Mapping[str, AxisConfig], seed: int = 0) -> None:
        self._clock = FakeClock(start_ns=NS_PER_S)
        self._device = _Device(self._clock)
        top = SPEC.max_wheel_speed
        self._supervisor = Supervisor(
            CalibratedMotors(self._device, axes) if axes else self._device,
            tuple(action_axis(name, -top, top, axes.get(name)) for name in AXES),
            SafetyConfig(),
            self._clock,
            round(STEP_S * NS_PER_S),
        )
        self._train = Drivetrain(wheels, SPEC.dt, seed)
        self._output = [0.0, 0.0]
        self._decide(np.zeros(2, dtype=np.float32))
        self._supervisor.arm()

    def act(self, rover: Rover, action: Floats) -> Floats:
        """See Motors."""
        before = self._device.targets
        done = self._decide(action)
        self._turn(rover, DELAY_S, before)
        self._turn(rover, STEP_S - DELAY_S, self._device.targets)
        return done

    def _decide(self, action: Floats) -> Floats:
        self._clock.advance_ns(round(STEP_S * NS_PER_S))
        belief = Belief(_NOTHING, None, _NOTHING[None], np.zeros((0, 2), dtype=np.float32), self._clock.now_ns(), 0)
        command = self._supervisor.decide(Plan(action[None], 0.0, 0.0, 0, 0, "goal", False), belief, (), None)
        return np.zeros_like(action) if command is None else command.action

    def _turn(self, rover: Rover, seconds: float, targets: Sequence[float]) -> None:
        change, top = SPEC.max_wheel_acceleration * SPEC.dt, SPEC.max_wheel_speed
        for _ in range(round(seconds / SPEC.dt)):
            for place, target in enumerate(targets):
                missing = max(-top, min(top, target)) - self._output[place]
                self._output[place] += max(-change, min(change, missing))
            rover.coast(SPEC.dt, np.array([self._train.step(self._output, rover.wheels[0].tolist())]))
