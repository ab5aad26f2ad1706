"""From an open port to a session: who is there, what may it do, and what time is it over there."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from firmware_bridge import messages
from firmware_bridge.clock_sync import ClockSync
from firmware_bridge.controller import BridgeError
from firmware_bridge.framing import Frame
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import Ack, Axis, AxisGet, Code, Hello, HelloAck, Message, TimeReq, TimeRsp, text

T = TypeVar("T", bound=Message)

REPEAT_S = 0.1
TIME_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Session:
    """What a handshake established. axes: in the device's order. limits_crc: computed from what the device told."""

    id: int
    boot_id: int
    firmware: str
    lease_cap_us: int
    limits_crc: int
    axes: tuple[Axis, ...]
    clock: ClockSync = field(repr=False)


def shake_hands(link: Link, where: str, expected_axes: tuple[str, ...], deadline_ns: int) -> Session:
    """Begin a session. Blocks until the deadline at most. Raises BridgeError and LinkLost."""
    hello = Hello(messages.MAGIC, messages.VERSION, messages.VERSION, secrets.randbits(32))
    answer = _ask(link, hello, 0, HelloAck, lambda a: a.nonce == hello.nonce, where, deadline_ns)
    if answer.schema_id != messages.SCHEMA_ID:
        raise BridgeError(
            f"the firmware on {where} ({text(answer.firmware)}) has message definitions {answer.schema_id:08x} and "
            f"this host has {messages.SCHEMA_ID:08x}: flash the firmware of this release"
        )
    axes = tuple(_ask_axis(link, answer.session, i, where, deadline_ns) for i in range(answer.axes))
    names = tuple(text(axis.name) for axis in axes)
    if names != expected_axes:
        raise BridgeError(
            f"the firmware on {where} drives other axes ({', '.join(names) or 'none'}) than are wanted "
            f"({', '.join(expected_axes)}): flash the firmware for this robot, or name its port or its bundle"
        )
    clock = ClockSync()
    for _ in range(TIME_SAMPLES):
        _ask_time(link, answer.session, clock, where, deadline_ns)
    return Session(
        id=answer.session,
        boot_id=answer.boot_id,
        firmware=text(answer.firmware),
        lease_cap_us=answer.lease_cap_us,
        limits_crc=messages.limits_crc(answer.lease_cap_us, list(axes)),
        axes=axes,
        clock=clock,
    )


def _ask_axis(link: Link, session: int, index: int, where: str, deadline_ns: int) -> Axis:
    return _ask(link, AxisGet(index), session, Axis, lambda axis: axis.axis == index, where, deadline_ns)


def _ask_time(link: Link, session: int, clock: ClockSync, where: str, deadline_ns: int) -> None:
    sent_ns = time.monotonic_ns()
    reply = _ask(link, TimeReq(sent_ns), session, TimeRsp, lambda r: r.t_host_ns == sent_ns, where, deadline_ns)
    clock.add(sent_ns, reply.t_rx_us, reply.t_tx_us, time.monotonic_ns())


def _ask(
    link: Link, question: Message, session: int, kind: type[T], fits: Callable[[T], bool], where: str, deadline_ns: int
) -> T:
    """Send until the fitting answer comes."""
    heard_before = link.received
    bytes_before = link.bytes_received
    while (now_ns := time.monotonic_ns()) < deadline_ns:
        seq = link.send(question, session)
        repeat_ns = min(deadline_ns, now_ns + int(REPEAT_S * 1e9))
        while time.monotonic_ns() < repeat_ns:
            for frame, _ in link.receive():
                _refuse(frame, seq, question, where)
                if frame.type != kind.TYPE or frame.session != session:
                    continue
                try:
                    answer = kind.unpack(frame.payload)
                except ValueError:
                    raise BridgeError(
                        f"the firmware on {where} answers {question.NAME} in a form this host does not know: "
                        "flash the firmware of this release"
                    ) from None
                if fits(answer):
                    return answer
    if link.received == heard_before and link.bytes_received > bytes_before:
        raise BridgeError(f"what talks on {where} is not a latentloop firmware: flash it, or check the port and its speed")
    raise BridgeError(f"no answer from {where} to {question.NAME}: check power, cable and that the firmware is flashed")


def _refuse(frame: Frame, seq: int, question: Message, where: str) -> None:
    if frame.type != Ack.TYPE or len(frame.payload) != Ack.size(0):
        return
    ack = Ack.unpack(frame.payload)
    if ack.answered_type != question.TYPE or ack.answered_seq != seq or ack.code == Code.OK:
        return
    if ack.code == Code.BAD_VERSION:
        raise BridgeError(
            f"the firmware on {where} does not speak protocol version {messages.VERSION}: flash the firmware of this release"
        )
    if ack.code == Code.NO_SESSION:
        raise LinkLost("the device has forgotten the session")
    raise BridgeError(f"the firmware on {where} refuses {question.NAME} with code {ack.code}: flash this release")
