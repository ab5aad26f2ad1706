"""The motor firmware in Python: the same core as the C files in firmware/, byte for byte.

The two are kept in lock-step by tests; this one also runs where there is no C compiler. Bytes and time go in, outputs
and bytes come out; ``now_us`` is device time in microseconds modulo 2**32 and the object must be called at least every
35 minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from firmware_bridge import framing, messages
from firmware_bridge.board import Board
from firmware_bridge.framing import ACK_REQ, REPLY, Decoder, Frame
from firmware_bridge.messages import Code, Drive, Fault, Message, Mode, Parameter, Point, State, StopCause, StopPolicy
from firmware_bridge.reference_faults import MeasuredFaults
from firmware_bridge.reference_motion import AxisMotion
from firmware_bridge.reference_settings import Settings
from firmware_bridge.reference_trajectory import U32, Aim, Trajectory, left

TX_BYTES, TX_BYTES_PER_AXIS = 304, 16
STATE_ROOM = 160
EVENT_ROOM = 40
EVENTS = 4
EVENT_EVERY_US = 200_000
ANSWERS = 8
ANSWER_LIFE_US = 1_000_000
MIN_PERIOD_MS = 5


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
        if self.period_us == 0 or (now_us - self.sent_us) & U32 < self.period_us:
            return False
        self.sent_us = (self.sent_us + self.period_us) & U32
        if (now_us - self.sent_us) & U32 >= self.period_us:
            self.sent_us = now_us
        return True


@dataclass(slots=True)
class _Answer:
    seq: int
    type: int
    code: int
    at_us: int


class Core:
    """One firmware. Not thread-safe.

    state, outputs (mrad/s or mrad per axis), drives, counters (the fields of STATS), tx (bytes for the line) are there to
    be read; position, velocity, current, supply_mv, temperature_dc are written by whoever measures them.
    """

    def __init__(self, board: Board, identity: Identity, now_us: int) -> None:
        n = len(board.axes)
        self.board = board
        self.identity = identity
        self.now_us = now_us
        self.epoch = 0
        self.state = State.BOOT
        self.stop_cause = StopCause.NONE
        self.faults = int(Fault.WATCHDOG_RESET) if identity.reset_cause == 1 else 0
        self.challenge = 0
        self.session = 0
        self.drives = [Drive.OFF] * n
        self.position = [0] * n
        self.velocity = [0] * n
        self.current = [0] * n
        self.supply_mv = 0
        self.temperature_dc = -32768
        self.counters = dict.fromkeys(messages.Stats.__struct_fields__, 0)
        self.tx = bytearray()

        self._settings = Settings(board)
        self._motions = [AxisMotion(part.mode) for part in board.parts]
        self._trajectory = Trajectory(board)
        self._fault_inputs = 0
        self._fault_measured = 0
        self._measured_faults = MeasuredFaults(n)
        self._tasks = 0
        self._ticked_us = now_us
        self._reported_state = State.BOOT
        self._after_stop = State.SAFE
        self._stopped_us = 0
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
        self._events: deque[messages.Event] = deque()
        self._event_number = 0
        self._event_stream = _Stream()
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
            messages.ParamGet.TYPE: self._on_param_get,
            messages.ParamSet.TYPE: self._on_param_set,
            messages.LimitsSet.TYPE: self._on_limits_set,
            messages.AxisGet.TYPE: self._on_axis_get,
            messages.Subscribe.TYPE: self._on_subscribe,
            messages.EventAck.TYPE: self._on_event_ack,
            messages.Ping.TYPE: self._on_ping,
        }
        if board.trajectory_points:
            self._handlers[messages.TrajPush.TYPE] = self._on_traj_push

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(motion.output for motion in self._motions)

    @property
    def speeds(self) -> tuple[int, ...]:
        """How fast the outputs change (position axis) or are (velocity axis), mrad/s."""
        return tuple(motion.speed for motion in self._motions)

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
        """One control step: deadlines, faults, motion, periodic messages. Call every millisecond or so."""
        elapsed_us = (now_us - self._ticked_us) & U32
        self._ticked_us = now_us
        self.counters["longest_tick_us"] = max(self.counters["longest_tick_us"], elapsed_us)
        elapsed_us = min(elapsed_us, self.board.max_tick_us)
        self._advance(now_us)
        if self.state is State.BOOT:
            self.state = State.IDLE
            if self.faults:
                self._cut(State.FAULT, StopCause.FAULT)
        measured = list(zip(self.position, self.velocity, self.current, strict=True))
        self._fault_measured = self._measured_faults.look(
            self._settings, self._motions, self.drives, measured, self.supply_mv, elapsed_us
        )
        self._raise_faults()
        self._move(elapsed_us)
        if self.state is State.SAFE_STOP and not any(motion.speed for motion in self._motions):
            self._settle()
        self._release()
        self._send_periodic()

    def set_faults(self, present: int) -> None:
        """The faults that the port sees at this moment; each latches FAULT and cuts the outputs at once."""
        self._fault_inputs = present
        self._raise_faults()

    def task_ran(self, task: int) -> None:
        """One of the three tasks that the hardware watchdog waits for: 1 control, 2 link, 4 safety."""
        self._tasks |= task

    def watchdog_due(self) -> bool:
        """Feed the hardware watchdog now? True once after all three tasks have run."""
        if self._tasks != 7:
            return False
        self._tasks = 0
        return True

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
        n = len(self._motions)
        self._targets = [0] * n
        self._valid_until = [None] * n
        self._trajectory.clear()

    def _stop(self, state: State, cause: StopCause) -> None:
        self.state = state
        self.stop_cause = cause
        self._forget_targets()
        if cause is StopCause.DISARMED:
            return
        self._count("trips")
        self._record_event()

    def _ramp_down(self, cause: StopCause) -> None:
        asked = cause in (StopCause.DISARMED, StopCause.NEW_SESSION)
        self._after_stop = State.LINKED if asked else State.SAFE
        self._stop(State.SAFE_STOP, cause)

    def _cut(self, state: State, cause: StopCause) -> None:
        self._stop(state, cause)
        self.drives = [Drive.OFF] * len(self._motions)
        for motion in self._motions:
            motion.cut()
        self.challenge = 0
        while self.challenge == 0:  # xorshift32, Marsaglia 2003
            x = self._random
            x ^= x << 13 & U32
            x ^= x >> 17
            x ^= x << 5 & U32
            self._random = x
            self.challenge = x & 0xFFFF

    def _settle(self) -> None:
        """The ramp has ended: from now on each axis does what its policy says."""
        for i in range(len(self.drives)):
            policy = self._settings.of_axis(Parameter.STOP_POLICY, i)
            self.drives[i] = {StopPolicy.COAST: Drive.OFF, StopPolicy.BRAKE: Drive.BRAKE}.get(StopPolicy(policy), Drive.ON)
        self._stopped_us = self.now_us
        self.state = self._after_stop

    def _release(self) -> None:
        if self.state not in (State.SAFE, State.LINKED):
            return
        for i, drive in enumerate(self.drives):
            releases = self._settings.of_axis(Parameter.STOP_POLICY, i) == StopPolicy.RELEASE
            after_us = 1000 * self._settings.of_axis(Parameter.RELEASE_AFTER_MS, i)
            if drive is Drive.ON and releases and (self.now_us - self._stopped_us) & U32 >= after_us:
                self.drives[i] = Drive.OFF

    # -- time ------------------------------------------------------------------------------------------------------

    def _advance(self, now_us: int) -> None:
        if now_us < self.now_us:
            self.epoch += 1
        self.now_us = now_us
        if self._lease_until is not None and left(self._lease_until, now_us) <= 0:
            self._lease_until = None
            if self.state is State.ACTIVE:
                self._ramp_down(StopCause.LEASE_EXPIRED)
        if self.state is State.ACTIVE and any(t is not None and left(t, now_us) <= 0 for t in self._valid_until):
            self._ramp_down(StopCause.COMMAND_EXPIRED)
        engage_by = (self._armed_us + self.board.engage_within_us) & U32
        if self.state is State.ACTIVE and not self._engaged_once and left(engage_by, now_us) <= 0:
            self._ramp_down(StopCause.DISENGAGED)

    def _raise_faults(self) -> None:
        present = self._fault_inputs | self._fault_measured
        self.faults |= present
        if present and not self._latched:
            self._cut(State.FAULT, StopCause.FAULT)

    def _move(self, elapsed_us: int) -> None:
        if self._trajectory.moving:
            patience_us = 1000 * self._settings.of_device(Parameter.UNDERRUN_MS)
            if not self._trajectory.follow(self.now_us, patience_us):
                self._count("underruns")
                self._ramp_down(StopCause.UNDERRUN)
        active = self.state is State.ACTIVE
        for i, motion in enumerate(self._motions):
            limits = self._settings.limits[i]
            acceleration = (limits if active else self.board.limits[i]).max_acceleration
            motion.step(self._wanted_speed(i, elapsed_us), acceleration, limits, elapsed_us)

    def _wanted_speed(self, i: int, elapsed_us: int) -> int:
        motion, limits = self._motions[i], self._settings.limits[i]
        if self.state is not State.ACTIVE:
            return 0
        if self._trajectory.moving:
            aim = self._trajectory.aim(i, self.now_us)
            return aim.speed if motion.mode is Mode.VELOCITY else motion.pursue(aim, limits, elapsed_us)
        if self._valid_until[i] is None:
            return 0
        if motion.mode is Mode.VELOCITY:
            return self._targets[i]
        return motion.pursue(Aim(self._targets[i] * 1_000_000, 0), limits, elapsed_us)

    # -- sending ---------------------------------------------------------------------------------------------------

    def _count(self, name: str) -> None:
        self.counters[name] = (self.counters[name] + 1) & U32

    def _send(self, message: Message, session: int, flags: int = 0, room: int = 0) -> None:
        frame = Frame(message.TYPE, self._tx_seq, session, message.pack(), flags)
        self._tx_seq = (self._tx_seq + 1) & 0xFF
        wire = framing.encode(frame, messages.SCHEMA_ID)
        if len(self.tx) + len(wire) + room > TX_BYTES + TX_BYTES_PER_AXIS * len(self.board.axes):
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
            limits_crc=self._settings.limits_crc(),
            lease_cap_us=self._settings.lease_cap_us,
            reset_cause=who.reset_cause,
            max_body=framing.MAX_BODY,
            trajectory_points=board.trajectory_points,
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
            powered=sum((drive is Drive.ON) << i for i, drive in enumerate(self.drives)),
            applied_us=self._applied_us,
            queue_ms=self._trajectory.queue_ms(self.now_us),
            supply_mv=self.supply_mv,
            temperature_dc=self.temperature_dc,
            challenge=self.challenge,
            position=tuple(self.position),
            velocity=tuple(self.velocity),
            current=tuple(self.current),
        )
        self._send(message, self.session, room=STATE_ROOM)
        self._reported_state = self.state

    def _record_event(self) -> None:
        self._event_number = (self._event_number + 1) & 0xFF
        if len(self._events) == EVENTS:
            self._count("events_lost")
            return
        self._event_stream.period_us = EVENT_EVERY_US
        if not self._events:
            self._event_stream.sent_us = (self.now_us - EVENT_EVERY_US) & U32
        self._events.append(
            messages.Event(self._event_number, self.stop_cause, self.state, self.faults, self.now_us)
        )  # fmt: skip

    def _send_periodic(self) -> None:
        if self.session and self._events and self._event_stream.due(self.now_us):
            self._send(self._events[0], self.session, room=EVENT_ROOM)
        stream = self._streams[messages.StateReport.TYPE]
        if stream.due(self.now_us) or (stream.period_us and self.state is not self._reported_state):
            self._send_state()
        if self._streams[messages.Stats.TYPE].due(self.now_us):
            self._send(messages.Stats(**self.counters), self.session, room=STATE_ROOM)

    # -- messages --------------------------------------------------------------------------------------------------

    def _handle(self, frame: Frame) -> None:
        wants_ack = bool(frame.flags & ACK_REQ)
        known = frame.type == messages.Hello.TYPE or frame.type in self._handlers
        if frame.flags & REPLY or frame.type >= 0x80:
            self._not_understood += 1
            return
        stops = frame.type == messages.Estop.TYPE
        if self.state is State.BOOT and not stops:
            self._count("stale")
            return
        needs_session = known and frame.type not in messages.SESSIONLESS
        foreign = needs_session if frame.session == 0 else frame.session != self.session
        if foreign and not stops:
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
        if not foreign:
            self._count_gap(frame.seq)
        if not wants_ack or stops:  # a stop is never taken for a repeat
            code = self._handlers[frame.type](frame)
            if wants_ack:
                self._send_ack(frame, frame.session, code)
            return
        answer = self._remembered(frame)
        if answer is None:
            code = self._handlers[frame.type](frame)
            answer = _Answer(frame.seq, frame.type, code, self.now_us)
            self._answers.append(answer)
        self._send_ack(frame, frame.session, answer.code)

    def _remembered(self, frame: Frame) -> _Answer | None:
        for a in self._answers:
            if (a.seq, a.type) == (frame.seq, frame.type) and (self.now_us - a.at_us) & U32 < ANSWER_LIFE_US:
                return a
        return None

    def _count_gap(self, seq: int) -> None:
        if self._last_seq is not None:
            ahead = (seq - self._last_seq) & 0xFF
            if ahead == 0 or ahead >= 128:
                return
            self.counters["gaps"] = (self.counters["gaps"] + ahead - 1) & U32
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
        self._event_stream.sent_us = (self.now_us - self._event_stream.period_us) & U32
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
        remaining_us = left(deadline_us, self.now_us)
        if remaining_us <= 0:
            self._count("late")
            return Code.LATE
        return Code.TOO_EARLY if remaining_us > self.board.horizon_us else Code.OK

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
        if left(m.expire_us, self.now_us) > self._settings.lease_cap_us:
            self._lease_until = (self.now_us + self._settings.lease_cap_us) & U32
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
        if m.limits_crc != self._settings.limits_crc():
            return Code.WRONG_LIMITS
        if self._lease_until is None:
            return Code.NO_LEASE
        self.state = State.ACTIVE
        self.stop_cause = StopCause.NONE
        self._armed_us = self.now_us
        self._engaged_once = False
        self._disengaged = 0
        self._rejected = 0
        for i, motion in enumerate(self._motions):
            if motion.mode is Mode.POSITION and self.drives[i] is not Drive.ON:
                motion.start_at(self.position[i])  # a held axis goes on from where it is held
            self.drives[i] = Drive.ON
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
        if self._fault_inputs | self._fault_measured:
            return Code.LATCHED
        self.faults = 0
        self.challenge = 0
        self.state = State.IDLE
        return Code.OK

    def _refuse_command(self, code: Code) -> Code:
        self._count("rejects")
        self._rejected += 1
        if self._rejected >= self.board.reject_limit:
            self._ramp_down(StopCause.REJECTED_COMMANDS)
        return code

    def _accept_command(self, frame: Frame, clamped: int) -> Code:
        self._rejected = 0
        self._clamped = clamped
        if clamped:
            self._count("clamps")
        self._command_seq = frame.seq
        self._applied_us = self.now_us or 1
        return Code.OK

    def _judge_command(self, frame: Frame) -> Code:
        n = len(self._motions)
        if len(frame.payload) != messages.SetNow.size(n):
            return Code.BAD_PAYLOAD
        m = messages.SetNow.unpack(frame.payload)
        if m.mode not in (Mode.VELOCITY, Mode.POSITION):
            return Code.BAD_MODE
        if m.mask == 0 or m.mask >> n:
            return Code.BAD_AXIS
        if any(m.mask >> i & 1 and motion.mode != m.mode for i, motion in enumerate(self._motions)):
            return Code.BAD_MODE
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
            return self._refuse_command(code)
        m = messages.SetNow.unpack(frame.payload)
        self._trajectory.clear()
        clamped = 0
        for i, (target, limit) in enumerate(zip(m.target, self._settings.limits, strict=True)):
            if not m.mask >> i & 1:
                continue
            low, high = limit.min_position, limit.max_position
            if m.mode == Mode.VELOCITY:
                low, high = -limit.max_speed, limit.max_speed
            self._targets[i] = max(low, min(high, target))
            clamped |= (self._targets[i] != target) << i
            self._valid_until[i] = m.valid_until_us
        return self._accept_command(frame, clamped)

    def _on_traj_push(self, frame: Frame) -> Code:
        if self._latched:
            return Code.LATCHED
        if self.state is not State.ACTIVE:
            return Code.BAD_STATE
        try:
            m = messages.TrajPush.unpack(frame.payload, len(self._motions))
        except ValueError:
            return self._refuse_command(Code.BAD_PAYLOAD)
        code = self._trajectory.judge(m.points, self.now_us)
        if code is not Code.OK:
            return self._refuse_command(code)
        places = tuple(motion.output if motion.mode is Mode.POSITION else 0 for motion in self._motions)
        here = Point(self.now_us, places, tuple(motion.speed for motion in self._motions))
        code, late, clamped = self._trajectory.push(m.replace_from_us, m.points, self._settings.limits, here)
        self.counters["late"] = (self.counters["late"] + late) & U32
        if code is Code.FULL:
            self._count("rejects")
        if code is not Code.OK:
            return code
        self.counters["points"] = (self.counters["points"] + len(m.points) - late) & U32
        self._valid_until = [None] * len(self._motions)
        return self._accept_command(frame, clamped)

    def _on_param_get(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.ParamGet.size(0):
            return Code.BAD_PAYLOAD
        m = messages.ParamGet.unpack(frame.payload)
        param = self._settings.describe(m.parameter, m.axis)
        if param is None:
            return Code.BAD_PARAMETER
        self._send(param, self.session, REPLY)
        return Code.OK

    def _on_param_set(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.ParamSet.size(0):
            return Code.BAD_PAYLOAD
        m = messages.ParamSet.unpack(frame.payload)
        if self.state is not State.LINKED:
            return Code.BAD_STATE
        return self._settings.set(m.parameter, m.axis, m.value)

    def _on_limits_set(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.LimitsSet.size(0):
            return Code.BAD_PAYLOAD
        if self.state is not State.LINKED:
            return Code.BAD_STATE
        return self._settings.set_limits(messages.LimitsSet.unpack(frame.payload))

    def _on_event_ack(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.EventAck.size(0):
            return Code.BAD_PAYLOAD
        if not self._events or self._events[0].number != messages.EventAck.unpack(frame.payload).number:
            return Code.BAD_VALUE
        self._events.popleft()
        self._event_stream.sent_us = (self.now_us - self._event_stream.period_us) & U32
        return Code.OK

    def _on_axis_get(self, frame: Frame) -> Code:
        if len(frame.payload) != messages.AxisGet.size(0):
            return Code.BAD_PAYLOAD
        index = messages.AxisGet.unpack(frame.payload).axis
        if index >= len(self._motions):
            return Code.BAD_AXIS
        self._send(self._settings.axis(index), self.session, REPLY)
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
        stream.sent_us = (self.now_us - stream.period_us) & U32
        return Code.OK

    def _on_ping(self, frame: Frame) -> Code:
        return Code.BAD_PAYLOAD if frame.payload else Code.OK
