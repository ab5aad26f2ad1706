"""Every limit of the firmware, from both sides, on both cores."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from firmware_bridge import framing
from firmware_bridge.board import ROVER
from firmware_bridge.evidence.life import Raw
from firmware_bridge.framing import ACK_REQ, checksum, cobs_encode
from firmware_bridge.messages import (
    MAGIC,
    Ack,
    Arm,
    Axis,
    AxisGet,
    Code,
    Disarm,
    Estop,
    EstopClear,
    Event,
    EventAck,
    Fault,
    Hello,
    Lease,
    Message,
    Ping,
    SetNow,
    State,
    Stats,
    StopCause,
    Subscribe,
    TimeReq,
    TimeRsp,
    limits_crc,
)
from tests.firmware_bridge.cores import U32, AnyCore, Bench, CCore, PythonCore

MAX = ROVER.max_speed[0]
STEP = ROVER.max_acceleration[0] // 1000  # mrad/s per millisecond


# -- nothing moves without ------------------------------------------------------------------------------------------


def test_it_starts_idle_and_still(bench: Bench) -> None:
    bench.run(10)
    assert bench.state is State.IDLE
    assert bench.core.outputs() == (0, 0)
    assert bench.core.take() == b""


def test_hello_links_and_moves_nothing(bench: Bench) -> None:
    ack = bench.hello()
    assert bench.state is State.LINKED
    assert (ack.axes, ack.boot_id, ack.lease_cap_us) == (2, bench.boot_id, ROVER.lease_cap_us)
    assert bench.set_now(1000, 1000) is Code.BAD_STATE
    bench.run(50, lambda: bench.lease())
    assert bench.core.outputs() == (0, 0)


@pytest.mark.parametrize(
    ("arm", "leased", "code"),
    [
        (Arm(ROVER.limits_crc, 0xB0071D42), True, Code.OK),
        (Arm(ROVER.limits_crc, 0xB0071D42), False, Code.NO_LEASE),
        (Arm(ROVER.limits_crc ^ 1, 0xB0071D42), True, Code.WRONG_LIMITS),
        (Arm(ROVER.limits_crc, 0xB0071D43), True, Code.WRONG_BOOT),
    ],
)
def test_arming_needs_limits_boot_and_lease(bench: Bench, arm: Arm, leased: bool, code: Code) -> None:
    bench.hello()
    if leased:
        assert bench.lease() is Code.OK
    assert bench.ask(arm) is code
    assert (bench.state is State.ACTIVE) == (code is Code.OK)


def test_an_expired_lease_does_not_arm(bench: Bench) -> None:
    bench.hello()
    bench.lease(100)
    bench.run(99)
    assert bench.arm() is Code.OK
    bench.disarm()
    bench.run(1)
    bench.lease(100)
    bench.run(100)
    assert bench.arm() is Code.NO_LEASE


def test_arming_twice_is_refused(bench: Bench) -> None:
    bench.activate()
    assert bench.arm() is Code.BAD_STATE
    assert bench.state is State.ACTIVE


def test_armed_without_a_command_stands_still(bench: Bench) -> None:
    bench.activate()
    bench.run(300, lambda: bench.lease())
    assert bench.state is State.ACTIVE
    assert bench.core.outputs() == (0, 0)


# -- the lease ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ms", "state"), [(99, State.ACTIVE), (100, State.SAFE_STOP)])
def test_lease_expiry_to_the_millisecond(bench: Bench, ms: int, state: State) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.lease(100)
    bench.run(ms)
    assert bench.state is state


def test_after_expiry_it_ramps_down_and_stays_safe(bench: Bench) -> None:
    bench.activate()
    bench.set_now(MAX, -MAX)
    bench.lease(100)
    bench.run(100)
    assert bench.state is State.SAFE_STOP
    assert bench.core.outputs() == (MAX - STEP, -MAX + STEP)
    bench.run(48)
    assert (bench.state, bench.core.outputs()) == (State.SAFE_STOP, (STEP, -STEP))
    bench.run(1)
    assert (bench.state, bench.core.outputs()) == (State.SAFE, (0, 0))
    assert bench.cause() is StopCause.LEASE_EXPIRED
    assert bench.set_now(1000, 1000) is Code.BAD_STATE
    bench.run(100, lambda: bench.lease())
    assert (bench.state, bench.core.outputs()) == (State.SAFE, (0, 0))
    assert bench.arm() is Code.OK


def test_a_lease_during_the_stop_does_not_revive_motion(bench: Bench) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.lease(100)
    bench.run(110)
    assert bench.arm() is Code.BAD_STATE
    bench.run(100, lambda: (bench.lease(), bench.set_now(MAX, MAX)))
    assert (bench.state, bench.core.outputs()) == (State.SAFE, (0, 0))


@pytest.mark.parametrize(
    ("ms", "code", "alive_ms"),
    [
        (-1, Code.LATE, None),
        (0, Code.LATE, None),
        (1, Code.OK, 1),
        (499, Code.OK, 499),
        (500, Code.OK, 500),
        (501, Code.OK, 500),
        (2000, Code.OK, 500),
        (2000.001, Code.TOO_EARLY, None),
    ],
)
def test_a_lease_is_capped_and_must_be_plausible(bench: Bench, ms: float, code: Code, alive_ms: int | None) -> None:
    bench.hello()
    assert bench.lease(ms) is code
    assert bench.core.counters()["clamps"] == (500 < ms <= 2000)
    if alive_ms is None:
        assert bench.arm() is Code.NO_LEASE
        return
    assert bench.arm() is Code.OK
    bench.run(alive_ms - 1)
    assert bench.state is State.ACTIVE
    bench.run(1)
    assert bench.state is State.SAFE  # standing still, the stop takes no time


def test_a_lapse_between_two_ticks_is_not_forgiven(bench: Bench) -> None:
    bench.activate()
    bench.lease(100)
    bench.now_us += 150_000
    bench.lease(100)
    assert bench.state is State.SAFE_STOP


def test_a_shorter_lease_replaces_a_longer_one(bench: Bench) -> None:
    bench.activate()
    bench.lease(400)
    bench.lease(50)
    bench.run(50)
    assert bench.state is State.SAFE


def test_bytes_that_were_stuck_move_nothing(bench: Bench) -> None:
    """Two seconds of live traffic arrive in one burst, two seconds late."""
    bench.activate()
    stuck = b""
    for ms in range(0, 2000, 20):
        stuck += bench.wire(Lease(bench.after(ms + 100), 0, 1, 0, 0))
        stuck += bench.wire(SetNow(1, 3, (MAX, MAX), bench.after(ms + 100)))
    bench.run(2100)
    assert bench.state is State.SAFE
    bench.receive(stuck)
    bench.run(50)
    assert (bench.state, bench.core.outputs()) == (State.SAFE, (0, 0))
    assert bench.arm() is Code.NO_LEASE
    assert bench.core.counters()["late"] == 100


# -- engagement -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leases", "state"), [(2, State.ACTIVE), (3, State.SAFE_STOP)])
def test_three_leases_without_engagement_end_it(bench: Bench, leases: int, state: State) -> None:
    bench.activate()
    for _ in range(leases):
        bench.lease(100, engaged=0)
    assert bench.state is state


def test_engaging_again_in_time_is_forgiven(bench: Bench) -> None:
    bench.activate()
    for engaged in (0, 0, 1, 0, 0):
        bench.lease(100, engaged=engaged)
    assert bench.state is State.ACTIVE


@pytest.mark.parametrize(("ms", "state"), [(999, State.ACTIVE), (1000, State.SAFE)])
def test_the_loop_must_engage_within_a_second_of_arming(bench: Bench, ms: int, state: State) -> None:
    bench.hello()
    bench.lease(100, engaged=0)
    bench.arm()
    bench.run(ms, lambda: bench.lease(100, engaged=0))
    assert bench.state is state
    assert state is State.ACTIVE or bench.cause() is StopCause.DISENGAGED


# -- commands -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ms", "state"), [(199, State.ACTIVE), (200, State.SAFE_STOP)])
def test_a_command_runs_out_although_the_lease_lives(bench: Bench, ms: int, state: State) -> None:
    bench.activate()
    bench.set_now(MAX, MAX, ms=200)
    bench.run(ms, lambda: bench.lease(100))
    assert bench.state is state
    assert state is State.ACTIVE or bench.cause() is StopCause.COMMAND_EXPIRED


def test_each_axis_has_its_own_deadline(bench: Bench) -> None:
    bench.activate()
    bench.set_now(1000, 0, ms=100, mask=1)
    bench.run(100, lambda: (bench.lease(100), bench.set_now(0, 1000, ms=100, mask=2)))
    assert bench.state is State.SAFE_STOP


def test_a_mask_leaves_other_axes_alone(bench: Bench) -> None:
    bench.activate()
    bench.set_now(1000, 2000)
    bench.set_now(9999, 3000, mask=2)
    bench.run(50)
    assert bench.core.outputs() == (1000, 3000)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, Code.OK),
        ({"ms": 0.001}, Code.OK),
        ({"ms": 0}, Code.LATE),
        ({"ms": -5}, Code.LATE),
        ({"ms": 2000}, Code.OK),
        ({"ms": 2000.001}, Code.TOO_EARLY),
        ({"mode": 0}, Code.BAD_MODE),
        ({"mode": 2}, Code.BAD_MODE),
        ({"mask": 0}, Code.BAD_AXIS),
        ({"mask": 4}, Code.BAD_AXIS),
        ({"mask": 7}, Code.BAD_AXIS),
    ],
)
def test_commands_are_judged(bench: Bench, changes: dict[str, float], code: Code) -> None:
    bench.activate()
    before = bench.core.counters()
    assert bench.set_now(1000, 1000, **changes) is code  # type: ignore[arg-type]
    after = bench.core.counters()
    assert after["late"] - before["late"] == (code is Code.LATE)
    assert after["rejects"] - before["rejects"] == (code not in (Code.OK, Code.LATE))
    bench.core.tick(bench.now_us + 1000 if code is not Code.OK or "ms" not in changes else bench.now_us)
    assert bench.core.outputs() == ((STEP, STEP) if code is Code.OK and "ms" not in changes else (0, 0))


@pytest.mark.parametrize(("refused", "state"), [(4, State.ACTIVE), (5, State.SAFE_STOP)])
def test_refused_commands_in_a_row_end_it(bench: Bench, refused: int, state: State) -> None:
    bench.activate()
    for _ in range(4):
        bench.set_now(1, 1, mode=9)
    bench.set_now(1, 1)
    for _ in range(refused):
        bench.set_now(1, 1, mode=9)
    assert bench.state is state


def test_late_commands_are_dropped_and_never_end_it(bench: Bench) -> None:
    bench.activate()
    bench.set_now(1000, 1000)
    for _ in range(20):
        assert bench.set_now(MAX, MAX, ms=-1) is Code.LATE
    bench.run(20)
    assert (bench.state, bench.core.outputs()) == (State.ACTIVE, (1000, 1000))


@pytest.mark.parametrize(
    ("asked", "done", "clamped"),
    [
        ((MAX, -MAX), (MAX, -MAX), 0),
        ((MAX + 1, MAX), (MAX, MAX), 1),
        ((MAX, -MAX - 1), (MAX, -MAX), 2),
        ((2**31 - 1, -(2**31)), (MAX, -MAX), 3),
    ],
)
def test_speed_is_clamped_and_reported(bench: Bench, asked: tuple[int, int], done: tuple[int, int], clamped: int) -> None:
    bench.activate()
    assert bench.set_now(*asked) is Code.OK
    seq = bench.seq
    bench.run(60)
    assert bench.core.outputs() == done
    assert bench.core.counters()["clamps"] == (clamped != 0)
    report = bench.report()
    assert (report.clamped, report.last_seq, report.applied_us) == (clamped, seq, 1)


def test_acceleration_is_limited_by_time_not_by_messages(bench: Bench) -> None:
    bench.activate()
    for _ in range(20):
        bench.set_now(MAX, -MAX)
    assert bench.core.outputs() == (0, 0)
    for ms in range(1, 50):
        bench.run(1, lambda: [bench.set_now(MAX, -MAX) for _ in range(5)])
        assert bench.core.outputs() == (STEP * ms, -STEP * ms)
    bench.run(1)
    assert bench.core.outputs() == (MAX, -MAX)
    bench.set_now(-MAX, MAX)
    bench.run(1)
    assert bench.core.outputs() == (MAX - STEP, -MAX + STEP)


def test_slew_does_not_depend_on_the_tick(bench: Bench) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    for us in (1, 999, 7, 1993, 500, 500):  # 4 ms in all
        bench.now_us += us
        bench.core.tick(bench.now_us)
    assert bench.core.outputs() == (4 * STEP, 4 * STEP)


@pytest.mark.parametrize(("pause_ms", "speed"), [(19, 19 * STEP), (20, 20 * STEP), (21, 20 * STEP), (90, 20 * STEP)])
def test_a_stalled_tick_does_not_jump(bench: Bench, pause_ms: int, speed: int) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.now_us += pause_ms * 1000
    bench.core.tick(bench.now_us)
    assert bench.core.outputs() == (speed, speed)


# -- stops ----------------------------------------------------------------------------------------------------------


def test_disarm_ramps_down_to_linked(bench: Bench) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.run(50)
    assert bench.disarm() is Code.OK
    assert bench.state is State.SAFE_STOP
    bench.run(49, lambda: bench.lease())
    assert bench.state is State.SAFE_STOP
    bench.run(1)
    assert (bench.state, bench.core.outputs()) == (State.LINKED, (0, 0))
    assert bench.core.counters()["trips"] == 0


def reach(bench: Bench, state: State) -> None:
    """Bring a fresh core into a state."""
    if state in (State.LINKED, State.FAULT, State.ESTOP):
        bench.hello()
    if state in (State.ACTIVE, State.SAFE_STOP, State.SAFE):
        bench.activate()
        bench.set_now(MAX, MAX)
        bench.run(10)
    if state is State.SAFE_STOP:
        bench.run(390)
    if state is State.SAFE:
        bench.run(450)
    if state is State.FAULT:
        bench.core.set_faults(Fault.ENCODER)
    if state is State.ESTOP:
        bench.estop()
    assert bench.state is state


ALL_STATES = [s for s in State if s not in (State.OFFLINE, State.BOOT)]


@pytest.mark.parametrize("state", ALL_STATES)
@pytest.mark.parametrize("how", ["message", "broken message", "button"])
def test_estop_cuts_at_once_in_every_state_and_latches(bench: Bench, state: State, how: str) -> None:
    reach(bench, state)
    if how == "button":
        bench.core.press_estop()
    elif how == "message":
        bench.receive(bench.wire(Estop(1), session=0))
    else:
        bench.receive(bench.wire(Raw(Estop.TYPE, b""), session=0))
    assert (bench.state, bench.core.outputs()) == (State.ESTOP, (0, 0))  # before any tick
    if bench.session == 0:
        bench.hello()
    bench.lease()
    assert bench.arm() is Code.LATCHED
    assert bench.set_now(1000, 1000) is Code.LATCHED
    bench.disarm()
    bench.hello(nonce=77)
    bench.run(100, lambda: bench.lease())
    assert (bench.state, bench.core.outputs()) == (State.ESTOP, (0, 0))


def test_estop_works_whatever_session_and_schema(bench: Bench) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.run(10)
    bench.receive(bytes.fromhex("00 03 10 06 01 06 01 D5 0F AE F4 00"))
    assert (bench.state, bench.core.outputs()) == (State.ESTOP, (0, 0))


def test_clearing_needs_the_challenge_and_leads_to_idle(bench: Bench) -> None:
    bench.activate()
    bench.estop()
    challenge = bench.report().challenge
    assert challenge != 0
    assert bench.clear(challenge ^ 1) is Code.WRONG_CHALLENGE
    assert bench.clear(0) is Code.WRONG_CHALLENGE
    assert bench.state is State.ESTOP
    assert bench.clear(challenge) is Code.OK
    assert bench.state is State.IDLE
    assert bench.report().challenge == 0
    bench.lease()
    assert bench.arm() is Code.BAD_STATE
    assert bench.clear(challenge) is Code.BAD_STATE
    bench.hello(nonce=2)
    assert bench.state is State.LINKED


def test_every_stop_has_its_own_challenge(bench: Bench) -> None:
    bench.activate()
    bench.estop()
    first = bench.report().challenge
    bench.estop()
    assert bench.report().challenge == first  # the same stop, said again
    bench.clear()
    bench.estop()
    assert bench.clear(first) is Code.WRONG_CHALLENGE


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_cuts_latches_and_waits_for_its_cause_to_go(bench: Bench, fault: Fault) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.run(10)
    bench.core.set_faults(fault)
    assert (bench.state, bench.core.outputs()) == (State.FAULT, (0, 0))
    report = bench.report()
    assert (report.faults, report.stop_cause) == (fault, StopCause.FAULT)
    assert bench.clear() is Code.LATCHED
    bench.core.set_faults(0)
    bench.run(10)
    assert bench.state is State.FAULT
    assert bench.report().faults == fault
    assert bench.clear() is Code.OK
    assert (bench.state, bench.report().faults) == (State.IDLE, 0)


# -- sessions -------------------------------------------------------------------------------------------------------


def test_a_new_host_stops_the_motors_of_the_old(bench: Bench) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.run(50)
    old = bench.session
    bench.hello(nonce=2)
    assert bench.session != old
    assert bench.state is State.SAFE_STOP
    assert bench.ask(Ping(), session=old) is Code.NO_SESSION
    bench.run(50)
    assert (bench.state, bench.cause()) == (State.LINKED, StopCause.NEW_SESSION)
    assert bench.arm() is Code.NO_LEASE  # the old host's lease went with its session


def test_a_repeated_hello_changes_nothing(bench: Bench) -> None:
    bench.activate()
    session = bench.session
    for _ in range(5):
        assert bench.hello().session == session
    assert bench.state is State.ACTIVE


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello(MAGIC, 2, 9, 5), Code.BAD_VERSION),
        (Hello(MAGIC, 0, 0, 5), Code.BAD_VERSION),
        (Hello(MAGIC ^ 1, 1, 1, 5), Code.BAD_PAYLOAD),
    ],
)
def test_a_wrong_hello_is_refused_by_name(bench: Bench, hello: Hello, code: Code) -> None:
    assert bench.ask(hello, session=0) is code
    assert bench.state is State.IDLE


@pytest.mark.parametrize(
    "message",
    [TimeReq(1), Lease(1000, 0, 1, 0, 0), Arm(1, 1), Disarm(), EstopClear(1), SetNow(1, 3, (1, 1), 1), AxisGet(0)],
)
def test_nothing_that_matters_works_outside_a_session(bench: Bench, message: Message) -> None:
    bench.hello()
    assert bench.ask(message, session=0) is Code.NO_SESSION
    assert bench.core.counters()["stale"] == 1


def test_a_repeated_frame_is_answered_and_not_executed_again(bench: Bench) -> None:
    """The answer to ARM is lost, the motors are stopped meanwhile, the ARM is repeated: nothing may move."""
    bench.activate()
    seq = bench.seq
    arm = Arm(ROVER.limits_crc, bench.boot_id)
    bench.disarm()
    bench.run(1)
    assert bench.state is State.LINKED
    assert bench.ask(arm, seq=seq - 1) is Code.OK  # what it was answered at the time
    assert bench.state is State.LINKED
    bench.run(1000, lambda: bench.lease())
    assert bench.ask(arm, seq=seq - 1) is Code.OK  # a second later the same number is a new frame
    assert bench.state is State.ACTIVE


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 9, 13, 15, 30])
def test_wrong_lengths_are_refused(bench: Bench, length: int) -> None:
    bench.activate()
    for kind in (TimeReq, Lease, Arm, Disarm, EstopClear, SetNow, AxisGet, Subscribe, Ping):
        if kind.size(2) == length:
            continue
        assert bench.ask(Raw(kind.TYPE, b"\x01" * length)) is Code.BAD_PAYLOAD, kind.NAME


def test_unknown_types_and_our_own_echo_do_nothing(bench: Bench) -> None:
    bench.hello()
    assert bench.ask(Raw(0x7F, b"")) is Code.UNKNOWN_TYPE
    before = len(bench.heard)
    bench.receive(bench.wire(Ack(1, 4, 0), flags=ACK_REQ))
    assert len(bench.heard) == before
    assert bench.core.counters()["unknown"] == 2


def test_gaps_in_the_sequence_are_counted(bench: Bench) -> None:
    bench.hello()
    for seq, gaps in ((bench.seq + 1, 0), (bench.seq + 4, 2), (bench.seq + 4, 2), (bench.seq + 2, 2)):
        bench.receive(bench.wire(Ping(), seq=seq & 0xFF))
        assert bench.core.counters()["gaps"] == gaps


def test_gaps_are_counted_from_the_hello_on(bench: Bench) -> None:
    bench.hello()
    bench.receive(bench.wire(Hello(MAGIC, 1, 1, 1), session=0, seq=100))
    bench.receive(bench.wire(Ping(), seq=103))
    assert bench.core.counters()["gaps"] == 2


@pytest.mark.parametrize("first", [Hello(MAGIC, 1, 1, 1), Ping()])
def test_gaps_are_counted_from_the_first_frame_on(make_core: Callable[[int], AnyCore], first: Message) -> None:
    bench = Bench(make_core(0), 0xB0071D42)
    for seq, gaps in ((5, 0), (9, 3)):
        bench.receive(bench.wire(first if seq == 5 else Ping(), session=0, seq=seq))
        assert bench.core.counters()["gaps"] == gaps


@pytest.mark.parametrize(("us", "code"), [(999_999, Code.NO_LEASE), (1_000_000, Code.OK)])
def test_an_answer_is_remembered_for_a_second(bench: Bench, us: int, code: Code) -> None:
    bench.hello()
    assert bench.arm() is Code.NO_LEASE
    seq = bench.seq
    bench.now_us += us
    bench.core.tick(bench.now_us)
    bench.receive(bench.wire(Lease(bench.after(100), 0, 1, 0, 0)))
    assert bench.ask(Arm(ROVER.limits_crc, bench.boot_id), seq=seq) is code


@pytest.mark.parametrize(("between", "code"), [(7, Code.NO_LEASE), (8, Code.OK)])
def test_eight_answers_are_remembered(bench: Bench, between: int, code: Code) -> None:
    bench.hello()
    assert bench.arm() is Code.NO_LEASE
    seq = bench.seq
    bench.receive(bench.wire(Lease(bench.after(100), 0, 1, 0, 0)))
    for _ in range(between):
        assert bench.ask(Ping()) is Code.OK
    assert bench.ask(Arm(ROVER.limits_crc, bench.boot_id), seq=seq) is code


@pytest.mark.parametrize(
    ("line", "counter"),
    [
        (b"\x00\x03\x10\x06\x01\x06\x01\xd5\x0f\xae\xf5\x00", "crc_errors"),
        (b"\x00\x09AT\x00", "cobs_errors"),
        (b"\x00" + b"\xff" * 130 + b"\x00", "overruns"),
        (
            b"\x00" + cobs_encode(b"\x20\x7e\0\0" + checksum(b"\x20\x7e\0\0", 0, 0).to_bytes(4, "little")) + b"\x00",
            "unknown",
        ),
    ],
)
def test_noise_is_counted_by_kind_and_changes_nothing(bench: Bench, line: bytes, counter: str) -> None:
    bench.activate()
    before = bench.core.counters()
    for _ in range(3):
        bench.receive(line)
    after = bench.core.counters()
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {counter: 3}
    assert bench.state is State.ACTIVE


# -- reports --------------------------------------------------------------------------------------------------------


def test_axes_and_limits_are_what_the_board_says(bench: Bench) -> None:
    ack = bench.hello()
    axes = []
    for index in range(ack.axes):
        assert bench.ask(AxisGet(index)) is Code.OK
        axes.append(bench.last(Axis))
    assert axes == [ROVER.axis(0), ROVER.axis(1)]
    assert bench.ask(AxisGet(ack.axes)) is Code.BAD_AXIS
    assert limits_crc(ack.lease_cap_us, axes) == ack.limits_crc == ROVER.limits_crc


@pytest.mark.parametrize(
    ("subscribe", "code", "per_second"),
    [
        (Subscribe(0x83, 20), Code.OK, 50),
        (Subscribe(0x83, 5), Code.OK, 200),
        (Subscribe(0x83, 4), Code.BAD_PAYLOAD, 200),
        (Subscribe(0x83, 0), Code.OK, 0),
        (Subscribe(0x84, 20), Code.BAD_STREAM, 200),
    ],
)
def test_state_comes_as_often_as_asked(bench: Bench, subscribe: Subscribe, code: Code, per_second: int) -> None:
    bench.hello()
    bench.run(5)
    assert bench.ask(subscribe) is code
    bench.heard.clear()
    bench.run(1000)
    assert abs(sum(frame.type == 0x83 for frame in bench.heard) - per_second) <= 1


def test_a_change_of_state_is_reported_at_once(bench: Bench) -> None:
    bench.hello()
    bench.ask(Subscribe(0x83, 60_000))
    bench.run(3)
    bench.heard.clear()
    bench.lease(50)
    bench.arm()
    bench.run(1)
    assert [frame.type for frame in bench.heard].count(0x83) == 1


def test_measurements_are_passed_on(bench: Bench) -> None:
    bench.hello()
    bench.core.measure([-(2**31), 2**31 - 1], [5, -6], [-32768, 32767])
    report = bench.report()
    assert report.position == (-(2**31), 2**31 - 1)
    assert (report.velocity, report.current) == ((5, -6), (-32768, 32767))
    bench.ask(Subscribe(Stats.TYPE, 1000))
    bench.run(1)
    assert bench.last(Stats).frames == bench.core.counters()["frames"]


def test_reports_are_dropped_before_answers_when_the_host_does_not_read(make_core: Callable[[int], AnyCore]) -> None:
    core = make_core(0)
    bench = Bench(core, 0xB0071D42)
    bench.hello()
    for ms in range(1000):
        core.tick(ms * 1000)
    assert 150 < core.counters()["tx_dropped"] < 200
    core.receive(bench.wire(Ping(), flags=ACK_REQ), 1_000_000)
    bench._listen()
    assert bench.heard[-1].type == Ack.TYPE


def test_answers_fill_the_buffer_to_the_last_byte(bench: Bench) -> None:
    """304 bytes and 16 per axis: 24 answers of 14 bytes."""
    pings = [bench.wire(Ping(), session=0, flags=ACK_REQ) for _ in range(25)]
    for ping in pings[:24]:
        bench.core.receive(ping, bench.now_us)
    assert bench.core.counters()["tx_dropped"] == 0
    bench.core.receive(pings[24], bench.now_us)
    assert bench.core.counters()["tx_dropped"] == 1
    assert [len(bench.core.take(14)) for _ in range(25)] == [14] * 24 + [0]


@pytest.mark.parametrize("start", [0, 2**32 - 1, 2**32 - 1_000_000])
def test_device_time_is_told_across_the_wrap(make_core: Callable[[int], AnyCore], start: int) -> None:
    bench = Bench(make_core(start), 0xB0071D42, start)
    bench.hello()
    for turn in range(3):
        bench.receive(bench.wire(TimeReq(42)))
        reply = bench.last(TimeRsp)
        assert (reply.t_host_ns, reply.t_rx_us, reply.t_tx_us) == (
            42,
            start + turn * 1_000_000,
            start + turn * 1_000_000,
        )
        bench.run(1000)


def test_driving_through_the_wrap_of_device_time(make_core: Callable[[int], AnyCore]) -> None:
    """1 ms ticks with a live host from before 2**32 to after it, then silence."""
    bench = Bench(make_core(2**32 - 300_000), 0xB0071D42, 2**32 - 300_000)
    bench.activate()

    def alive() -> None:
        assert bench.lease(100) is Code.OK
        assert bench.set_now(5000, -5000, ms=100) is Code.OK

    for _ in range(600):
        bench.run(1, alive)
        assert bench.state is State.ACTIVE
    assert bench.now_us < 400_000
    assert bench.core.outputs() == (5000, -5000)
    bench.run(99)
    assert bench.state is State.ACTIVE
    bench.run(1)
    assert bench.state is State.SAFE_STOP


def test_a_lease_that_ends_beyond_the_wrap(make_core: Callable[[int], AnyCore]) -> None:
    bench = Bench(make_core(2**32 - 50_000), 0xB0071D42, 2**32 - 50_000)
    bench.activate(100)
    bench.run(99)
    assert bench.state is State.ACTIVE
    bench.run(1)
    assert bench.state is State.SAFE


def test_a_whole_wrap_in_steps_of_a_millisecond(library: ctypes.CDLL) -> None:
    """2**32 us with a live host, which is 71.6 minutes; then the lease still ends when it should."""
    start = 1_234_567
    core = CCore(library, 0xB0071D42, start)
    bench = Bench(core, 0xB0071D42, start)
    bench.activate()
    steps = 2**32 // 1000 + 2000
    assert library.shim_live(core._core, bench.session, start, steps) == steps
    bench.now_us = (start + 1000 * (steps - 1)) & U32
    assert core.state() is State.ACTIVE
    bench.run(100)
    assert core.state() is State.SAFE_STOP


# -- boot, events, watchdog -----------------------------------------------------------------------------------------


def test_boot_is_deaf_to_all_but_estop(make_core: Callable[[int], AnyCore]) -> None:
    core = make_core(0)
    assert core.state() is State.BOOT
    hello = framing.encode(framing.Frame(Hello.TYPE, 1, 0, Hello(MAGIC, 1, 1, 1).pack(), ACK_REQ), 0)
    core.receive(hello, 0)
    assert (core.state(), core.take()) == (State.BOOT, b"")
    core.receive(bytes.fromhex("00 03 10 06 01 06 01 D5 0F AE F4 00"), 0)
    assert core.state() is State.ESTOP
    core.tick(1000)
    assert core.state() is State.ESTOP


@pytest.mark.parametrize("kind", ["c", "python"])
def test_a_start_by_the_watchdog_is_a_fault(library: ctypes.CDLL, kind: str) -> None:
    core: AnyCore = CCore(library, 7, 0, reset_cause=1) if kind == "c" else PythonCore(7, 0, reset_cause=1)
    bench = Bench(core, 7)
    assert (core.state(), core.faults()) == (State.FAULT, Fault.WATCHDOG_RESET)
    bench.hello()
    assert bench.clear() is Code.OK
    assert core.state() is State.IDLE


def started(library: ctypes.CDLL, kind: str, boot_id: int, now_us: int = 0, reset_cause: int = 0) -> AnyCore:
    if kind == "c":
        return CCore(library, boot_id, now_us, reset_cause=reset_cause)
    return PythonCore(boot_id, now_us, reset_cause=reset_cause)


@pytest.mark.parametrize("kind", ["c", "python"])
@pytest.mark.parametrize(("boot_id", "session"), [(0xB00710FE, 255), (0xB00710FF, 1), (0xB0071000, 1)])
def test_a_session_is_never_number_zero(library: ctypes.CDLL, kind: str, boot_id: int, session: int) -> None:
    bench = Bench(started(library, kind, boot_id), boot_id)
    assert bench.hello().session == session
    assert bench.hello().session == session


@pytest.mark.parametrize("kind", ["c", "python"])
@pytest.mark.parametrize("boot_id", [0x1FFFF, 0x20001, 0x5FFFD])  # whose first random number ends in 16 zeros
def test_a_challenge_is_never_zero(library: ctypes.CDLL, kind: str, boot_id: int) -> None:
    bench = Bench(started(library, kind, boot_id), boot_id)
    bench.hello()
    bench.estop()
    assert bench.report().challenge != 0
    assert bench.clear() is Code.OK


@pytest.mark.parametrize("kind", ["c", "python"])
def test_a_stopped_core_gives_a_session_to_any_nonce(library: ctypes.CDLL, kind: str) -> None:
    bench = Bench(started(library, kind, 7, reset_cause=1), 7)
    assert bench.hello(nonce=0).session == 8


def test_the_button_before_the_first_step_is_told_with_its_time(make_core: Callable[[int], AnyCore]) -> None:
    core = make_core(5_000_000)
    core.press_estop()
    bench = Bench(core, 0xB0071D42, 5_001_000)
    bench.hello()
    bench.run(1)
    assert bench.last(Event).at_us == 5_000_000


def test_an_event_is_told_until_it_is_acknowledged(bench: Bench) -> None:
    bench.activate(100)
    bench.run(100)
    bench.run(1000)
    said = [Event.unpack(f.payload) for f in bench.heard if f.type == Event.TYPE]
    assert 2 <= len(said) <= 6 and len(set(said)) == 1
    assert (said[0].cause, said[0].state) == (StopCause.LEASE_EXPIRED, State.SAFE_STOP)
    bench.hello(nonce=2)
    bench.heard.clear()
    bench.run(1)
    assert bench.last(Event) == said[0]  # the next host is told too
    assert bench.ask(EventAck(said[0].number + 1)) is Code.BAD_VALUE
    assert bench.ask(EventAck(said[0].number)) is Code.OK
    bench.heard.clear()
    bench.run(1000)
    assert not [f for f in bench.heard if f.type == Event.TYPE]


def test_the_first_four_events_are_kept(bench: Bench) -> None:
    bench.hello()
    for _ in range(6):
        bench.estop()
        bench.clear()
        bench.hello(nonce=bench.seq)
    numbers = []
    for _ in range(4):
        bench.run(1)
        numbers.append(bench.last(Event).number)
        assert bench.ask(EventAck(numbers[-1])) is Code.OK
    assert numbers == [1, 2, 3, 4]
    assert bench.core.counters()["events_lost"] == 2


def test_the_watchdog_is_fed_only_when_all_three_tasks_ran(bench: Bench) -> None:
    for tasks, due in (([], False), ([1, 2], False), ([1], False), ([4], True), ([], False), ([4, 2, 1], True)):
        for task in tasks:
            bench.core.task_ran(task)
        assert bench.core.watchdog_due() is due


def test_estop_acts_with_a_stale_session_and_as_a_seeming_repeat(bench: Bench) -> None:
    bench.activate()
    assert bench.ask(Estop(1), session=bench.session - 1 or 9) is Code.OK
    assert bench.state is State.ESTOP
    bench.clear()
    bench.activate()
    for _ in range(2):
        assert bench.ask(Estop(1), session=0, seq=77) is Code.OK
        assert bench.state is State.ESTOP
        bench.clear()


BOOT_TEXT = b"\r\nets Jul 29 2019 12:21:46\r\nrst:0x1 (POWERON_RESET),boot:0x13\r\n"


@pytest.mark.parametrize(
    "noise",
    [BOOT_TEXT, b"AT\r\nATE0\r\nAT+CGMI\r\n~\x00x\xf0~", b"\xff" * 300, bytes(50), b"\x00\x08\x10\x03\x07"],
    ids=["boot text", "ModemManager", "break", "zeros", "half a frame"],
)
def test_garbage_on_the_line_changes_nothing(bench: Bench, noise: bytes) -> None:
    bench.activate()
    bench.set_now(1000, 1000)
    bench.receive(noise)
    assert bench.lease(100) is Code.OK  # the very next frame is understood
    bench.run(50)
    assert (bench.state, bench.core.outputs()) == (State.ACTIVE, (1000, 1000))


def test_a_storm_of_hellos_stops_once_and_moves_nothing(bench: Bench) -> None:
    bench.activate()
    bench.set_now(MAX, MAX)
    bench.run(20)
    for nonce in range(100, 400):
        bench.receive(bench.wire(Hello(MAGIC, 1, 1, nonce), session=0))
        bench.run(1)
    assert (bench.state, bench.core.outputs()) == (State.LINKED, (0, 0))
    assert bench.core.counters()["trips"] == 1


def test_of_two_hosts_the_first_is_told_that_its_session_is_over(bench: Bench) -> None:
    bench.activate()
    first = bench.session
    bench.hello(nonce=2)
    assert bench.ask(Lease(bench.after(100), 0, 1, 0, 0), session=first) is Code.NO_SESSION
    bench.run(100)
    assert bench.arm() is Code.NO_LEASE
