"""Motors behind a latentloop firmware on a serial port.

Two threads: one reads and keeps the link up, one feeds the lease. The lease is fed only until the time that the control
loop last gave with ``heartbeat``; nobody else can keep the motors alive. Nothing here arms by itself.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState, LinkCounts, Telemetry
from firmware_bridge.framing import ACK_REQ, Frame
from firmware_bridge.handshake import Session, shake_hands
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import (
    Ack,
    Arm,
    Code,
    Disarm,
    Estop,
    EstopClear,
    Fault,
    Lease,
    Message,
    Mode,
    SetNow,
    State,
    StateReport,
    Stats,
    StopCause,
    Subscribe,
    TimeReq,
    TimeRsp,
)
from firmware_bridge.serial_port import open_port

log = logging.getLogger(__name__)

LEASE_EVERY_NS = 20_000_000
TIME_EVERY_NS = 983_900_000
"""Not a round second, so as not to beat with anything periodic."""
SILENCE_NS = 300_000_000
"""Without a STATE for so long the link counts as lost."""
BACKOFF_S = (0.1, 2.0)
REPEAT_NS = 25_000_000
TRIES = 5
ESTOP_COPIES = 3

_REFUSALS = {
    Code.BAD_STATE: "its state is {state}",
    Code.LATCHED: "a stop or fault is latched: clear it first",
    Code.NO_LEASE: "no control loop is alive: start it first",
    Code.WRONG_LIMITS: "its limits are not those it told: connect again",
    Code.WRONG_BOOT: "it has restarted: connect again",
    Code.NO_SESSION: "it has restarted: connect again",
    Code.WRONG_CHALLENGE: "it has been stopped again meanwhile: look and try again",
}


@dataclass(frozen=True, slots=True)
class AxisLimits:
    """speed: rad/s. acceleration: rad/s^2."""

    speed: float
    acceleration: float


@dataclass(slots=True)
class _Request:
    """A frame that must be answered, repeated until it is."""

    message: Message
    seq: int
    repeat_ns: int
    tries: int = 1
    code: int | None = None
    done: threading.Event = field(default_factory=threading.Event)


class SerialController:
    """A :class:`~firmware_bridge.controller.MotorController` over a serial port. All calls are thread-safe.

    port: path or pyserial URL. axes: the names the device must report. lease_s: how long motors may move without news
    from the host (the device has its own upper limit). state_hz: how often the device reports.
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
        self._link: Link | None = None
        self._session: Session | None = None
        self._report: StateReport | None = None
        self._reporting = False  # the report is of this session
        self._report_seq = 0
        self._received_ns = 0
        self._measured_ns = 0
        self._telemetry: Telemetry | None = None  # as of the newest report, while it is the newest word
        self._firmware = ""
        self._device_counts: Stats | None = None
        self._alive_until_ns = 0
        self._engaged = False
        self._permitted = False  # by arm(), until disarm, estop or a new session
        self._stop_reason: int | None = None
        self._requests: list[_Request] = []
        self._in_flight: dict[int, int] = {}
        self._ack_latency_ns: int | None = None
        self._acked = 0
        self._held_back = 0
        self._limited = 0
        self._past = LinkCounts()
        self._trouble = ""

        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    # -- MotorController -------------------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[str, ...]:
        return self._axes

    def describe(self) -> tuple[Axis, ...]:
        return tuple(
            Axis(name, AxisMode.VELOCITY, "rad/s", -limit.speed, limit.speed, limit.speed, limit.acceleration)
            for name, limit in zip(self._axes, self.limits, strict=True)
        )

    def connect(self, timeout_s: float = 3.0) -> None:
        """Open the port and shake hands; from then on the link is kept up by itself.

        Blocks timeout_s at most. Raises BridgeError: no such port, no permission, port in use, no latentloop firmware,
        wrong version, wrong axes, no answer.
        """
        if self._closing.is_set():
            raise BridgeError(f"the link to {self._port} was closed: make a new one")
        if self._threads:
            return
        self._open(time.monotonic_ns() + int(timeout_s * 1e9))
        self._threads = [
            threading.Thread(target=self._keep_link, name="bridge-link", daemon=True),
            threading.Thread(target=self._keep_lease, name="bridge-lease", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def arm(self, timeout_s: float = 1.0) -> None:
        """See MotorController. The loop must be alive already (``heartbeat``) and must engage within a second."""
        with self._lock:
            session = self._online()
            if self._stop_reason is not None:
                raise BridgeError("the motors were stopped with estop: clear it first")
            if self._permitted and self._state() is State.ACTIVE:
                return
            if time.monotonic_ns() >= self._alive_until_ns:
                raise BridgeError("the motors cannot be armed because no control loop is alive: start it first")
            try:
                self._feed_lease()  # the lease thread may not have had its turn since the loop came alive
            except LinkLost as error:
                raise BridgeError(f"the link to {self._port} is down: {error}") from None
            self._permitted = True
            request = self._request(Arm(session.limits_crc, session.boot_id))
        request.done.wait(timeout_s)
        with self._lock:
            if request.code is None:
                self.disarm()
                raise BridgeError(f"ARM was not answered by {self._port}, or called off: it was disarmed again")
            if request.code != Code.OK:
                self._permitted = False
                raise BridgeError(f"the firmware refuses to arm: {self._reason(request.code)}")
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while self._state() is not State.ACTIVE:  # the answer comes before the STATE that shows it
            if time.monotonic_ns() >= deadline_ns:
                self.disarm()
                raise BridgeError(f"the firmware armed and stopped again: {self.stop_cause}")
            time.sleep(0.002)

    def disarm(self) -> None:
        """See MotorController. From now on leases say "not engaged", which ends motion even if DISARM is lost."""
        with self._lock:
            self._withdraw()
            try:
                self._request(Disarm())
            except BridgeError:
                pass  # nobody there to disarm: the lease ends by itself

    def estop(self, reason: int = 1) -> None:
        """See MotorController. Sent three times at once, and again every 20 ms until the device confirms.

        The lease is not fed any more until :meth:`clear_estop`.
        """
        with self._lock:
            self._stop_reason = reason & 0xFF
            self._withdraw()
            link = self._link
        if link is not None:
            try:
                for _ in range(ESTOP_COPIES):
                    link.send(Estop(reason & 0xFF), 0)
            except LinkLost:
                pass  # repeated when the link is back

    def clear_estop(self) -> None:
        """See MotorController. Raises BridgeError when nothing is latched."""
        with self._lock:
            self._online()
            report = self._report
            if report is None or report.challenge == 0:
                if self._stop_reason is not None:
                    raise BridgeError("the stop has not been confirmed by the firmware yet: try again")
                raise BridgeError("the firmware has no stop or fault to clear")
            self._stop_reason = None
            self._request(EstopClear(report.challenge))

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        """See MotorController. Blocks for 5 ms at most, when the line is stuck.

        Targets beyond the device's limits are clamped and counted in :attr:`limited`. While the device is not ACTIVE,
        or when valid_until_ns is past, the command is held back and counted as dropped. While armed, send at every
        turn of the loop, also to stand still: a command that runs out is a stop. Raises BridgeError on a wrong number
        of targets or one that is not finite.
        """
        if len(targets) != len(self._axes):
            raise BridgeError(f"{len(targets)} targets for the axes {', '.join(self._axes)}: give one each")
        for axis, target in zip(self._axes, targets, strict=True):
            if not math.isfinite(target):
                raise BridgeError(f"the target of {axis} is {target}: give a finite number of rad/s")
        now_ns = time.monotonic_ns()
        with self._lock:
            link, session = self._link, self._session
            active = self._permitted and self._state() is State.ACTIVE
            if link is None or session is None or not active or valid_until_ns <= now_ns:
                self._held_back += 1
                return
            values = []
            for axis_info, target in zip(session.axes, targets, strict=True):
                limit = axis_info.max_speed
                values.append(max(-limit, min(limit, round(target * 1000))))
            self._limited += any(abs(t) * 1000 > a.max_speed for t, a in zip(targets, session.axes, strict=True))
            until_us = session.clock.to_device_us(valid_until_ns)
            message = SetNow(Mode.VELOCITY, (1 << len(values)) - 1, tuple(values), until_us)
            try:
                seq = link.send(message, session.id)
            except LinkLost:
                self._held_back += 1
                return
            self._in_flight.pop(seq, None)
            self._in_flight[seq] = now_ns
            while len(self._in_flight) > 32:
                self._in_flight.pop(next(iter(self._in_flight)))

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        with self._lock:
            self._alive_until_ns = alive_until_ns
            self._engaged = engaged

    def telemetry(self) -> Telemetry:
        with self._lock:
            return self._telemetry or self._described()

    def close(self) -> None:
        """See MotorController. Waits for the two threads, half a second at most."""
        if not self._closing.is_set():
            self.disarm()
        self._closing.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=0.5)
        with self._lock:
            if self._link is not None:
                self._drop_link(self._link)

    # -- beyond the contract ---------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why the link is down or the last request was refused, one sentence; empty when all is well."""
        return self._trouble

    @property
    def stop_cause(self) -> str:
        """Why the firmware last stopped the motors: the name of a StopCause in lower case, "none" if it did not."""
        with self._lock:
            return "none" if self._report is None else StopCause(self._report.stop_cause).name.lower()

    @property
    def clock_error_bound_ns(self) -> int | None:
        """How far off the host's idea of device time may be; None while not connected."""
        with self._lock:
            session = self._session
            return None if session is None else session.clock.error_bound_ns(time.monotonic_ns())

    @property
    def last_ack_latency_ns(self) -> int | None:
        """From ``send`` to the moment the device applied that command, for the newest command known to be applied.

        Right within :attr:`clock_error_bound_ns`. None before the first.
        """
        return self._ack_latency_ns

    @property
    def limits(self) -> tuple[AxisLimits, ...]:
        """What the device allows each axis, as it told in the handshake. Raises BridgeError while not connected."""
        with self._lock:
            return tuple(AxisLimits(axis.max_speed / 1000, axis.max_acceleration / 1000) for axis in self._online().axes)

    @property
    def limited(self) -> int:
        """Commands that asked for more than the device's limits and were clamped here."""
        return self._limited

    @property
    def device_counts(self) -> Stats | None:
        """The device's own counters, at most a second old while connected; None before the first."""
        return self._device_counts

    # -- keeping the link ------------------------------------------------------------------------------------------

    def _open(self, deadline_ns: int) -> None:
        link = Link(open_port(self._port, self._baud))
        try:
            self._begin(link, deadline_ns)
        except (BridgeError, LinkLost) as error:
            with self._lock:
                self._drop_link(link)
            if isinstance(error, LinkLost):
                raise BridgeError(f"the link to {self._port} broke during the handshake: {error}") from None
            raise

    def _begin(self, link: Link, deadline_ns: int) -> None:
        """Handshake and subscriptions; returns when the first STATE is in."""
        session = shake_hands(link, self._port, self._axes, deadline_ns)
        with self._lock:
            if self._session is not None and self._session.boot_id != session.boot_id:
                log.warning("the firmware on %s has restarted; it is not armed", self._port)
            for request in self._requests:
                request.done.set()
            self._requests.clear()
            self._in_flight.clear()
            self._permitted = False
            self._reporting = False
            self._telemetry = None
            self._link, self._session, self._firmware = link, session, session.firmware
            self._trouble = ""
            self._request(Subscribe(StateReport.TYPE, self._period_ms))
            self._request(Subscribe(Stats.TYPE, 1000))
        while not self._reporting:
            if time.monotonic_ns() >= deadline_ns:
                raise BridgeError(f"the firmware on {self._port} reports no STATE: restart it")
            self._take_in(link, session)
            self._repeat_requests()

    def _keep_link(self) -> None:
        backoff_s = BACKOFF_S[0]
        while not self._closing.is_set():
            try:
                if self._link is None:
                    self._open(time.monotonic_ns() + 1_000_000_000)
                    log.info("connected again to %s; not armed", self._port)
                backoff_s = BACKOFF_S[0]
                self._serve()
            except Exception as error:
                if self._closing.is_set():
                    return
                if not isinstance(error, (BridgeError, LinkLost)):
                    log.exception("the link to %s broke on a bug: it is made anew, it must not only look alive", self._port)
                with self._lock:
                    if self._link is not None:
                        self._drop_link(self._link)
                    changed, self._trouble = self._trouble != str(error), str(error)
                if changed:
                    log.warning("the link to %s is down: %s", self._port, error)
                self._closing.wait(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S[1])

    def _serve(self) -> None:
        """Read until the link is lost; begin a new session where the device needs one."""
        link, session = self._link, self._session
        assert link is not None and session is not None
        next_time_ns = time.monotonic_ns() + TIME_EVERY_NS
        while not self._closing.is_set():
            heard = self._take_in(link, session)
            now_ns = time.monotonic_ns()
            silent = not heard and now_ns - self._received_ns > SILENCE_NS
            if silent or self._state() is State.IDLE:
                self._begin(link, now_ns + 1_000_000_000)
                session = self._session
                assert session is not None
            if now_ns >= next_time_ns:
                next_time_ns = now_ns + TIME_EVERY_NS
                link.send(TimeReq(now_ns), session.id)

    def _take_in(self, link: Link, session: Session) -> bool:
        frames = link.receive()
        with self._lock:
            for frame, arrived_ns in frames:
                if frame.session in (session.id, 0):
                    try:
                        self._dispatch(frame, arrived_ns, session)
                    except ValueError as error:
                        log.warning("%s sent a malformed message: %s", self._port, error)
        return bool(frames)

    def _dispatch(self, frame: Frame, arrived_ns: int, session: Session) -> None:
        if frame.type == StateReport.TYPE:
            report = StateReport.unpack(frame.payload)
            State(report.state), StopCause(report.stop_cause)  # ValueError for numbers that are none
            self._report, self._report_seq, self._received_ns = report, frame.seq, arrived_ns
            self._measured_ns = session.clock.to_host_ns(report.t_us, arrived_ns)
            self._reporting = True
            self._note_applied(report, arrived_ns, session)
            # Here and not in telemetry(), which stands in the way of every command.
            self._telemetry = self._described()
        elif frame.type == Ack.TYPE:
            ack = Ack.unpack(frame.payload)
            for request in self._requests:
                if (request.seq, request.message.TYPE) == (ack.answered_seq, ack.answered_type):
                    self._requests.remove(request)
                    self._acked += 1
                    request.code = ack.code
                    request.done.set()
                    if ack.code != Code.OK:
                        self._trouble = f"the firmware refuses {request.message.NAME}: {self._reason(ack.code)}"
                        log.warning(self._trouble)
                    break
        elif frame.type == TimeRsp.TYPE:
            reply = TimeRsp.unpack(frame.payload)
            session.clock.add(reply.t_host_ns, reply.t_rx_us, reply.t_tx_us, arrived_ns)
        elif frame.type == Stats.TYPE:
            self._device_counts = Stats.unpack(frame.payload)

    def _note_applied(self, report: StateReport, arrived_ns: int, session: Session) -> None:
        sent_ns = self._in_flight.get(report.last_seq)
        if sent_ns is None or report.applied_us == 0:
            return
        latency_ns = session.clock.to_host_ns(report.applied_us, arrived_ns) - sent_ns
        if latency_ns < -session.clock.error_bound_ns(arrived_ns):
            return  # an older command, whose seq has come round again
        del self._in_flight[report.last_seq]
        self._acked += 1
        self._ack_latency_ns = max(0, latency_ns)

    # -- feeding the lease -----------------------------------------------------------------------------------------

    def _keep_lease(self) -> None:
        next_ns = time.monotonic_ns()
        while not self._closing.wait(max(0.0, (next_ns - time.monotonic_ns()) / 1e9)):
            next_ns = max(next_ns + LEASE_EVERY_NS, time.monotonic_ns())
            try:
                self._feed_lease()
                self._repeat_requests()
                self._repeat_estop()
            except LinkLost:
                pass  # the link thread notices by itself

    def _feed_lease(self) -> None:
        now_ns = time.monotonic_ns()
        with self._lock:
            link, session = self._link, self._session
            if link is None or session is None or now_ns >= self._alive_until_ns or self._stop_reason is not None:
                return
            until_ns = min(now_ns + self._lease_ns, self._alive_until_ns)
            expire_us = session.clock.to_device_us(until_ns)
            lease = Lease(expire_us, self._state(), int(self._engaged and self._permitted), self._report_seq, 0)
        link.send(lease, session.id)

    def _repeat_requests(self) -> None:
        now_ns = time.monotonic_ns()
        with self._lock:  # also while sending, or a repeated ARM could overtake a DISARM
            for request in list(self._requests):
                if self._link is None or self._session is None or now_ns < request.repeat_ns:
                    continue
                if request.tries >= TRIES:
                    self._requests.remove(request)
                    request.done.set()
                    continue
                request.repeat_ns = now_ns + (REPEAT_NS << request.tries)
                request.tries += 1
                self._link.send(request.message, self._session.id, ACK_REQ, request.seq)

    def _repeat_estop(self) -> None:
        with self._lock:
            link, reason = self._link, self._stop_reason
            confirmed = self._state() is State.ESTOP
        if link is not None and reason is not None and not confirmed:
            link.send(Estop(reason), 0)

    # -- small parts, all under the lock ---------------------------------------------------------------------------

    def _online(self) -> Session:
        if self._link is None or self._session is None:
            raise BridgeError(f"not connected to {self._port}: {self._trouble or 'call connect first'}")
        return self._session

    def _request(self, message: Message) -> _Request:
        session = self._online()
        assert self._link is not None
        try:
            seq = self._link.send(message, session.id, ACK_REQ)
        except LinkLost as error:
            raise BridgeError(f"the link to {self._port} is down: {error}") from None
        request = _Request(message, seq, time.monotonic_ns() + REPEAT_NS)
        self._requests.append(request)
        return request

    def _withdraw(self) -> None:
        """No permission any more, and no ARM that might be repeated after a later stop."""
        self._permitted = False
        for request in [r for r in self._requests if isinstance(r.message, Arm)]:
            self._requests.remove(request)
            request.done.set()

    def _state(self) -> State:
        if self._link is None or self._report is None or not self._reporting:
            return State.OFFLINE
        return State(self._report.state)

    def _described(self) -> Telemetry:
        report = self._report
        state = FirmwareState(self._state().name.lower())
        counts = self._counts()
        if report is None:
            return Telemetry(state, (), (), (), 0, self._firmware, (), counts)
        return Telemetry(
            state=state,
            position=tuple(value / 1000 for value in report.position),
            velocity=tuple(value / 1000 for value in report.velocity),
            current=tuple(value / 1000 for value in report.current),
            received_ns=self._received_ns,
            firmware=self._firmware,
            faults=tuple(fault.name.lower() for fault in Fault if fault.name and fault & report.faults),
            counts=counts,
            measured_ns=self._measured_ns,
        )

    def _reason(self, code: int) -> str:
        try:
            known = Code(code)
        except ValueError:
            return f"code {code}"
        words = _REFUSALS.get(known, known.name.lower().replace("_", " "))
        return words.format(state=self._state().name)

    def _drop_link(self, link: Link) -> None:
        """Close it, keep its counts, and let everybody who waits for an answer go."""
        link.close()
        self._past = _add(self._past, link)
        self._link = self._telemetry = None
        for request in self._requests:
            request.done.set()
        self._requests.clear()

    def _counts(self) -> LinkCounts:
        total = self._past if self._link is None else _add(self._past, self._link)
        return replace(total, acked=self._acked, dropped=total.dropped + self._held_back)


def _add(past: LinkCounts, link: Link) -> LinkCounts:
    return LinkCounts(
        sent=past.sent + link.sent,
        received=past.received + link.received,
        crc_errors=past.crc_errors + link.crc_errors,
        dropped=past.dropped + link.unsent + link.missed,
    )
