"""Short, bounded, leased movements of one axis, and what the encoders said meanwhile. Whatever is in doubt ends them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bridge import gate
from edge.clock import NS_PER_S, Clock
from edge.errors import UserError
from firmware_bridge.controller import BridgeError, FirmwareState, MotorController, Telemetry

Doubles = NDArray[np.float64]

TURN_NS = 5_000_000
COMMAND_EVERY_TURNS = 2
"""100 commands a second; with the leases that is below what the protocol allows."""
HELD_UP_NS = 60_000_000
"""A pause this long, of this program or of the device's reports, spoils a movement."""
TRIES = 8
OTHER_RAD = 0.05
"""Another axis that turns so far while this one is moved is no vibration."""
HANDED_OVER_NS = 15_000_000
"""The times of a movement count from its first command: one that took longer to hand over spoils it too."""
COMES_BACK_NS = 1_500_000_000
"""A device that was lost for longer, by turns of this program and not by the clock alone, stays lost."""
REST_S, REST_LOOKS = 0.15, 33
REST_RAD = 0.002
"""An axis rests when it turns no further within REST_S; coasting wheels are looked at so often, for 5 s at least."""
_HELD_UP = frozenset({"lease_expired", "command_expired", "disengaged", "new_session"})


class Doubt(UserError):
    """The calibration was stopped, and the motors with it; the message names the axis and what to do."""


class _HeldUp(Exception):
    """This movement says nothing, because the machine or the line was held up; it may be repeated."""


@dataclass(frozen=True, slots=True)
class Record:
    """One movement, times in s since it began. sent_s, command: float64 (M,), each command and when it was handed over,
    rad/s. seen_s: float64 (N,), when the device took each reading. angle: float64 (N, axes), rad."""

    sent_s: Doubles
    command: Doubles
    seen_s: Doubles
    angle: Doubles


