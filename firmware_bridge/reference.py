"""The motor firmware in Python: the same core as firmware/core.c, byte for byte.

The two are kept in lock-step by tests; this one also runs where there is no C compiler. Bytes and time go in, outputs
and bytes come out; ``now_us`` is device time in microseconds modulo 2**32 and the object must be called at least every
35 minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields

from firmware_bridge import framing, messages
from firmware_bridge.board import Board
from firmware_bridge.framing import ACK_REQ, REPLY, Decoder, Frame
from firmware_bridge.messages import Code, Message, Mode, State, StopCause

TX_BYTES = 512
STATE_ROOM = 160
ANSWERS = 8
ANSWER_LIFE_US = 1_000_000
MIN_PERIOD_MS = 5
_U32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the firmware is. boot_id: random per start. uid: 12 bytes. firmware: name and version, at most 40 bytes."""

    boot_id: int
    firmware: str
    reset_cause: int = 0
    uid: bytes = b"host-process"


@dataclass(slots=True)
class _Stream:
    period_us: int = 0
    sent_us: int = 0

    def due(self, now_us: int) -> bool:
        if self.period_us == 0 or (now_us - self.sent_us) & _U32 < self.period_us:
            return False
        self.sent_us = (self.sent_us + self.period_us) & _U32
        if (now_us - self.sent_us) & _U32 >= self.period_us:
            self.sent_us = now_us
        return True


@dataclass(slots=True)
class _Answer:
    seq: int
    type: int
    code: int
    at_us: int


def _left(deadline_us: int, now_us: int) -> int:
    """Microseconds until the deadline, negative when past; right across the wrap."""
    return ((deadline_us - now_us + 0x80000000) & _U32) - 0x80000000


