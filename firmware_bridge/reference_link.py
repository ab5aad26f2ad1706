"""Whose frames the reference firmware heeds, and that a repeated one is answered as before; firmware/link.c."""

from __future__ import annotations

from firmware_bridge import messages
from firmware_bridge.framing import ACK_REQ, REPLY, Frame
from firmware_bridge.messages import Code, State
from firmware_bridge.reference_handlers import find_handler
from firmware_bridge.reference_sending import send_ack
from firmware_bridge.reference_state import Answer, CoreState
from firmware_bridge.reference_trajectory import U32

ANSWER_LIFE_US = 1_000_000


def handle(c: CoreState, frame: Frame) -> None:
    """Act on a frame that came whole, and answer it."""
    wants_ack = bool(frame.flags & ACK_REQ)
    handler = find_handler(c, frame.type)
    if frame.flags & REPLY or frame.type >= 0x80:
        c.not_understood += 1
        return
    stops = frame.type == messages.Estop.TYPE
    if c.state is State.BOOT and not stops:
        c.count("stale")
        return
    needs_session = handler is not None and frame.type not in messages.SESSIONLESS
    foreign = needs_session if frame.session == 0 else frame.session != c.session
    if foreign and not stops:
        c.count("stale")
        if wants_ack:
            send_ack(c, frame, 0, Code.NO_SESSION)
        return
    if handler is None:
        c.not_understood += 1
        if wants_ack:
            send_ack(c, frame, frame.session, Code.UNKNOWN_TYPE)
        return
    c.count("frames")
    if frame.type == messages.Hello.TYPE:
        code = handler(c, frame)
        if code is not Code.OK:
            send_ack(c, frame, 0, code)
        return
    if not foreign:
        _count_gap(c, frame.seq)
    if not wants_ack or stops:  # a stop is never taken for a repeat
        code = handler(c, frame)
        if wants_ack:
            send_ack(c, frame, frame.session, code)
        return
    answer = _remembered(c, frame)
    if answer is None:
        code = handler(c, frame)
        answer = Answer(frame.seq, frame.type, code, c.now_us)
        c.answers.append(answer)
    send_ack(c, frame, frame.session, answer.code)


def _remembered(c: CoreState, frame: Frame) -> Answer | None:
    for a in c.answers:
        if (a.seq, a.type) == (frame.seq, frame.type) and (c.now_us - a.at_us) & U32 < ANSWER_LIFE_US:
            return a
    return None


def _count_gap(c: CoreState, seq: int) -> None:
    if c.last_seq is not None:
        ahead = (seq - c.last_seq) & 0xFF
        if ahead == 0 or ahead >= 128:
            return
        c.counters["gaps"] = (c.counters["gaps"] + ahead - 1) & U32
    c.last_seq = seq
