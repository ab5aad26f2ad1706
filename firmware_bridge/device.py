"""One session with one device, from the handshake until the link or the session is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from firmware_bridge import controller, usb_ports
from firmware_bridge.board_settings import NONE, Value
from firmware_bridge.controller import AxisMode, BridgeError, Identity, Knot, LinkCounts, Telemetry
from firmware_bridge.framing import ACK_REQ, Frame
from firmware_bridge.handshake import Session, shake_hands
from firmware_bridge.link import Link
from firmware_bridge.messages import (
    Ack,
    Code,
    Event,
    EventAck,
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
    TrajPush,
    text,
)
from firmware_bridge.reports import Reports
from firmware_bridge.requests import Request, Requests
from firmware_bridge.trajectory import PlanFeed, points_of

log = logging.getLogger(__name__)

LATENTLOOP = "latentloop"
HOST_FIRMWARE = "latentloop-host"
"""The firmware that runs as a process and cannot hurt anybody calls itself so."""
_REFUSALS = {
    Code.BAD_STATE: "its state is {state}",
    Code.LATCHED: "a stop or fault is latched: clear it first",
    Code.NO_LEASE: "no control loop is alive: start it first",
    Code.WRONG_LIMITS: "its limits are not those it told: connect again",
    Code.WRONG_BOOT: "it has restarted: connect again",
    Code.NO_SESSION: "it has restarted: connect again",
    Code.LATE: "it came too late",
    Code.TOO_EARLY: "it lies too far ahead",
    Code.FULL: "it has no room for so many points: hand over less, or replace from an earlier time",
    Code.WRONG_CHALLENGE: "it has been stopped again meanwhile: look and try again",
}


class Device:
    """Not thread-safe but for ``link``. All methods that send raise LinkLost. trouble: why the last request was refused."""

    def __init__(self, link: Link, session: Session, where: str) -> None:
        self.link = link
        self.session = session
        self.where = where
        self.reports = Reports(session.clock)
        self.requests = Requests(session.round_trip)
        self.stats: Stats | None = None
        self.trouble = ""
        self._answers = 0
        self._ranges = [
            (a.min_position, a.max_position) if a.mode == Mode.POSITION else (-a.max_speed, a.max_speed) for a in session.axes
        ]
        modes = [axis.mode for axis in session.axes]
        self._masks = [(mode, sum(1 << i for i, m in enumerate(modes) if m == mode)) for mode in sorted(set(modes))]
        """One command per mode, each naming its axes."""
        self._noted: int | None = None
        self._feed = PlanFeed(len(modes))

    @classmethod
    def begin(
        cls,
        link: Link,
        where: str,
        axes: tuple[str, ...] | None,
        period_ms: int,
        deadline_ns: int,
        settings: Mapping[str, Value] = NONE,
    ) -> Device:
        """Shake hands and subscribe; returns when the first STATE is in. axes: None takes whatever it has. settings: to be in
        force, see :func:`~firmware_bridge.board_settings.apply`.

        Raises BridgeError and LinkLost.
        """
        device = cls(link, shake_hands(link, where, axes, deadline_ns, settings), where)
        device.request(Subscribe(StateReport.TYPE, period_ms))
        device.request(Subscribe(Stats.TYPE, 1000))
        while device.reports.newest is None:
            if time.monotonic_ns() >= deadline_ns:
                raise BridgeError(f"the firmware on {where} reports no STATE: restart it")
            device.hear(link.receive())
            device.repeat(time.monotonic_ns())
        return device

    @property
    def state(self) -> State:
        return self.reports.state

    @property
    def acked(self) -> int:
        """Requests that were answered and commands known to be acted on, in this session."""
        return self._answers + self.reports.acked

    def request(self, message: Message) -> Request:
        """Send it, and again until it is answered."""
        now_ns = time.monotonic_ns()
        return self.requests.add(message, self.link.send(message, self.session.id, ACK_REQ), now_ns)

    def repeat(self, now_ns: int) -> None:
        """What was not answered in time."""
        for request in self.requests.due(now_ns):
            self.link.send(request.message, self.session.id, ACK_REQ, request.seq)

    def ask_time(self, now_ns: int) -> None:
        self.link.send(TimeReq(now_ns), self.session.id)

    def lease(self, until_ns: int, engaged: bool) -> None:
        expire_us = self.session.clock.to_device_us(until_ns)
        self.link.send(Lease(expire_us, self.state, int(engaged), self.reports.seq, 0), self.session.id)

    def describe(self) -> tuple[controller.Axis, ...]:
        """As it told in the handshake."""
        found = []
        for axis in self.session.axes:
            speed, name = axis.max_speed / 1000, text(axis.name)
            mode, unit, low, high = AxisMode.VELOCITY, "rad/s", -speed, speed
            if axis.mode == Mode.POSITION:
                mode, unit, low, high = AxisMode.POSITION, "rad", axis.min_position / 1000, axis.max_position / 1000
            found.append(controller.Axis(name, mode, unit, low, high, speed, axis.max_acceleration / 1000))
        return tuple(found)

    def identity(self, spec: str) -> Identity:
        """spec: how a command names this device. A board without a serial number is known by its port, and that
        takes some milliseconds."""
        session, told = self.session, any(self.session.uid)
        return Identity(
            LATENTLOOP,
            session.uid.hex() if told else usb_ports.name_behind(self.where),
            told,
            session.firmware,
            f"{session.limits_crc:08x}",
            session.firmware.startswith(HOST_FIRMWARE),
            spec,
        )

    def command(self, targets: Sequence[float], valid_until_ns: int, now_ns: int) -> bool:
        """Targets in the unit of each axis; True if one of them was beyond its range and was clamped."""
        wanted = tuple([round(target * 1000) for target in targets])
        values = tuple([low if v < low else high if v > high else v for v, (low, high) in zip(wanted, self._ranges, strict=True)])
        self.drop_plan()
        until_us = self.session.clock.to_device_us(valid_until_ns)
        for mode, mask in self._masks:
            seq = self.link.send(SetNow(mode, mask, values, until_us), self.session.id)
            self.reports.sent(seq, valid_until_ns, now_ns)
        return values != wanted

    def follow(self, knots: Sequence[Knot], replace_from_ns: int, now_ns: int) -> bool:
        """A plan in place of what is queued from that time on; True if a knot was beyond the limits and was clamped. The first
        frame goes out now, the others as they are answered."""
        self.drop_plan()
        to_device_us = self.session.clock.to_device_us
        points, beyond = points_of(self.session.axes, knots, to_device_us)
        self._feed.start(points, to_device_us(replace_from_ns), knots[-1].at_ns)
        self._send_next(now_ns)
        return beyond

    def drop_plan(self) -> None:
        """Send no more of it, and repeat nothing. What the device has got of it stays there."""
        self._feed.clear()
        self.requests.withdraw(TrajPush)

    def hear(self, frames: list[tuple[Frame, int]]) -> None:
        """Frames with their time of arrival, as :meth:`Link.receive` gives them."""
        for frame, arrived_ns in frames:
            if frame.session in (self.session.id, 0):
                try:
                    self._dispatch(frame, arrived_ns)
                except ValueError as error:
                    log.warning("%s sent a malformed message: %s", self.where, error)

    def telemetry(self, past: LinkCounts, trouble: str) -> Telemetry:
        """past: what went over earlier links, and what was held back."""
        return self.reports.described(self.session.firmware, self.counts(past), trouble or self.trouble)

    def counts(self, past: LinkCounts) -> LinkCounts:
        """With those of earlier links."""
        link = self.link
        return LinkCounts(
            sent=past.sent + link.sent,
            acked=past.acked + self.acked,
            received=past.received + link.received,
            crc_errors=past.crc_errors + link.crc_errors,
            dropped=past.dropped + link.unsent + link.missed,
        )

    def reason(self, code: int) -> str:
        """Why it refuses, for people."""
        try:
            known = Code(code)
        except ValueError:
            return f"code {code}"
        return _REFUSALS.get(known, known.name.lower().replace("_", " ")).format(state=self.state.name)

    def _dispatch(self, frame: Frame, arrived_ns: int) -> None:
        if frame.type == StateReport.TYPE:
            self.reports.take(StateReport.unpack(frame.payload), frame.seq, arrived_ns)
        elif frame.type == Ack.TYPE:
            self._answered(Ack.unpack(frame.payload), arrived_ns)
        elif frame.type == TimeRsp.TYPE:
            reply = TimeRsp.unpack(frame.payload)
            self.session.clock.add(reply.t_host_ns, reply.t_rx_us, reply.t_tx_us, arrived_ns)
            self.session.round_trip.measured(arrived_ns - reply.t_host_ns)
        elif frame.type == Event.TYPE:
            self._note(Event.unpack(frame.payload))
        elif frame.type == Stats.TYPE:
            self.stats = Stats.unpack(frame.payload)

    def _note(self, event: Event) -> None:
        """It is repeated until the device has heard that it was noted."""
        self.link.send(EventAck(event.number), self.session.id)
        if event.number == self._noted:
            return
        self._noted = event.number
        faults = ", ".join(fault.name.lower() for fault in Fault if fault.name and fault & event.faults)
        cause = StopCause(event.cause).name.lower().replace("_", " ")
        log.warning("the firmware on %s stopped the motors: %s%s", self.where, cause, f" ({faults})" if faults else "")

    def _answered(self, ack: Ack, arrived_ns: int) -> None:
        request = self.requests.answered(ack, arrived_ns)
        if request is None:
            return
        self._answers += 1
        if isinstance(request.message, TrajPush) and self._feed.answered(ack.code):
            self._send_next(arrived_ns)
        elif ack.code != Code.OK:
            self.trouble = f"the firmware refuses {request.message.NAME}: {self.reason(ack.code)}"
            log.warning(self.trouble)

    def _send_next(self, now_ns: int) -> None:
        frame = self._feed.next()
        if frame is not None:
            self.reports.sent(self.request(frame).seq, self._feed.until_ns, now_ns)