class Core:
    """One firmware. Not thread-safe.

    state, outputs (mrad/s per axis), counters (the fields of STATS), tx (bytes for the line) are there to be read;
    position, velocity, current are written by whoever has the encoders.
    """

    def __init__(self, board: Board, identity: Identity, now_us: int) -> None:
        n = len(board.axes)
        self.board = board
        self.identity = identity
        self.now_us = now_us
        self.epoch = 0
        self.state = State.IDLE
        self.stop_cause = StopCause.NONE
        self.faults = 0
        self.challenge = 0
        self.session = 0
        self.outputs = [0] * n
        self.position = [0] * n
        self.velocity = [0] * n
        self.current = [0] * n
        self.counters = {f.name: 0 for f in fields(messages.Stats)}
        self.tx = bytearray()

        self._fault_inputs = 0
        self._ticked_us = now_us
        self._reported_state = State.IDLE
        self._after_stop = State.SAFE
        self._random = identity.boot_id | 1
        self._last_session = identity.boot_id & 0xFF
        self._nonce = 0
        self._last_seq: int | None = None
        self._answers: deque[_Answer] = deque(maxlen=ANSWERS)
        self._lease_until: int | None = None
        self._engaged_once = False
        self._disengaged = 0
        self._armed_us = 0
        self._targets = [0] * n
        self._valid_until: list[int | None] = [None] * n
        self._command_seq = 0
        self._clamped = 0
        self._rejected = 0
        self._applied_us = 0
        self._slew_rest = [0] * n
        self._streams = {messages.StateReport.TYPE: _Stream(), messages.Stats.TYPE: _Stream()}
        self._decoder = Decoder(messages.SCHEMA_ID)
        self._not_understood = 0
        self._tx_seq = 0
        self._handlers: dict[int, Callable[[Frame], Code]] = {
            messages.TimeReq.TYPE: self._on_time_req,
            messages.Lease.TYPE: self._on_lease,
            messages.Arm.TYPE: self._on_arm,
            messages.Disarm.TYPE: self._on_disarm,
            messages.Estop.TYPE: self._on_estop,
            messages.EstopClear.TYPE: self._on_estop_clear,
            messages.SetNow.TYPE: self._on_set_now,
            messages.AxisGet.TYPE: self._on_axis_get,
            messages.Subscribe.TYPE: self._on_subscribe,
            messages.Ping.TYPE: self._on_ping,
        }

    # -- the interface ---------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes from the line. Answers are in ``tx`` afterwards; an ESTOP has already cut the outputs."""
        self._advance(now_us)
        for frame in self._decoder.feed(data):
            self._handle(frame)
        for name in ("crc_errors", "cobs_errors", "overruns"):
            self.counters[name] = getattr(self._decoder, name)
        self.counters["unknown"] = self._decoder.unknown + self._not_understood

    def tick(self, now_us: int) -> None:
        """One control step: deadlines, slew, periodic messages. Call every millisecond or so."""
        self._advance(now_us)
        self._slew(min((now_us - self._ticked_us) & _U32, self.board.max_tick_us))
        self._ticked_us = now_us
        if self.state is State.SAFE_STOP and not any(self.outputs):
            self.state = self._after_stop
        stream = self._streams[messages.StateReport.TYPE]
        if stream.due(now_us) or (stream.period_us and self.state is not self._reported_state):
            self._send_state()
        if self._streams[messages.Stats.TYPE].due(now_us):
            self._send(messages.Stats(**self.counters), self.session, room=STATE_ROOM)

    def set_faults(self, present: int) -> None:
        """The faults present at this moment; each latches FAULT and cuts the outputs at once."""
        self._fault_inputs = present
        self.faults |= present
        if present and not self._latched:
            self._cut(State.FAULT, StopCause.FAULT)

    def estop(self) -> None:
        """The hardware stop button; latches like the ESTOP message."""
        if self.state is not State.ESTOP:
            self._cut(State.ESTOP, StopCause.ESTOP)

    def sent(self, count: int) -> None:
        """Forget the first bytes of ``tx``: they are on the line."""
        del self.tx[:count]

    # -- leaving motion --------------------------------------------------------------------------------------------

    @property
    def _latched(self) -> bool:
        return self.state in (State.ESTOP, State.FAULT)

    def _forget_targets(self) -> None:
        n = len(self.outputs)
        self._targets = [0] * n
        self._valid_until = [None] * n

    def _ramp_down(self, cause: StopCause) -> None:
        asked = cause in (StopCause.DISARMED, StopCause.NEW_SESSION)
        self._after_stop = State.LINKED if asked else State.SAFE
        self.state = State.SAFE_STOP
        self.stop_cause = cause
        if cause is not StopCause.DISARMED:
            self._count("trips")
        self._forget_targets()

    def _cut(self, state: State, cause: StopCause) -> None:
        self.state = state
        self.stop_cause = cause
        self._count("trips")
        self._forget_targets()
        self.outputs = [0] * len(self.outputs)
        self._slew_rest = [0] * len(self.outputs)
        self.challenge = 0
        while self.challenge == 0:  # xorshift32, Marsaglia 2003
            x = self._random
            x ^= x << 13 & _U32
            x ^= x >> 17
            x ^= x << 5 & _U32
            self._random = x
            self.challenge = x & 0xFFFF

    # -- time ------------------------------------------------------------------------------------------------------

    def _advance(self, now_us: int) -> None:
        if now_us < self.now_us:
            self.epoch += 1
        self.now_us = now_us
        if self._lease_until is not None and _left(self._lease_until, now_us) <= 0:
            self._lease_until = None
            if self.state is State.ACTIVE:
                self._ramp_down(StopCause.LEASE_EXPIRED)
        if self.state is State.ACTIVE and any(t is not None and _left(t, now_us) <= 0 for t in self._valid_until):
            self._ramp_down(StopCause.COMMAND_EXPIRED)
        engage_by = (self._armed_us + self.board.engage_within_us) & _U32
        if self.state is State.ACTIVE and not self._engaged_once and _left(engage_by, now_us) <= 0:
            self._ramp_down(StopCause.DISENGAGED)

    def _slew(self, elapsed_us: int) -> None:
        for i, output in enumerate(self.outputs):
            missing = self._targets[i] - output
            step, rest = divmod(self.board.max_acceleration[i] * elapsed_us + self._slew_rest[i], 1_000_000)
            if abs(missing) <= step:
                self.outputs[i] = self._targets[i]
                self._slew_rest[i] = 0
            else:
                self.outputs[i] += step if missing > 0 else -step
                self._slew_rest[i] = rest

    # -- sending ---------------------------------------------------------------------------------------------------

    def _count(self, name: str) -> None:
        self.counters[name] = (self.counters[name] + 1) & _U32

    def _send(self, message: Message, session: int, flags: int = 0, room: int = 0) -> None:
        frame = Frame(message.TYPE, self._tx_seq, session, message.pack(), flags)
        self._tx_seq = (self._tx_seq + 1) & 0xFF
        wire = framing.encode(frame, messages.SCHEMA_ID)
        if len(self.tx) + len(wire) + room > TX_BYTES:
            self._count("tx_dropped")
        else:
            self.tx += wire

    def _send_ack(self, asked: Frame, session: int, code: Code | int) -> None:
        self._send(messages.Ack(asked.seq, asked.type, code), session, REPLY)

    def _send_hello_ack(self, asked: Frame) -> None:
        board, who = self.board, self.identity
        message = messages.HelloAck(
            answered_seq=asked.seq,
            version=messages.VERSION,
            session=self.session,
            axes=len(board.axes),
            nonce=self._nonce,
            boot_id=who.boot_id,
            schema_id=messages.SCHEMA_ID,
            limits_crc=board.limits_crc,
            lease_cap_us=board.lease_cap_us,
            reset_cause=who.reset_cause,
            max_body=framing.MAX_BODY,
            trajectory_points=0,
            commit_us=board.commit_us,
            uid=who.uid,
            firmware=who.firmware.encode(),
        )
        self._send(message, 0, REPLY)

    def _send_state(self) -> None:
        message = messages.StateReport(
            t_us=self.now_us,
            state=self.state,
            stop_cause=self.stop_cause,
            faults=self.faults,
            last_seq=self._command_seq,
            clamped=self._clamped,
            powered=0,
            applied_us=self._applied_us,
            queue_ms=0,
            supply_mv=0,
            temperature_dc=-32768,
            challenge=self.challenge,
            position=tuple(self.position),
            velocity=tuple(self.velocity),
            current=tuple(self.current),
        )
        self._send(message, self.session, room=STATE_ROOM)
        self._reported_state = self.state

    # -- messages --------------------------------------------------------------------------------------------------

    def _handle(self, frame: Frame) -> None:
        wants_ack = bool(frame.flags & ACK_REQ)
        known = frame.type == messages.Hello.TYPE or frame.type in self._handlers
        if frame.flags & REPLY or frame.type >= 0x80:
            self._not_understood += 1
            return
        needs_session = known and frame.type not in messages.SESSIONLESS
        if needs_session if frame.session == 0 else frame.session != self.session:
            self._count("stale")
            if wants_ack:
                self._send_ack(frame, 0, Code.NO_SESSION)
            return
        if not known:
            self._not_understood += 1
            if wants_ack:
                self._send_ack(frame, frame.session, Code.UNKNOWN_TYPE)
            return
        self._count("frames")
        if frame.type == messages.Hello.TYPE:
            code = self._on_hello(frame)
            if code is not Code.OK:
                self._send_ack(frame, 0, code)
            return
        self._count_gap(frame.seq)
        if not wants_ack:
            self._handlers[frame.type](frame)
            return
        answer = self._remembered(frame)
        if answer is None:
            code = self._handlers[frame.type](frame)
            answer = _Answer(frame.seq, frame.type, code, self.now_us)
            self._answers.append(answer)
        self._send_ack(frame, frame.session, answer.code)

    def _remembered(self, frame: Frame) -> _Answer | None:
        for a in self._answers:
            if (a.seq, a.type) == (frame.seq, frame.type) and (self.now_us - a.at_us) & _U32 < ANSWER_LIFE_US:
                return a
        return None

    def _count_gap(self, seq: int) -> None:
        if self._last_seq is not None:
            ahead = (seq - self._last_seq) & 0xFF
            if ahead == 0 or ahead >= 128:
                return
            self.counters["gaps"] = (self.counters["gaps"] + ahead - 1) & _U32
        self._last_seq = seq

    def _on_hello(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.Hello.size(0):
            return Code.BAD_PAYLOAD
        m = messages.Hello.unpack(frame.payload)
        if m.magic != messages.MAGIC:
            return Code.BAD_PAYLOAD
        if not m.min_version <= messages.VERSION <= m.max_version:
            return Code.BAD_VERSION
        if self.session == 0 or self._nonce != m.nonce or self.state is State.IDLE:
            self._begin_session(m.nonce)
        self._last_seq = frame.seq
        self._send_hello_ack(frame)
        return Code.OK

    def _begin_session(self, nonce: int) -> None:
        self._nonce = nonce
        self._last_session = (self._last_session + 1) & 0xFF or 1
        self.session = self._last_session
        self._lease_until = None
        self._applied_us = 0
        self._command_seq = 0
        self._clamped = 0
        for stream in self._streams.values():
            stream.period_us = 0
        self._answers.clear()
        if self.state is State.ACTIVE:
            self._ramp_down(StopCause.NEW_SESSION)
        elif self.state is State.SAFE_STOP:
            self._after_stop = State.LINKED
        elif not self._latched:
            self.state = State.LINKED

    def _on_time_req(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.TimeReq.size(0):
            return Code.BAD_PAYLOAD
        now = self.epoch << 32 | self.now_us
        self._send(messages.TimeRsp(messages.TimeReq.unpack(frame.payload).t_host_ns, now, now), self.session, REPLY)
        return Code.OK

    def _judge_deadline(self, deadline_us: int) -> Code:
        left = _left(deadline_us, self.now_us)
        if left <= 0:
            self._count("late")
            return Code.LATE
        return Code.TOO_EARLY if left > self.board.horizon_us else Code.OK

    def _on_lease(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.Lease.size(0):
            return Code.BAD_PAYLOAD
        m = messages.Lease.unpack(frame.payload)
        code = self._judge_deadline(m.expire_us)
        if code is Code.TOO_EARLY:
            self._count("rejects")
        if code is not Code.OK:
            return code
        self._lease_until = m.expire_us
        if _left(m.expire_us, self.now_us) > self.board.lease_cap_us:
            self._lease_until = (self.now_us + self.board.lease_cap_us) & _U32
            self._count("clamps")
        self._count("leases")
        if m.engaged:
            self._engaged_once = True
            self._disengaged = 0
        elif self.state is State.ACTIVE and self._engaged_once:
            self._disengaged += 1
            if self._disengaged >= self.board.disengaged_leases:
                self._ramp_down(StopCause.DISENGAGED)
        return Code.OK

    def _on_arm(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.Arm.size(0):
            return Code.BAD_PAYLOAD
        m = messages.Arm.unpack(frame.payload)
        if self._latched:
            return Code.LATCHED
        if self.state not in (State.LINKED, State.SAFE):
            return Code.BAD_STATE
        if m.boot_id != self.identity.boot_id:
            return Code.WRONG_BOOT
        if m.limits_crc != self.board.limits_crc:
            return Code.WRONG_LIMITS
        if self._lease_until is None:
            return Code.NO_LEASE
        self.state = State.ACTIVE
        self.stop_cause = StopCause.NONE
        self._armed_us = self.now_us
        self._engaged_once = False
        self._disengaged = 0
        self._rejected = 0
        return Code.OK

    def _on_disarm(self, frame: Frame) -> Code:
        if frame.payload:
            return Code.BAD_PAYLOAD
        if self.state is State.ACTIVE:
            self._ramp_down(StopCause.DISARMED)
        elif self.state is State.SAFE:
            self.state = State.LINKED
        return Code.OK

    def _on_estop(self, frame: Frame) -> Code:
        self.estop()  # a stop is a stop, whatever its payload says
        return Code.OK

    def _on_estop_clear(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.EstopClear.size(0):
            return Code.BAD_PAYLOAD
        if not self._latched:
            return Code.BAD_STATE
        if messages.EstopClear.unpack(frame.payload).challenge != self.challenge:
            return Code.WRONG_CHALLENGE
        if self._fault_inputs:
            return Code.LATCHED
        self.faults = 0
        self.challenge = 0
        self.state = State.IDLE
        return Code.OK

    def _judge_command(self, frame: Frame) -> Code:
        n = len(self.outputs)
        if len(frame.payload) != messages.SetNow.size(n):
            return Code.BAD_PAYLOAD
        m = messages.SetNow.unpack(frame.payload)
        if m.mode != Mode.VELOCITY:
            return Code.BAD_MODE
        if m.mask == 0 or m.mask >> n:
            return Code.BAD_AXIS
        return self._judge_deadline(m.valid_until_us)

    def _on_set_now(self, frame: Frame) -> Code:
        if self._latched:
            return Code.LATCHED
        if self.state is not State.ACTIVE:
            return Code.BAD_STATE
        code = self._judge_command(frame)
        if code is Code.LATE:
            return code
        if code is not Code.OK:
            self._count("rejects")
            self._rejected += 1
            if self._rejected >= self.board.reject_limit:
                self._ramp_down(StopCause.REJECTED_COMMANDS)
            return code
        m = messages.SetNow.unpack(frame.payload)
        self._rejected = 0
        self._clamped = 0
        for i, (target, limit) in enumerate(zip(m.target, self.board.max_speed, strict=True)):
            if not m.mask >> i & 1:
                continue
            self._targets[i] = max(-limit, min(limit, target))
            self._clamped |= (self._targets[i] != target) << i
            self._valid_until[i] = m.valid_until_us
        if self._clamped:
            self._count("clamps")
        self._command_seq = frame.seq
        self._applied_us = self.now_us or 1
        return Code.OK

    def _on_axis_get(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.AxisGet.size(0):
            return Code.BAD_PAYLOAD
        index = messages.AxisGet.unpack(frame.payload).axis
        if index >= len(self.outputs):
            return Code.BAD_AXIS
        self._send(self.board.axis(index), self.session, REPLY)
        return Code.OK

    def _on_subscribe(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.Subscribe.size(0):
            return Code.BAD_PAYLOAD
        m = messages.Subscribe.unpack(frame.payload)
        stream = self._streams.get(m.stream)
        if stream is None:
            return Code.BAD_STREAM
        if 0 < m.period_ms < MIN_PERIOD_MS:
            return Code.BAD_PAYLOAD
        stream.period_us = 1000 * m.period_ms
        stream.sent_us = (self.now_us - stream.period_us) & _U32
        return Code.OK

    def _on_ping(self, frame: Frame) -> Code:
        return Code.BAD_PAYLOAD if frame.payload else Code.OK
