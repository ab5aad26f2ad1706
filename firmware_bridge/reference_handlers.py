"""What each message does to the reference firmware, and the code that answers it; firmware/handlers.c."""

from __future__ import annotations

from collections.abc import Callable

from firmware_bridge import framing, messages
from firmware_bridge.framing import REPLY, Frame
from firmware_bridge.messages import Code, Drive, Mode, Point, State, StopCause
from firmware_bridge.reference_sending import send
from firmware_bridge.reference_state import CoreState
from firmware_bridge.reference_stopping import estop, ramp_down
from firmware_bridge.reference_trajectory import U32, left

MIN_PERIOD_MS = 5


def _begin_session(c: CoreState, nonce: int) -> None:
    c.nonce = nonce
    c.last_session = (c.last_session + 1) & 0xFF or 1
    c.session = c.last_session
    c.lease_until = None
    c.applied_us = 0
    c.command_seq = 0
    c.clamped = 0
    c.event_stream.sent_us = (c.now_us - c.event_stream.period_us) & U32
    for stream in c.streams.values():
        stream.period_us = 0
    c.answers.clear()
    if c.state is State.ACTIVE:
        ramp_down(c, StopCause.NEW_SESSION)
    elif c.state is State.SAFE_STOP:
        c.after_stop = State.LINKED
    elif not c.latched:
        c.state = State.LINKED


def _send_hello_ack(c: CoreState, asked: Frame) -> None:
    board, who = c.board, c.identity
    message = messages.HelloAck(
        answered_seq=asked.seq,
        version=messages.VERSION,
        session=c.session,
        axes=len(board.axes),
        nonce=c.nonce,
        boot_id=who.boot_id,
        schema_id=messages.SCHEMA_ID,
        limits_crc=c.settings.limits_crc(),
        lease_cap_us=c.settings.lease_cap_us,
        reset_cause=who.reset_cause,
        max_body=framing.MAX_BODY,
        trajectory_points=board.trajectory_points,
        commit_us=board.commit_us,
        uid=who.uid,
        firmware=who.firmware.encode(),
    )
    send(c, message, 0, REPLY)