class Mover:
    """Moves one axis at a time, all others told to stand still.

    top: rad/s per axis; nothing above is ever commanded, whatever is asked for. lease_ns: how long a command counts.
    """

    def __init__(self, motors: MotorController, clock: Clock, top: Sequence[float], lease_ns: int) -> None:
        self._motors = motors
        self._clock = clock
        self._top = tuple(top)
        self._lease_ns = lease_ns
        self.held_up = 0
        """Movements that were repeated because something held up the machine."""

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """The motors may move inside; however it is left, they are disarmed. Only after an explicit act of a person."""
        try:
            self._again(lambda: _EMPTY, ready=False)
            yield
        finally:
            self._motors.disarm()

    def hold(self, axis: int, command: float, seconds: float, run_up_s: float = 0.0) -> Record:
        """One constant command, rad/s. The axis goes on turning afterwards, until the lease ends: move or rest.

        run_up_s: so much longer where it has to be repeated, because it then begins from rest.
        """

        def move(seconds: float) -> Record:
            return self._move(axis, lambda t: command if t < seconds else None)

        return self._again(lambda: move(seconds), lambda: move(seconds + run_up_s))

    def ramp(self, axis: int, start: float, rate: float, end: float, moved_rad: float) -> Record:
        """A command that grows from start by rate (rad/s^2) to end, or until the axis has moved; then rest."""

        def program(t: float) -> float | None:
            command = start + rate * t
            return command if abs(command) <= abs(end) else None

        record = self._again(lambda: self._move(axis, program, moved_rad))
        self.rest()
        return record

    def step(self, axis: int, command: float, seconds: float) -> Record:
        """From rest to one command and back to rest; the record is of the way there."""

        def move() -> Record:
            record = self._move(axis, lambda t: command if t < seconds else None)
            self._rest()
            return record

        return self._again(move)

    def rest(self) -> None:
        """Wait until nothing turns. Raises Doubt if something does not stop."""

        def move() -> Record:
            self._rest()
            return _EMPTY

        self._again(move)

    # -- one movement ------------------------------------------------------------------------------------------------

    def _again(
        self, move: Callable[[], Record], repeat: Callable[[], Record] | None = None, ready: bool = True
    ) -> Record:
        """A movement, repeated from rest while something holds it up, TRIES times in all. repeat: where that is another one.
        ready: armed already. Raises Doubt, or the last BridgeError."""
        refused: BridgeError | None = None
        why = ""
        for _ in range(TRIES):
            try:
                if not ready:
                    self._motors.disarm()
                    self._arm()
                    self._rest()  # whatever still coasts would look like an answer to the next command
                return move()
            except _HeldUp as error:
                refused, why = None, str(error)
            except BridgeError as error:
                refused = error
            self.held_up += 1
            ready, move = False, repeat or move
        if refused is not None:
            raise refused
        raise Doubt(f"the calibration was held up {TRIES} times in a row ({why}): end other programs on this machine")

    def _move(self, axis: int | None, program: Callable[[float], float | None], moved_rad: float = np.inf) -> Record:
        """axis: None to tell all to stand still, whatever they still do."""
        clock = self._clock
        began = turn_ns = clock.now_ns()
        targets = [0.0] * len(self._top)
        sent: list[tuple[int, float]] = []
        seen: list[tuple[int, tuple[float, ...]]] = []
        at_first: tuple[float, ...] | None = None
        turn = 0
        while True:
            now = clock.now_ns()
            if now - turn_ns > HELD_UP_NS:
                raise _HeldUp(f"this program stood still for {(now - turn_ns) / 1e6:.0f} ms")
            turn_ns = now
            telemetry = self._motors.telemetry()
            self._check(telemetry, now)
            if at_first is None:
                at_first = telemetry.position
            if telemetry.measured_ns >= began and (not seen or telemetry.measured_ns != seen[-1][0]):
                seen.append((telemetry.measured_ns, telemetry.position))
                if axis is not None:
                    self._check_others(axis, at_first, telemetry.position)
            command = program((now - began) / NS_PER_S)
            if command is None or (axis is not None and abs(telemetry.position[axis] - at_first[axis]) > moved_rad):
                break
            self._motors.heartbeat(now + self._lease_ns, True)
            if turn % COMMAND_EVERY_TURNS == 0:
                if axis is not None:
                    targets[axis] = command = max(-self._top[axis], min(self._top[axis], command))
                self._motors.send(targets, now + self._lease_ns)
                if not sent and (late_ns := clock.now_ns() - began) > HANDED_OVER_NS:
                    raise _HeldUp(f"this program took {late_ns / 1e6:.0f} ms to hand over a command")
                sent.append((now, command))
            turn += 1
            clock.sleep_until_ns(now + TURN_NS)
        if len(seen) < 4:
            raise Doubt(f"the firmware reported the encoders {len(seen)} times during a movement: check the line's speed (baud)")
        return Record(
            (np.array([at for at, _ in sent], dtype=np.int64) - began) / NS_PER_S,
            np.array([command for _, command in sent]),
            (np.array([at for at, _ in seen], dtype=np.int64) - began) / NS_PER_S,
            np.array([angle for _, angle in seen]),
        )

    def _rest(self) -> None:
        turned = np.zeros(len(self._top))
        for _ in range(REST_LOOKS):
            angle = self._move(None, lambda t: 0.0 if t < REST_S else None).angle
            part = max(1, len(angle) // 3)
            turned = np.abs(angle[-part:].mean(axis=0) - angle[:part].mean(axis=0))
            if (turned < REST_RAD).all():
                return
        name = self._motors.axes[int(np.argmax(turned))]
        raise Doubt(
            f"{name} does not come to rest at command zero: check that nothing else turns it, the connections of its encoder, "
            "and the zero of its driver"
        )

    # -- doubt -------------------------------------------------------------------------------------------------------

    def _check(self, telemetry: Telemetry, now_ns: int) -> None:
        state = telemetry.state
        if state is FirmwareState.ACTIVE:
            if now_ns - telemetry.measured_ns > HELD_UP_NS:
                raise _HeldUp(f"the firmware was silent for {(now_ns - telemetry.measured_ns) / 1e6:.0f} ms")
            return
        if state is FirmwareState.FAULT:
            faults = ", ".join(telemetry.faults).replace("_", " ") or "unnamed"
            raise Doubt(f"the firmware reports a fault ({faults}): mend it, and start again")
        if state is FirmwareState.ESTOP:
            raise Doubt("an emergency stop was pressed: clear it, and start again")
        cause = telemetry.stop_cause.replace("_", " ")
        if state is FirmwareState.OFFLINE or telemetry.stop_cause in _HELD_UP:
            raise _HeldUp(f"the firmware is {state.value}, {cause}")
        raise Doubt(
            f"the firmware is {state.value} in the middle of a movement ({cause}), as after a restart: check its power supply, "
            "which motors can pull down"
        )

    def _check_others(self, axis: int, before: tuple[float, ...], now: tuple[float, ...]) -> None:
        names = self._motors.axes
        for other in range(len(names)):
            if other != axis and abs(now[other] - before[other]) > OTHER_RAD:
                raise Doubt(
                    f"{names[other]} turned while {names[axis]} was told to: their motors or their encoders are swapped, or "
                    "the wheels touch something: correct that, and start again"
                )

    def _arm(self) -> None:
        """Wait for the end of an earlier stop, and arm. Raises Doubt when the device does not come back."""
        began_ns = turn_ns = self._clock.now_ns()
        waited_ns = 0
        while True:
            now = self._clock.now_ns()
            waited_ns += min(now - turn_ns, HELD_UP_NS)  # a pause of this program is no absence of the device
            turn_ns = now
            telemetry = self._motors.telemetry()
            if telemetry.state in (FirmwareState.FAULT, FirmwareState.ESTOP):
                self._check(telemetry, now)
            if telemetry.measured_ns >= began_ns and telemetry.state in (FirmwareState.LINKED, FirmwareState.SAFE):
                break
            if waited_ns > COMES_BACK_NS:
                raise Doubt(
                    f"the firmware cannot be armed, it is {telemetry.state.value}: check cable and power, and start again; "
                    "whatever happens here, it stops the motors by itself"
                )
            self._clock.sleep_until_ns(now + TURN_NS)
        self._motors.heartbeat(now + NS_PER_S, True)
        gate.arm(self._motors)
        self._motors.heartbeat(self._clock.now_ns() + self._lease_ns, True)


_EMPTY = Record(np.empty(0), np.empty(0), np.empty(0), np.empty((0, 0)))
