"""Motors behind a latentloop firmware on a serial port.

The lease is fed only until the time that the control loop last gave with ``heartbeat``; nobody else can keep the motors alive.
Nothing here arms by itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firmware_bridge.board_settings import NONE, Value, checked
from firmware_bridge.controller import Axis, BridgeError, FirmwareState, Identity, Knot, Telemetry
from firmware_bridge.device import LATENTLOOP
from firmware_bridge.link import LinkLost
from firmware_bridge.link_keeper import LinkKeeper, Wanted
from firmware_bridge.messages import Arm, Code, Disarm, Estop, EstopClear, State, Stats
from firmware_bridge.trajectory import check_knots

ESTOP_COPIES = 3
COMMON_BAUD = 1_000_000
"""What a command assumes when it is told nothing."""


@dataclass(frozen=True, slots=True)
class AxisLimits:
    """speed: rad/s. acceleration: rad/s^2."""

    speed: float
    acceleration: float


class SerialController:
    """A :class:`~firmware_bridge.controller.TrajectoryController` over a serial port. All calls are thread-safe.

    port: path, ``usb:VID:PID[:SERIAL]`` or pyserial URL. axes: the names the device must report. lease_s: how long motors may
    move without news from the host (the device has its own upper limit). state_hz: how often the device reports. settings: limits
    and parameters by name (:mod:`firmware_bridge.board_settings`) that are put in force in every session; what the device does not
    take is a BridgeError of ``connect``, and later keeps the link down.
    """

    def __init__(
        self,
        port: str,
        axes: Sequence[str] = ("left", "right"),
        *,
        baud: int = 115_200,
        lease_s: float = 0.1,
        state_hz: float = 50.0,
        settings: Mapping[str, Value] = NONE,
    ) -> None:
        if not 0.05 <= lease_s <= 0.5:
            raise ValueError(f"a lease lasts 0.05 to 0.5 s, not {lease_s}")
        if not 1.0 <= state_hz <= 200.0:
            raise ValueError(f"state_hz lies between 1 and 200, not {state_hz}")
        self._port = port
        self._axes = tuple(axes)
        self._spec = port if baud == COMMON_BAUD else f"{LATENTLOOP}:{port}?baud={baud}"
        wanted = Wanted(port, baud, self._axes, int(lease_s * 1e9), round(1000 / state_hz), checked(settings))
        self._keeper = LinkKeeper(wanted)
        self._permission = self._keeper.permission
        self._limited = 0

    # -- MotorController -------------------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[str, ...]:
        return self._axes

    def describe(self) -> tuple[Axis, ...]:
        with self._keeper.lock:
            return self._keeper.online().describe()

    def identity(self) -> Identity:
        with self._keeper.lock:
            device = self._keeper.online()
        return device.identity(self._spec)

    def connect(self, timeout_s: float = 3.0) -> None:
        """Open the port and shake hands; from then on the link is kept up by itself.

        Blocks timeout_s at most. Raises BridgeError: no such port, no permission, port in use, no latentloop firmware,
        wrong version, wrong axes, no answer.
        """
        if self._keeper.closed:
            raise BridgeError(f"the link to {self._port} was closed: make a new one")
        self._keeper.start(timeout_s)

    def arm(self, timeout_s: float = 1.0) -> None:
        """See MotorController. The loop must be alive already (``heartbeat``) and must engage within a second."""
        with self._keeper.lock:
            device = self._keeper.online()
            if self._permission.stop_reason is not None:
                raise BridgeError("the motors were stopped with estop: clear it first")
            if self._permission.permitted and device.state is State.ACTIVE:
                return
            if not device.session.settled and device.state not in (State.ESTOP, State.FAULT):
                raise BridgeError(f"the limits wanted of {self._port} are not in force yet, it is still stopping: try again")
            if not self._permission.alive(time.monotonic_ns()):
                raise BridgeError("the motors cannot be armed because no control loop is alive: start it first")
            self._permission.permitted = True
            try:
                self._keeper.feed_lease(device, time.monotonic_ns())  # it may not have had its turn since the loop came alive
                request = device.request(Arm(device.session.limits_crc, device.session.boot_id))
            except LinkLost as error:
                self._permission.permitted = False
                raise BridgeError(f"the link to {self._port} is down: {error}") from None
        request.done.wait(timeout_s)
        with self._keeper.lock:
            if request.code is None:
                self.disarm()
                raise BridgeError(f"ARM was not answered by {self._port}, or called off: it was disarmed again")
            if request.code != Code.OK:
                self._permission.permitted = False
                raise BridgeError(f"the firmware refuses to arm: {device.reason(request.code)}")
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while self.telemetry().state is not FirmwareState.ACTIVE:  # the answer comes before the STATE that shows it
            if time.monotonic_ns() >= deadline_ns:
                self.disarm()
                raise BridgeError(f"the firmware armed and stopped again: {self.stop_cause}")
            time.sleep(0.002)

    def disarm(self) -> None:
        """See MotorController. From now on leases say "not engaged", which ends motion even if DISARM is lost."""
        with self._keeper.lock:
            self._keeper.withdraw()
            try:
                if self._keeper.device is not None:
                    self._keeper.device.request(Disarm())
            except LinkLost:
                pass  # nobody there to disarm: the lease ends by itself

    def estop(self, reason: int = 1) -> None:
        """See MotorController. Sent three times at once, and again every 20 ms until the device confirms.

        The lease is not fed any more until :meth:`clear_estop`.
        """
        with self._keeper.lock:
            self._permission.stop(reason)
            self._keeper.withdraw()
            device = self._keeper.device
        if device is not None:
            try:
                for _ in range(ESTOP_COPIES):
                    device.link.send(Estop(reason & 0xFF), 0)
            except LinkLost:
                pass  # repeated when the link is back

    def clear_estop(self) -> None:
        """See MotorController. Raises BridgeError when nothing is latched."""
        with self._keeper.lock:
            device = self._keeper.online()
            challenge = 0 if device.reports.newest is None else device.reports.newest.challenge
            if challenge == 0:
                if self._permission.stop_reason is not None:
                    raise BridgeError("the stop has not been confirmed by the firmware yet: try again")
                raise BridgeError("the firmware has no stop or fault to clear")
            self._permission.stop_reason = None
            try:
                device.request(EstopClear(challenge))
            except LinkLost as error:
                raise BridgeError(f"the link to {self._port} is down: {error}") from None

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        """See MotorController. Blocks for 5 ms at most, when the line is stuck.

        Targets beyond the range of their axis (:meth:`describe`) are clamped and counted in :attr:`limited`. While the device
        is not ACTIVE, or when valid_until_ns is past, the command is held back and counted as dropped. While armed, send at
        every turn of the loop, also to stand still: a command that runs out is a stop. Raises BridgeError on a wrong number
        of targets or one that is not finite.
        """
        check_targets(self._axes, targets)
        now_ns = time.monotonic_ns()
        with self._keeper.lock:
            device = self._keeper.device
            active = device is not None and self._permission.permitted and device.state is State.ACTIVE
            if device is None or not active or valid_until_ns <= now_ns:
                self._keeper.hold_back()
                return
            try:
                self._limited += device.command(targets, valid_until_ns, now_ns)
            except LinkLost:
                self._keeper.hold_back()

    def most_knots(self) -> int:
        with self._keeper.lock:
            return max(0, self._keeper.online().session.trajectory_points - 1)  # one is for where the old motion is cut

    def follow(self, knots: Sequence[Knot], replace_from_ns: int | None = None) -> None:
        """See TrajectoryController. Blocks for 5 ms at most, when the line is stuck. Knots beyond the limits of their axis are
        clamped and counted in :attr:`limited`."""
        now_ns = time.monotonic_ns()
        with self._keeper.lock:
            device = self._keeper.device
            if device is None:
                self._keeper.hold_back()
                return
            check_knots(self._axes, knots, self.most_knots(), now_ns)
            coming = [knot for knot in knots if knot.at_ns > now_ns]
            if not (coming and self._permission.permitted and device.state is State.ACTIVE):
                self._keeper.hold_back()
                return
            try:
                self._limited += device.follow(coming, now_ns if replace_from_ns is None else replace_from_ns, now_ns)
            except LinkLost:
                self._keeper.hold_back()

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        with self._keeper.lock:
            self._permission.beat(alive_until_ns, engaged)

    def telemetry(self) -> Telemetry:
        return self._keeper.telemetry

    def close(self) -> None:
        """See MotorController. Waits for the thread, half a second at most."""
        if not self._keeper.closed:
            self.disarm()
        self._keeper.close()

    # -- beyond the contract ---------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why the link is down or the last request was refused, one sentence; empty when all is well."""
        with self._keeper.lock:
            device = self._keeper.device
            return self._keeper.trouble or ("" if device is None else device.trouble)

    @property
    def stop_cause(self) -> str:
        """Why the firmware last stopped the motors: the name of a StopCause in lower case, "none" if it did not."""
        return self._keeper.telemetry.stop_cause

    @property
    def clock_error_bound_ns(self) -> int | None:
        """How far off the host's idea of device time may be; None while not connected."""
        with self._keeper.lock:
            device = self._keeper.device
            return None if device is None else device.session.clock.error_bound_ns(time.monotonic_ns())

    @property
    def last_ack_latency_ns(self) -> int | None:
        """From ``send`` to the moment the device applied that command, for the newest command known to be applied; right
        within the bound of :class:`~firmware_bridge.controller.Applied`. None before the first."""
        applied = self._keeper.telemetry.applied
        return None if applied is None else applied.applied_ns - applied.sent_ns

    @property
    def limits(self) -> tuple[AxisLimits, ...]:
        """What the device allows each axis, as it told in the handshake. Raises BridgeError while not connected."""
        with self._keeper.lock:
            found = self._keeper.online().session.axes
            return tuple(AxisLimits(axis.max_speed / 1000, axis.max_acceleration / 1000) for axis in found)

    @property
    def limited(self) -> int:
        """Commands that asked for more than the device's limits and were clamped here."""
        return self._limited

    @property
    def device_counts(self) -> Stats | None:
        """The device's own counters, at most a second old while connected; None before the first."""
        return self._keeper.stats


def check_targets(axes: Sequence[str], targets: Sequence[float]) -> None:
    """Raises BridgeError unless there is one finite target for each axis."""
    if len(targets) == len(axes) and all(map(math.isfinite, targets)):
        return
    if len(targets) != len(axes):
        raise BridgeError(f"{len(targets)} targets for the axes {', '.join(axes)}: give one each")
    for axis, target in zip(axes, targets, strict=True):
        if not math.isfinite(target):
            raise BridgeError(f"the target of {axis} is {target}: give a finite number")
