"""Motors behind a controller that has no latentloop firmware: one thread owns its port, polls it and guards it.

The guard stands in for the firmware's: nothing moves unless armed, alive and commanded in time, targets are limited here, stops
and faults are latched. It lives as long as this process; what then still protects is said per controller in docs/drivers.md.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from firmware_bridge import usb_ports
from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState, Identity, LinkCounts, Telemetry
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.device import Device, Reading
from firmware_bridge.drivers.guard import Guard
from firmware_bridge.drivers.setpoint import Setpoint
from firmware_bridge.drivers.spec import Spec
from firmware_bridge.simulated_port import is_announced

log = logging.getLogger(__name__)

SILENCE_NS = 300_000_000
"""Without a reading for so long the device counts as lost."""
BACKOFF_S = (0.1, 2.0)
CLOSING_S = 2.0
"""A closing controller comes to a stand by its acceleration limits for at most so long."""
CLEARING_S = 3.0
"""Clearing may include that a device is watched until its own watchdog has shown itself."""
_MOVING = (FirmwareState.ACTIVE, FirmwareState.SAFE_STOP)
"""A fault is not ramped down from: the motors rest at once, as with the firmware."""


@dataclass(slots=True)
class _Asked:
    """Something that the loop's thread must do for another one."""

    withdrawn: int
    done: threading.Event = field(default_factory=threading.Event)
    refusal: str = ""


