"""What the reference firmware says: answers, events and periodic messages; the sending half of firmware/link.c."""

from __future__ import annotations

from firmware_bridge import framing, messages
from firmware_bridge.framing import REPLY, Frame
from firmware_bridge.messages import Code, Drive, Message
from firmware_bridge.reference_state import CoreState
from firmware_bridge.reference_trajectory import U32

TX_BYTES, TX_BYTES_PER_AXIS = 304, 16
STATE_ROOM = 160
EVENT_ROOM = 40
EVENTS = 4
EVENT_EVERY_US = 200_000


def send(c: CoreState, message: Message, session: int, flags: int = 0, room: int = 0) -> None:
    """room: bytes that it must leave free for what is more important; without them it is dropped and counted."""
    frame = Frame(message.TYPE, c.tx_seq, session, message.pack(), flags)
    c.tx_seq = (c.tx_seq + 1) & 0xFF
    wire = framing.encode(frame, messages.SCHEMA_ID)
    if len(c.tx) + len(wire) + room > TX_BYTES + TX_BYTES_PER_AXIS * len(c.board.axes):
        c.count("tx_dropped")
    else:
        c.tx += wire


def send_ack(c: CoreState, asked: Frame, session: int, code: Code | int) -> None:
    send(c, messages.Ack(asked.seq, asked.type, code), session, REPLY)


def _send_state(c: CoreState) -> None:
    message = messages.StateReport(
        t_us=c.now_us,
        state=c.state,
        stop_cause=c.stop_cause,
        faults=c.faults,
        last_seq=c.command_seq,
        clamped=c.clamped,
        powered=sum((drive is Drive.ON) << i for i, drive in enumerate(c.drives)),
        applied_us=c.applied_us,
        queue_ms=c.trajectory.queue_ms(c.now_us),
        supply_mv=c.supply_mv,
        temperature_dc=c.temperature_dc,
        challenge=c.challenge,
        position=tuple(c.position),
        velocity=tuple(c.velocity),
        current=tuple(c.current),
    )
    send(c, message, c.session, room=STATE_ROOM)
    c.reported_state = c.state


def record_event(c: CoreState) -> None:
    """Keep why it stopped until the host has acknowledged it."""
    c.event_number = (c.event_number + 1) & 0xFF
    if len(c.events) == EVENTS:
        c.count("events_lost")
        return
    c.event_stream.period_us = EVENT_EVERY_US
    if not c.events:
        c.event_stream.sent_us = (c.now_us - EVENT_EVERY_US) & U32
    c.events.append(
        messages.Event(c.event_number, c.stop_cause, c.state, c.faults, c.now_us)
    )  # fmt: skip


def send_periodic(c: CoreState) -> None:
    """Whatever is due: the oldest event, STATE also when the state has changed, STATS."""
    if c.session and c.events and c.event_stream.due(c.now_us):
        send(c, c.events[0], c.session, room=EVENT_ROOM)
    stream = c.streams[messages.StateReport.TYPE]
    if stream.due(c.now_us) or (stream.period_us and c.state is not c.reported_state):
        _send_state(c)
    if c.streams[messages.Stats.TYPE].due(c.now_us):
        send(c, messages.Stats(**c.counters), c.session, room=STATE_ROOM)
