"""Motors behind a latentloop firmware on a serial port.

One thread reads, keeps the link up and feeds the lease. The lease is fed only until the time that the control loop last gave
with ``heartbeat``; nobody else can keep the motors alive. Nothing here arms by itself.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from firmware_bridge.controller import Axis, BridgeError, FirmwareState, LinkCounts, Telemetry
from firmware_bridge.device import Device
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import Arm, Code, Disarm, Estop, EstopClear, State, Stats
from firmware_bridge.serial_port import open_port

log = logging.getLogger(__name__)

LEASE_EVERY_NS = 20_000_000
EARLY_NS = 4_000_000
"""A lease may be fed this much before its time when the thread is awake anyway."""
TIME_EVERY_NS = 983_900_000
"""Not a round second, so as not to beat with anything periodic."""
SILENCE_NS = 300_000_000
"""Without a STATE for so long the link counts as lost."""
HANDSHAKE_NS = 1_000_000_000
BACKOFF_S = (0.1, 2.0)
ESTOP_COPIES = 3


@dataclass(frozen=True, slots=True)
class AxisLimits:
    """speed: rad/s. acceleration: rad/s^2."""

    speed: float
    acceleration: float


class SerialController:
    """A :class:`~firmware_bridge.controller.MotorController` over a serial port. All calls are thread-safe.

    port: path, ``usb:VID:PID[:SERIAL]`` or pyserial URL. axes: the names the device must report. lease_s: how long motors may
    move without news from the host (the device has its own upper limit). state_hz: how often the device reports.
    """

    def __init__(
        self,
        port: str,
        axes: Sequence[str] = ("left", "right"),
        *,
        baud: int = 115_200,
        lease_s: float = 0.1,
        state_hz: float = 50.0,
    ) -> None:
        if not 0.05 <= lease_s <= 0.5:
            raise ValueError(f"a lease lasts 0.05 to 0.5 s, not {lease_s}")
        if not 1.0 <= state_hz <= 200.0:
            raise ValueError(f"state_hz lies between 1 and 200, not {state_hz}")
        self._port = port
        self._axes = tuple(axes)
        self._baud = baud
        self._lease_ns = int(lease_s * 1e9)
        self._period_ms = round(1000 / state_hz)

        self._lock = threading.RLock()  # guards everything down to the blank line
        self._device: Device | None = None
        self._boot_id: int | None = None
        self._telemetry = Telemetry(FirmwareState.OFFLINE, (), (), (), 0)
        self._stats: Stats | None = None
        self._alive_until_ns = 0
        self._engaged = False
        self._permitted = False  # by arm(), until disarm, estop or a new session
        self._stop_reason: int | None = None
        self._past = LinkCounts()
        self._limited = 0
        self._trouble = ""

        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    # -- MotorController -------------------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[str, ...]:
        return self._axes

    def describe(self) -> tuple[Axis, ...]:
        with self._lock:
            return self._online().describe()

    def connect(self, timeout_s: float = 3.0) -> None:
        """Open the port and shake hands; from then on the link is kept up by itself.

        Blocks timeout_s at most. Raises BridgeError: no such port, no permission, port in use, no latentloop firmware,
        wrong version, wrong axes, no answer.
        """
        if self._closing.is_set():
            raise BridgeError(f"the link to {self._port} was closed: make a new one")
        if self._thread is not None:
            return
        try:
            self._open(time.monotonic_ns() + int(timeout_s * 1e9))
        except BridgeError as error:
            with self._lock:
                self._trouble = str(error)
                self._drop_device()
            raise
        self._thread = threading.Thread(target=self._keep_link, name="bridge-link", daemon=True)
        self._thread.start()

    def arm(self, timeout_s: float = 1.0) -> None:
        """See MotorController. The loop must be alive already (``heartbeat``) and must engage within a second."""
        with self._lock:
            device = self._online()
            if self._stop_reason is not None:
                raise BridgeError("the motors were stopped with estop: clear it first")
            if self._permitted and device.state is State.ACTIVE:
                return
            if time.monotonic_ns() >= self._alive_until_ns:
                raise BridgeError("the motors cannot be armed because no control loop is alive: start it first")
            self._permitted = True
            try:
                self._feed_lease(device, time.monotonic_ns())  # it may not have had its turn since the loop came alive
                request = device.request(Arm(device.session.limits_crc, device.session.boot_id))
            except LinkLost as error:
                self._permitted = False
                raise BridgeError(f"the link to {self._port} is down: {error}") from None
        request.done.wait(timeout_s)
        with self._lock:
            if request.code is None:
                self.disarm()
                raise BridgeError(f"ARM was not answered by {self._port}, or called off: it was disarmed again")
            if request.code != Code.OK:
                self._permitted = False
                raise BridgeError(f"the firmware refuses to arm: {device.reason(request.code)}")
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while self.telemetry().state is not FirmwareState.ACTIVE:  # the answer comes before the STATE that shows it
            if time.monotonic_ns() >= deadline_ns:
                self.disarm()
                raise BridgeError(f"the firmware armed and stopped again: {self.stop_cause}")
            time.sleep(0.002)

    def disarm(self) -> None:
        """See MotorController. From now on leases say "not engaged", which ends motion even if DISARM is lost."""
        with self._lock:
            self._withdraw()
            try:
                if self._device is not None:
                    self._device.request(Disarm())
            except LinkLost:
                pass  # nobody there to disarm: the lease ends by itself

    def estop(self, reason: int = 1) -> None:
        """See MotorController. Sent three times at once, and again every 20 ms until the device confirms.

        The lease is not fed any more until :meth:`clear_estop`.
        """
        with self._lock:
            self._stop_reason = reason & 0xFF
            self._withdraw()
            device = self._device
        if device is not None:
            try:
                for _ in range(ESTOP_COPIES):
                    device.link.send(Estop(reason & 0xFF), 0)
            except LinkLost:
                pass  # repeated when the link is back

    def clear_estop(self) -> None:
        """See MotorController. Raises BridgeError when nothing is latched."""
        with self._lock:
            device = self._online()
            challenge = 0 if device.reports.newest is None else device.reports.newest.challenge
            if challenge == 0:
                if self._stop_reason is not None:
                    raise BridgeError("the stop has not been confirmed by the firmware yet: try again")
                raise BridgeError("the firmware has no stop or fault to clear")
            self._stop_reason = None
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
        with self._lock:
            device = self._device
            if device is None or not self._permitted or device.state is not State.ACTIVE or valid_until_ns <= now_ns:
                self._hold_back()
                return
            try:
                self._limited += device.command(targets, valid_until_ns, now_ns)
            except LinkLost:
                self._hold_back()

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        with self._lock:
            self._alive_until_ns = alive_until_ns
            self._engaged = engaged

    def telemetry(self) -> Telemetry:
        return self._telemetry

    def close(self) -> None:
        """See MotorController. Waits for the thread, half a second at most."""
        if not self._closing.is_set():
            self.disarm()
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=0.5)
        with self._lock:
            self._drop_device()

    # -- beyond the contract ---------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why the link is down or the last request was refused, one sentence; empty when all is well."""
        with self._lock:
            return self._trouble or ("" if self._device is None else self._device.trouble)

    @property
    def stop_cause(self) -> str:
        """Why the firmware last stopped the motors: the name of a StopCause in lower case, "none" if it did not."""
        return self._telemetry.stop_cause

    @property
    def clock_error_bound_ns(self) -> int | None:
        """How far off the host's idea of device time may be; None while not connected."""
        with self._lock:
            device = self._device
            return None if device is None else device.session.clock.error_bound_ns(time.monotonic_ns())

    @property
    def last_ack_latency_ns(self) -> int | None:
        """From ``send`` to the moment the device applied that command, for the newest command known to be applied; right
        within the bound of :class:`~firmware_bridge.controller.Applied`. None before the first."""
        applied = self._telemetry.applied
        return None if applied is None else applied.applied_ns - applied.sent_ns

    @property
    def limits(self) -> tuple[AxisLimits, ...]:
        """What the device allows each axis, as it told in the handshake. Raises BridgeError while not connected."""
        with self._lock:
            found = self._online().session.axes
            return tuple(AxisLimits(axis.max_speed / 1000, axis.max_acceleration / 1000) for axis in found)

    @property
    def limited(self) -> int:
        """Commands that asked for more than the device's limits and were clamped here."""
        return self._limited

    @property
    def device_counts(self) -> Stats | None:
        """The device's own counters, at most a second old while connected; None before the first."""
        return self._stats

    # -- keeping the link ------------------------------------------------------------------------------------------

    def _open(self, deadline_ns: int) -> None:
        link = Link(open_port(self._port, self._baud))
        try:
            self._begin(link, deadline_ns)
        except LinkLost as error:
            raise BridgeError(f"the link to {self._port} broke during the handshake: {error}") from None

    def _begin(self, link: Link, deadline_ns: int) -> None:
        """A new session on this link, or none and no link: nothing of the one before counts, and nothing is permitted."""
        with self._lock:
            self._drop_device(keep=link)
        try:
            device = Device.begin(link, self._port, self._axes, self._period_ms, deadline_ns)
        except (BridgeError, LinkLost):
            link.close()
            raise
        with self._lock:
            if self._boot_id not in (None, device.session.boot_id):
                log.warning("the firmware on %s has restarted; it is not armed", self._port)
            self._boot_id, self._device, self._trouble = device.session.boot_id, device, ""
            self._publish(device)

    def _keep_link(self) -> None:
        backoff_s = BACKOFF_S[0]
        while not self._closing.is_set():
            try:
                if self._device is None:
                    self._open(time.monotonic_ns() + HANDSHAKE_NS)
                    log.info("connected again to %s; not armed", self._port)
                backoff_s = BACKOFF_S[0]
                self._serve()
            except Exception as error:
                if self._closing.is_set():
                    return
                if not isinstance(error, (BridgeError, LinkLost)):
                    log.exception("the link to %s broke on a bug: it is made anew, it must not only look alive", self._port)
                with self._lock:
                    changed, self._trouble = self._trouble != str(error), str(error)
                    self._drop_device()
                if changed:
                    log.warning("the link to %s is down: %s", self._port, error)
                self._closing.wait(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S[1])

    def _serve(self) -> None:
        """Read and feed the lease until the link is lost; begin a new session where the device needs one."""
        lease_ns = time.monotonic_ns()
        time_ns = lease_ns + TIME_EVERY_NS
        while not self._closing.is_set():
            device = self._device
            if device is None:
                return
            frames = device.link.receive(max(0, lease_ns - time.monotonic_ns()) / 1e9)
            now_ns = time.monotonic_ns()
            with self._lock:
                if frames:
                    device.hear(frames)
                    self._publish(device)
                device.repeat(now_ns)  # under the lock, or a repeated ARM could overtake a DISARM
                if now_ns >= lease_ns - EARLY_NS:
                    lease_ns = max(lease_ns + LEASE_EVERY_NS, now_ns)
                    self._feed_lease(device, now_ns)
                    if self._stop_reason is not None and device.state is not State.ESTOP:
                        device.link.send(Estop(self._stop_reason), 0)
                if now_ns >= time_ns:
                    time_ns = now_ns + TIME_EVERY_NS
                    device.ask_time(now_ns)
            silent = not frames and now_ns - device.reports.received_ns > SILENCE_NS
            if silent:
                self._trouble = f"the firmware on {self._port} has fallen silent: check power and cable"
            if silent or device.state is State.IDLE:
                self._begin(device.link, now_ns + HANDSHAKE_NS)

    # -- small parts, all under the lock ---------------------------------------------------------------------------

    def _feed_lease(self, device: Device, now_ns: int) -> None:
        if now_ns < self._alive_until_ns and self._stop_reason is None:
            until_ns = min(now_ns + self._lease_ns, self._alive_until_ns)
            device.lease(until_ns, self._engaged and self._permitted)

    def _online(self) -> Device:
        if self._device is None:
            raise BridgeError(f"not connected to {self._port}: {self._trouble or 'call connect first'}")
        return self._device

    def _withdraw(self) -> None:
        """No permission any more, and no ARM that might be repeated after a later stop."""
        self._permitted = False
        if self._device is not None:
            self._device.requests.withdraw(Arm)

    def _publish(self, device: Device) -> None:
        """Made here and not in telemetry(), which stands in the way of every command."""
        self._telemetry = device.telemetry(self._past, self._trouble)
        self._stats = device.stats or self._stats

    def _hold_back(self) -> None:
        self._past = replace(self._past, dropped=self._past.dropped + 1)
        if self._device is None:
            self._telemetry = replace(self._telemetry, counts=self._past)

    def _drop_device(self, keep: Link | None = None) -> None:
        """The session is over: withdraw all permission and let everybody who waits for an answer go."""
        self._permitted = False
        device, self._device = self._device, None
        if device is not None:
            device.requests.withdraw()
            if device.link is keep:
                self._past = replace(self._past, acked=self._past.acked + device.acked)
            else:
                device.link.close()
                self._past = device.counts(self._past)
        self._telemetry = replace(
            self._telemetry, state=FirmwareState.OFFLINE, counts=self._past, trouble=self._trouble
        )


def check_targets(axes: Sequence[str], targets: Sequence[float]) -> None:
    """Raises BridgeError unless there is one finite target for each axis."""
    if len(targets) != len(axes):
        raise BridgeError(f"{len(targets)} targets for the axes {', '.join(axes)}: give one each")
    for axis, target in zip(axes, targets, strict=True):
        if not math.isfinite(target):
            raise BridgeError(f"the target of {axis} is {target}: give a finite number")