class ServoLoop:
    """A :class:`~firmware_bridge.controller.MotorController` over a :class:`~firmware_bridge.drivers.device.Device`.

    spec: where the device came from. asked: what targets mean for position motors: a position, or a velocity that is integrated
    inside of the range. rate_hz: turns per second; each turn commands once and reads once.
    """

    def __init__(self, device: Device, spec: Spec, *, asked: AxisMode = AxisMode.POSITION, rate_hz: float = 50.0) -> None:
        self._device = device
        self._spec = spec
        self._where = spec.port
        self._asked = asked
        self._names = tuple(axis.name for axis in device.axes)
        self._period_s = 1.0 / rate_hz

        self._lock = threading.Lock()  # guards everything down to the blank line
        self._guard = Guard()
        self._withdrawn = 0  # times somebody disarmed or stopped; an arming under way must not outlive one
        self._stops = 0  # times somebody stopped; a clearing under way must not outlive one
        self._arming: _Asked | None = None
        self._clearing: _Asked | None = None
        self._targets: tuple[float, ...] | None = None
        self._reading: Reading | None = None
        self._read_ns = self._measured_ns = 0
        self._firmware = ""
        self._identity: Identity | None = None
        self._held_back = 0
        self._counts = LinkCounts()
        self._trouble = ""

        self._setpoints: tuple[Setpoint, ...] = ()
        self._resting = False
        self._advanced_ns = 0
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    # -- MotorController ---------------------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[str, ...]:
        return self._names

    def describe(self) -> tuple[Axis, ...]:
        if self._thread is None:
            raise BridgeError(f"not connected to {self._where}: call connect first")
        if self._asked is AxisMode.POSITION:
            return self._device.axes
        return tuple(
            replace(axis, mode=AxisMode.VELOCITY, unit=f"{axis.unit}/s", low=-axis.max_speed, high=axis.max_speed)
            if axis.mode is AxisMode.POSITION
            else axis
            for axis in self._device.axes
        )

    @property
    def stop_cause(self) -> str:
        """Why the motors stopped last, for a person."""
        return self._guard.cause

    @property
    def unprovable(self) -> str:
        """Why it cannot be shown that the device stops when this computer is dead; empty where it can."""
        return self._device.unprovable

    @property
    def untestable(self) -> str:
        """Why the device is not moved for a test at all; empty where it may be."""
        return self._device.untestable

    def identity(self) -> Identity:
        with self._lock:
            if self._identity is None or self._guard.state is FirmwareState.OFFLINE:
                raise BridgeError(f"not connected to {self._where}: {self._trouble or 'call connect first'}")
            return self._identity

    def connect(self, timeout_s: float = 3.0) -> None:
        if self._closing.is_set():
            raise BridgeError(f"the link to {self._where} was closed: make a new one")
        if self._thread is not None:
            return
        self._open(timeout_s)
        self._thread = threading.Thread(target=self._run, name="bridge-servo-loop", daemon=True)
        self._thread.start()

    def arm(self, timeout_s: float = 1.0) -> None:
        """See MotorController. Motors are switched on where they stand. The loop must be alive already (``heartbeat``)."""
        with self._lock:
            if self._guard.state is FirmwareState.ACTIVE:
                return
            self._may_arm()
            request = self._arming = _Asked(self._withdrawn)
        self._await(request, timeout_s, "arming")

    def disarm(self) -> None:
        with self._lock:
            self._withdrawn += 1
            self._guard.disarm()
        self._wake.set()

    def estop(self, reason: int = 1) -> None:
        with self._lock:
            self._withdrawn += 1
            self._stops += 1
            self._guard.estop()
        self._device.urgent.set()
        self._wake.set()

    def clear_estop(self) -> None:
        """See MotorController. Also clears a latched fault that is gone, and with it the errors of the device."""
        with self._lock:
            self._guard.may_clear()
            request = self._clearing = _Asked(self._stops)
        self._await(request, CLEARING_S, "clearing")

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        """See MotorController. Never blocks: the loop's thread does the talking. While armed, send at every turn of the control
        loop, also to stand still: a command that runs out is a stop."""
        if len(targets) != len(self._names):
            raise BridgeError(f"{len(targets)} targets for the axes {', '.join(self._names)}: give one each")
        for name, target in zip(self._names, targets, strict=True):
            if not math.isfinite(target):
                raise BridgeError(f"the target of {name} is {target}: give a finite number")
        with self._lock:
            if self._guard.state is not FirmwareState.ACTIVE or valid_until_ns <= time.monotonic_ns():
                self._held_back += 1
                return
            self._targets = tuple(targets)
            self._guard.commanded(valid_until_ns)

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        with self._lock:
            self._guard.beat(alive_until_ns, engaged)

    def telemetry(self) -> Telemetry:
        with self._lock:
            state, reading = self._guard.state, self._reading
            counts = replace(self._counts, dropped=self._counts.dropped + self._held_back)
            if reading is None:
                return Telemetry(state, (), (), (), 0, self._firmware, (), counts)
            faults = tuple(dict.fromkeys((*self._guard.faults, *reading.faults)))
            return Telemetry(
                state,
                reading.position,
                reading.velocity,
                reading.current,
                self._read_ns,
                self._firmware,
                faults,
                counts,
                self._measured_ns,
                reading.health,
                stop_cause=self._guard.cause or "none",
            )

    def close(self) -> None:
        """See MotorController. Waits until the motors stand, a few seconds at most."""
        self.disarm()
        self._closing.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # -- the loop's own thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff_s = BACKOFF_S[0]
        while not self._closing.is_set():
            try:
                if self._guard.state is FirmwareState.OFFLINE:
                    self._open(1.0)
                    log.info("connected again to %s; not armed", self._where)
                backoff_s = BACKOFF_S[0]
                self._serve()
            except Exception as error:
                if not isinstance(error, BridgeError):
                    log.exception("the link to %s broke on a bug: it is made anew, it must not only look alive", self._where)
                self._lose(str(error))
                self._closing.wait(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S[1])
        self._leave()

    def _serve(self) -> None:
        """Turn after turn until the device is lost or this is closed; a late turn does not make the next one early."""
        next_ns = time.monotonic_ns()
        closing_by_ns = 0
        while True:
            now_ns = time.monotonic_ns()
            if self._closing.is_set():
                closing_by_ns = closing_by_ns or now_ns + round(CLOSING_S * 1e9)
                if self._guard.state is not FirmwareState.SAFE_STOP or now_ns > closing_by_ns:
                    return
            self._turn(now_ns)
            next_ns = max(next_ns + round(self._period_s * 1e9), time.monotonic_ns())
            self._wake.wait(max(0.0, (next_ns - time.monotonic_ns()) / 1e9))
            self._wake.clear()

    def _turn(self, now_ns: int) -> None:
        with self._lock:
            self._guard.step(now_ns, all(each.speed == 0.0 for each in self._setpoints))
            state = self._guard.state
            targets = self._targets if state is FirmwareState.ACTIVE else None
        try:
            self._act(state, targets, now_ns)
            self._read()
            self._serve_requests()
        except NoAnswer as error:
            self._note_counts()
            if time.monotonic_ns() - self._read_ns > SILENCE_NS:
                raise BridgeError(f"{self._where} does not answer any more ({error}): see to its power and cable") from None

    def _act(self, state: FirmwareState, targets: tuple[float, ...] | None, now_ns: int) -> None:
        elapsed_s = (now_ns - self._advanced_ns) / 1e9
        self._advanced_ns = now_ns
        if state is FirmwareState.ESTOP:  # again at every turn: the line may be noisy, a motor may restart
            self._device.urgent.clear()
            self._device.cut()
            self._setpoints, self._resting = (), True
            return
        if state in _MOVING and self._setpoints:
            wanted = targets or (None,) * len(self._setpoints)
            values = [each.advance(target, elapsed_s) for each, target in zip(self._setpoints, wanted, strict=True)]
            self._device.command(values)
        elif self._setpoints or not self._resting:
            self._setpoints = ()
            self._device.rest()
            self._resting = True

    def _read(self) -> None:
        asked_ns = time.monotonic_ns()
        reading = self._device.read()
        now_ns = time.monotonic_ns()
        faults = reading.faults
        if reading.energised is False and self._guard.state is FirmwareState.ACTIVE:
            faults = (*faults, "a motor lost its power or restarted")
        with self._lock:
            self._reading, self._read_ns, self._measured_ns = reading, now_ns, (asked_ns + now_ns) // 2
            self._guard.fault(faults)
        self._note_counts()

    def _serve_requests(self) -> None:
        with self._lock:
            arming, self._arming = self._arming, None
            clearing, self._clearing = self._clearing, None
        if clearing is not None:
            self._answer(clearing, lambda: self._clear(clearing))
        if arming is not None:
            self._answer(arming, lambda: self._arm(arming))

    def _answer(self, request: _Asked, do: Callable[[], None]) -> None:
        try:
            do()
        except NoAnswer as error:
            request.refusal = f"{self._where} did not answer ({error}): try again"
        except BridgeError as error:
            request.refusal = str(error)
        finally:
            request.done.set()

    def _arm(self, request: _Asked) -> None:
        reading = self._reading
        assert reading is not None
        with self._lock:
            self._guard.may_arm(time.monotonic_ns())
            self._targets = None
        self._resting = False
        try:
            self._device.enable(reading)
        except BridgeError:
            self._device.rest()
            raise
        setpoints = tuple(Setpoint(axis, self._asked_of(axis)) for axis in self._device.axes)
        for setpoint, position in zip(setpoints, reading.position, strict=True):
            setpoint.start(position)
        with self._lock:
            if request.withdrawn != self._withdrawn:
                raise BridgeError("arming was called off by a stop or disarming: look and try again")
            self._guard.armed(time.monotonic_ns())
            self._setpoints, self._advanced_ns = setpoints, time.monotonic_ns()
        self._read()

    def _asked_of(self, axis: Axis) -> AxisMode:
        return AxisMode.VELOCITY if axis.mode is AxisMode.VELOCITY else self._asked

    def _clear(self, request: _Asked) -> None:
        self._device.clear()
        self._resting = False
        self._read()
        with self._lock:
            if request.withdrawn != self._stops:
                raise BridgeError("clearing was called off by a stop: look and clear again")
            self._guard.clear()

    def _open(self, timeout_s: float) -> None:
        self._device.urgent.clear()
        try:
            firmware = self._device.open(timeout_s)
            self._resting, self._setpoints = False, ()
            self._read_ns = time.monotonic_ns()
            self._read()
            identity = self._identify(firmware)
        except BaseException:
            self._device.close()
            raise
        with self._lock:
            self._firmware, self._identity, self._trouble = firmware, identity, ""
            self._guard.linked()

    def _lose(self, why: str) -> None:
        self._leave()
        with self._lock:
            changed, self._trouble = self._trouble != why, why
        if changed:
            log.warning("the link to %s is down: %s", self._where, why)

    def _leave(self) -> None:
        """Say stop once more, for what says nothing may still hear, and close the port."""
        with self._lock:
            state = self._guard.state
            self._guard.lost()
        try:
            if state is FirmwareState.ESTOP:
                self._device.cut()
            elif state is not FirmwareState.OFFLINE:
                self._device.rest()
        except BridgeError:
            pass
        self._device.close()

    # -- small parts -------------------------------------------------------------------------------------------------

    def _identify(self, firmware: str) -> Identity:
        uid, spec = self._device.uid, self._spec
        limits = [(a.mode, a.unit, a.low, a.high, a.max_speed, a.max_acceleration) for a in self._device.axes]
        options = sorted(each for each in spec.options.items() if each[0] != "command")  # what targets mean limits nothing
        settings = json.dumps([limits, options])  # gears, ticks and signs are limits, too
        return Identity(
            spec.kind,
            uid or usb_ports.name_behind(spec.port),
            bool(uid),
            firmware,
            f"{zlib.crc32(settings.encode()):08x}",
            is_announced(spec.port),
            spec.text,
        )

    def _await(self, request: _Asked, timeout_s: float, what: str) -> None:
        self._wake.set()
        if not request.done.wait(timeout_s):
            self.disarm()
            raise BridgeError(f"{what} was not answered by {self._where} in {timeout_s:g} s: see to its power and cable")
        if request.refusal:
            raise BridgeError(request.refusal)

    def _may_arm(self) -> None:
        try:
            self._guard.may_arm(time.monotonic_ns())
        except BridgeError as error:
            raise BridgeError(f"{error} ({self._trouble})" if self._trouble else str(error)) from None

    def _note_counts(self) -> None:
        counts = self._device.counts()
        with self._lock:
            self._counts = counts