def _on_hello(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.Hello.size(0):
        return Code.BAD_PAYLOAD
    m = messages.Hello.unpack(frame.payload)
    if m.magic != messages.MAGIC:
        return Code.BAD_PAYLOAD
    if not m.min_version <= messages.VERSION <= m.max_version:
        return Code.BAD_VERSION
    if c.session == 0 or c.nonce != m.nonce or c.state is State.IDLE:
        _begin_session(c, m.nonce)
    c.last_seq = frame.seq
    _send_hello_ack(c, frame)
    return Code.OK


def _on_time_req(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.TimeReq.size(0):
        return Code.BAD_PAYLOAD
    now = c.epoch << 32 | c.now_us
    send(c, messages.TimeRsp(messages.TimeReq.unpack(frame.payload).t_host_ns, now, now), c.session, REPLY)
    return Code.OK


def _on_ping(c: CoreState, frame: Frame) -> Code:
    return Code.BAD_PAYLOAD if frame.payload else Code.OK


def _judge_deadline(c: CoreState, deadline_us: int) -> Code:
    remaining_us = left(deadline_us, c.now_us)
    if remaining_us <= 0:
        c.count("late")
        return Code.LATE
    return Code.TOO_EARLY if remaining_us > c.board.horizon_us else Code.OK


def _on_lease(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.Lease.size(0):
        return Code.BAD_PAYLOAD
    m = messages.Lease.unpack(frame.payload)
    code = _judge_deadline(c, m.expire_us)
    if code is Code.TOO_EARLY:
        c.count("rejects")
    if code is not Code.OK:
        return code
    c.lease_until = m.expire_us
    if left(m.expire_us, c.now_us) > c.settings.lease_cap_us:
        c.lease_until = (c.now_us + c.settings.lease_cap_us) & U32
        c.count("clamps")
    c.count("leases")
    if m.engaged:
        c.engaged_once = True
        c.disengaged = 0
    elif c.state is State.ACTIVE and c.engaged_once:
        c.disengaged += 1
        if c.disengaged >= c.board.disengaged_leases:
            ramp_down(c, StopCause.DISENGAGED)
    return Code.OK


def _on_arm(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.Arm.size(0):
        return Code.BAD_PAYLOAD
    m = messages.Arm.unpack(frame.payload)
    if c.latched:
        return Code.LATCHED
    if c.state not in (State.LINKED, State.SAFE):
        return Code.BAD_STATE
    if m.boot_id != c.identity.boot_id:
        return Code.WRONG_BOOT
    if m.limits_crc != c.settings.limits_crc():
        return Code.WRONG_LIMITS
    if c.lease_until is None:
        return Code.NO_LEASE
    c.state = State.ACTIVE
    c.stop_cause = StopCause.NONE
    c.armed_us = c.now_us
    c.engaged_once = False
    c.disengaged = 0
    c.rejected = 0
    for i, motion in enumerate(c.motions):
        if motion.mode is Mode.POSITION and c.drives[i] is not Drive.ON:
            motion.start_at(c.position[i])  # a held axis goes on from where it is held
        c.drives[i] = Drive.ON
    return Code.OK


def _on_disarm(c: CoreState, frame: Frame) -> Code:
    if frame.payload:
        return Code.BAD_PAYLOAD
    if c.state is State.ACTIVE:
        ramp_down(c, StopCause.DISARMED)
    elif c.state is State.SAFE:
        c.state = State.LINKED
    return Code.OK


def _on_estop(c: CoreState, frame: Frame) -> Code:
    estop(c)  # a stop is a stop, whatever its payload says
    return Code.OK


def _on_estop_clear(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.EstopClear.size(0):
        return Code.BAD_PAYLOAD
    if not c.latched:
        return Code.BAD_STATE
    if messages.EstopClear.unpack(frame.payload).challenge != c.challenge:
        return Code.WRONG_CHALLENGE
    if c.fault_inputs | c.fault_measured:
        return Code.LATCHED
    c.faults = 0
    c.challenge = 0
    c.state = State.IDLE
    return Code.OK


def _refuse_command(c: CoreState, code: Code) -> Code:
    c.count("rejects")
    c.rejected += 1
    if c.rejected >= c.board.reject_limit:
        ramp_down(c, StopCause.REJECTED_COMMANDS)
    return code


def _accept_command(c: CoreState, frame: Frame, clamped: int) -> Code:
    c.rejected = 0
    c.clamped = clamped
    if clamped:
        c.count("clamps")
    c.command_seq = frame.seq
    c.applied_us = c.now_us or 1
    return Code.OK


def _judge_command(c: CoreState, frame: Frame) -> Code:
    n = len(c.motions)
    if len(frame.payload) != messages.SetNow.size(n):
        return Code.BAD_PAYLOAD
    m = messages.SetNow.unpack(frame.payload)
    if m.mode not in (Mode.VELOCITY, Mode.POSITION):
        return Code.BAD_MODE
    if m.mask == 0 or m.mask >> n:
        return Code.BAD_AXIS
    if any(m.mask >> i & 1 and motion.mode != m.mode for i, motion in enumerate(c.motions)):
        return Code.BAD_MODE
    return _judge_deadline(c, m.valid_until_us)


def _on_set_now(c: CoreState, frame: Frame) -> Code:
    if c.latched:
        return Code.LATCHED
    if c.state is not State.ACTIVE:
        return Code.BAD_STATE
    code = _judge_command(c, frame)
    if code is Code.LATE:
        return code
    if code is not Code.OK:
        return _refuse_command(c, code)
    m = messages.SetNow.unpack(frame.payload)
    c.trajectory.clear()
    clamped = 0
    for i, (target, limit) in enumerate(zip(m.target, c.settings.limits, strict=True)):
        if not m.mask >> i & 1:
            continue
        low, high = limit.min_position, limit.max_position
        if m.mode == Mode.VELOCITY:
            low, high = -limit.max_speed, limit.max_speed
        c.targets[i] = max(low, min(high, target))
        clamped |= (c.targets[i] != target) << i
        c.valid_until[i] = m.valid_until_us
    return _accept_command(c, frame, clamped)


def _on_traj_push(c: CoreState, frame: Frame) -> Code:
    if c.latched:
        return Code.LATCHED
    if c.state is not State.ACTIVE:
        return Code.BAD_STATE
    try:
        m = messages.TrajPush.unpack(frame.payload, len(c.motions))
    except ValueError:
        return _refuse_command(c, Code.BAD_PAYLOAD)
    code = c.trajectory.judge(m.points, c.now_us)
    if code is not Code.OK:
        return _refuse_command(c, code)
    places = tuple(motion.output if motion.mode is Mode.POSITION else 0 for motion in c.motions)
    here = Point(c.now_us, places, tuple(motion.speed for motion in c.motions))
    code, late, clamped = c.trajectory.push(m.replace_from_us, m.points, c.settings.limits, here)
    c.counters["late"] = (c.counters["late"] + late) & U32
    if code is Code.FULL:
        c.count("rejects")
    if code is not Code.OK:
        return code
    c.counters["points"] = (c.counters["points"] + len(m.points) - late) & U32
    c.valid_until = [None] * len(c.motions)
    return _accept_command(c, frame, clamped)


def _on_param_get(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.ParamGet.size(0):
        return Code.BAD_PAYLOAD
    m = messages.ParamGet.unpack(frame.payload)
    param = c.settings.describe(m.parameter, m.axis)
    if param is None:
        return Code.BAD_PARAMETER
    send(c, param, c.session, REPLY)
    return Code.OK


def _on_param_set(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.ParamSet.size(0):
        return Code.BAD_PAYLOAD
    m = messages.ParamSet.unpack(frame.payload)
    if c.state is not State.LINKED:
        return Code.BAD_STATE
    return c.settings.set(m.parameter, m.axis, m.value)


def _on_limits_set(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.LimitsSet.size(0):
        return Code.BAD_PAYLOAD
    if c.state is not State.LINKED:
        return Code.BAD_STATE
    return c.settings.set_limits(messages.LimitsSet.unpack(frame.payload))


def _on_axis_get(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.AxisGet.size(0):
        return Code.BAD_PAYLOAD
    index = messages.AxisGet.unpack(frame.payload).axis
    if index >= len(c.motions):
        return Code.BAD_AXIS
    send(c, c.settings.axis(index), c.session, REPLY)
    return Code.OK


def _on_subscribe(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.Subscribe.size(0):
        return Code.BAD_PAYLOAD
    m = messages.Subscribe.unpack(frame.payload)
    stream = c.streams.get(m.stream)
    if stream is None:
        return Code.BAD_STREAM
    if 0 < m.period_ms < MIN_PERIOD_MS:
        return Code.BAD_PAYLOAD
    stream.period_us = 1000 * m.period_ms
    stream.sent_us = (c.now_us - stream.period_us) & U32
    return Code.OK


def _on_event_ack(c: CoreState, frame: Frame) -> Code:
    if len(frame.payload) != messages.EventAck.size(0):
        return Code.BAD_PAYLOAD
    if not c.events or c.events[0].number != messages.EventAck.unpack(frame.payload).number:
        return Code.BAD_VALUE
    c.events.popleft()
    c.event_stream.sent_us = (c.now_us - c.event_stream.period_us) & U32
    return Code.OK


Handler = Callable[[CoreState, Frame], Code]
_HANDLERS: dict[int, Handler] = {
    messages.Hello.TYPE: _on_hello,
    messages.TimeReq.TYPE: _on_time_req,
    messages.Lease.TYPE: _on_lease,
    messages.Arm.TYPE: _on_arm,
    messages.Disarm.TYPE: _on_disarm,
    messages.Estop.TYPE: _on_estop,
    messages.EstopClear.TYPE: _on_estop_clear,
    messages.SetNow.TYPE: _on_set_now,
    messages.ParamGet.TYPE: _on_param_get,
    messages.ParamSet.TYPE: _on_param_set,
    messages.LimitsSet.TYPE: _on_limits_set,
    messages.AxisGet.TYPE: _on_axis_get,
    messages.Subscribe.TYPE: _on_subscribe,
    messages.EventAck.TYPE: _on_event_ack,
    messages.Ping.TYPE: _on_ping,
}


def find_handler(c: CoreState, kind: int) -> Handler | None:
    """None for an unknown type."""
    if kind == messages.TrajPush.TYPE:
        return _on_traj_push if c.board.trajectory_points else None
    return _HANDLERS.get(kind)
