"""From an open port to a session: who is there, what may it do, and what time is it over there."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from firmware_bridge import messages
from firmware_bridge.board_settings import NONE, Value, apply, read_axes
from firmware_bridge.clock_sync import ClockSync
from firmware_bridge.controller import BridgeError
from firmware_bridge.exchange import Exchange
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import Axis, Hello, HelloAck, TimeReq, TimeRsp, text
from firmware_bridge.round_trip import RoundTrip

TIME_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Session:
    """What a handshake established. axes: in the device's order, with the limits in force. limits_crc: computed from what the
    device told, and the same as it told. uid: serial number of the board, as it is. settled: whether the wanted settings are in
    force; while they are not, the motors must not be armed. trajectory_points: room for so many, 0 for a device without
    trajectories. commit_us: motion due so soon is not replaced any more."""

    id: int
    boot_id: int
    firmware: str
    lease_cap_us: int
    limits_crc: int
    axes: tuple[Axis, ...]
    uid: bytes
    settled: bool
    trajectory_points: int
    commit_us: int
    clock: ClockSync = field(repr=False)
    round_trip: RoundTrip = field(repr=False)


def shake_hands(
    link: Link,
    where: str,
    expected_axes: tuple[str, ...] | None,
    deadline_ns: int,
    wanted: Mapping[str, Value] = NONE,
) -> Session:
    """Begin a session. expected_axes: None takes whatever it has. wanted: settings to be in force in it, by name. Blocks until the
    deadline at most. Raises BridgeError and LinkLost."""
    exchange = Exchange(link, where, deadline_ns)
    hello = Hello(messages.MAGIC, messages.VERSION, messages.VERSION, secrets.randbits(32))
    answer = _say_hello(exchange, hello)
    if answer.schema_id != messages.SCHEMA_ID:
        raise BridgeError(
            f"the firmware on {where} ({text(answer.firmware)}) has message definitions {answer.schema_id:08x} and "
            f"this host has {messages.SCHEMA_ID:08x}: flash the firmware of this release"
        )
    axes = read_axes(exchange, answer.session, answer.axes)
    names = tuple(text(axis.name) for axis in axes)
    if expected_axes is not None and names != expected_axes:
        raise BridgeError(
            f"the firmware on {where} drives other axes ({', '.join(names) or 'none'}) than are wanted "
            f"({', '.join(expected_axes)}): flash the firmware for this robot, or name its port or its bundle"
        )
    settled = True
    if wanted:
        settled = apply(exchange, answer.session, axes, wanted)
        axes = read_axes(exchange, answer.session, answer.axes)
        session, answer = answer.session, _say_hello(exchange, hello)  # which repeated changes nothing, and tells the checksum
        if answer.session != session:
            raise LinkLost("the device has begun another session")
    limits_crc = messages.limits_crc(answer.lease_cap_us, list(axes))
    if limits_crc != answer.limits_crc:
        raise BridgeError(
            f"the firmware on {where} tells limits with the checksum {limits_crc:08x} and keeps to others "
            f"({answer.limits_crc:08x}): restart it, and if that does not help, flash the firmware of this release"
        )
    clock, round_trip = ClockSync(), RoundTrip()
    for _ in range(TIME_SAMPLES):
        reply, arrived_ns = _ask_time(exchange, answer.session)
        clock.add(reply.t_host_ns, reply.t_rx_us, reply.t_tx_us, arrived_ns)
        round_trip.measured(arrived_ns - reply.t_host_ns)
    return Session(
        id=answer.session,
        boot_id=answer.boot_id,
        firmware=text(answer.firmware),
        lease_cap_us=answer.lease_cap_us,
        limits_crc=limits_crc,
        axes=axes,
        uid=answer.uid,
        settled=settled,
        trajectory_points=answer.trajectory_points,
        commit_us=answer.commit_us,
        clock=clock,
        round_trip=round_trip,
    )


def _say_hello(exchange: Exchange, hello: Hello) -> HelloAck:
    return exchange.ask(lambda: hello, 0, HelloAck, lambda answer: answer.nonce == hello.nonce)[0]


def _ask_time(exchange: Exchange, session: int) -> tuple[TimeRsp, int]:
    """Each repetition carries its own time, so that it is known which one was answered, however late."""
    asked: set[int] = set()

    def question() -> TimeReq:
        asked.add(now_ns := time.monotonic_ns())
        return TimeReq(now_ns)

    return exchange.ask(question, session, TimeRsp, lambda reply: reply.t_host_ns in asked)
