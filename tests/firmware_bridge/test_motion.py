"""Position axes, trajectories and what happens to them when something ends; on both cores."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from firmware_bridge.evidence.life import Raw
from firmware_bridge.framing import ACK_REQ
from firmware_bridge.messages import (
    Axis,
    AxisGet,
    Code,
    Drive,
    LimitsSet,
    Param,
    Parameter,
    ParamGet,
    ParamSet,
    Ping,
    Point,
    SetNow,
    State,
    StopCause,
    StopPolicy,
    TrajPush,
)
from tests.firmware_bridge.conftest import BOOT
from tests.firmware_bridge.cores import MIXED, U32, AnyCore, Bench

PAN = MIXED.limits[0]


class Joints(Bench):
    """A bench with the board MIXED, whose joints are where the outputs say."""

    def activate_at(self, pan: int = 0, tilt: int = 0) -> None:
        self.core.measure((pan, 0, tilt), (0, 0, 0), (0, 0, 0))
        self.hello()
        self.lease(400)
        assert self.arm() is Code.OK

    def live(self, ms: int) -> list[tuple[int, ...]]:
        """So many milliseconds with a live lease; the outputs after each."""
        seen = []
        for _ in range(ms):
            self.lease(100)
            self.run(1)
            seen.append(self.core.outputs())
        return seen

    def go(self, pan: int, ms: float = 1900) -> Code | None:
        return self.ask(SetNow(2, 1, (pan, 0, 0), self.after(ms)))

    def push(self, *points: tuple[float, int, int], replace: float = 1000) -> Code | None:
        """Points of ms from now, position and velocity of pan."""
        made = tuple(Point(self.after(ms), (p, 0, 0), (v, 0, 0)) for ms, p, v in points)
        return self.ask(TrajPush(self.after(replace), made))

    def set(self, parameter: Parameter, axis: int, value: int) -> Code | None:
        return self.ask(ParamSet(parameter, axis, value))


@pytest.fixture
def joints(make_mixed: Callable[[int], AnyCore]) -> Joints:
    joints = Joints(make_mixed(0), BOOT)
    joints.limits_crc = MIXED.limits_crc
    return joints


def speeds(seen: list[tuple[int, ...]], start: int = 0) -> list[int]:
    """mrad per ms, which is rad/s."""
    places = [start, *(s[0] for s in seen)]
    return [b - a for a, b in pairwise(places)]


# -- positions ------------------------------------------------------------------------------------------------------


def test_arming_starts_where_the_joint_is(joints: Joints) -> None:
    joints.activate_at(pan=321, tilt=-77)
    assert all((s[0], s[2]) == (321, -77) for s in joints.live(50))
    assert joints.core.drives() == (Drive.ON,) * 3


def test_a_target_is_reached_within_speed_and_acceleration_and_without_overshoot(joints: Joints) -> None:
    joints.activate_at()
    assert joints.go(1_400) is Code.OK
    seen = joints.live(1_000)
    places = [s[0] for s in seen]
    assert places == sorted(places) and places[-1] == 1_400
    assert max(speeds(seen)) <= PAN.max_speed / 1000
    at = {v: next(i for i, p in enumerate(places) if p >= v) for v in (45, 500)}
    assert 95 <= at[45] <= 105  # 9 rad/s^2: 45 mrad after 0.1 s
    assert 325 <= at[500] <= 345  # and 500 mrad after 1/3 s


@pytest.mark.parametrize(("asked", "end", "clamped"), [(1_500, 1_500, 0), (1_501, 1_500, 1), (-(2**31), -1_500, 1)])
def test_positions_are_clamped_to_the_limits(joints: Joints, asked: int, end: int, clamped: int) -> None:
    joints.activate_at(pan=1_000 if end > 0 else -1_000)
    joints.go(asked)
    seen = joints.live(1_500)
    assert seen[-1][0] == end
    assert max(abs(s[0]) for s in seen) == 1_500
    assert joints.report().clamped == clamped


def test_a_joint_outside_its_limits_only_comes_back(joints: Joints) -> None:
    joints.activate_at(pan=2_000)
    joints.go(1_800)
    places = [s[0] for s in joints.live(1_500)]
    assert places == sorted(places, reverse=True) and places[0] >= 1_999 and places[-1] == 1_500


@pytest.mark.parametrize(("mode", "mask", "code"), [(1, 2, 0), (2, 5, 0), (2, 1, 0), (1, 1, 10), (2, 2, 10), (2, 7, 10)])
def test_every_axis_has_its_own_mode(joints: Joints, mode: int, mask: int, code: int) -> None:
    joints.activate_at()
    assert joints.ask(SetNow(mode, mask, (0, 0, 0), joints.after(100))) is Code(code)


def test_losing_the_lease_stops_a_joint_by_its_deceleration(joints: Joints) -> None:
    joints.activate_at()
    joints.go(1_400)
    joints.live(300)
    joints.run(100)
    assert joints.state is State.SAFE_STOP
    before = joints.core.outputs()[0]
    joints.run(400)
    assert joints.state is State.SAFE
    travelled = joints.core.outputs()[0] - before
    assert 440 <= travelled <= 500  # v^2 / 2a = 3^2 / 18 = 0.5 rad
    assert joints.cause() is StopCause.LEASE_EXPIRED


# -- trajectories ---------------------------------------------------------------------------------------------------


def test_a_trajectory_is_followed_through_its_points(joints: Joints) -> None:
    joints.activate_at()
    assert joints.push((200, 100, 800), (400, 260, 800), (600, 340, 0)) is Code.OK
    assert joints.report().queue_ms in range(590, 600)
    seen = [joints.core.outputs(), *joints.live(700)]
    places = [s[0] for s in seen]
    for ms, place in ((200, 100), (400, 260), (600, 340)):
        assert abs(places[ms - 5] - place) <= 3, ms
    assert places[-1] == 340
    assert joints.state is State.ACTIVE  # it has ended at rest
    assert joints.report().queue_ms == 0


def test_replacing_keeps_what_comes_before_and_bends_without_a_jump(joints: Joints) -> None:
    joints.activate_at()
    joints.push((300, 150, 500), (600, 300, 0))
    joints.live(200)
    assert joints.push((400, -100, 0), replace=0) is Code.OK  # from the commit horizon on
    seen = joints.live(600)
    change = [b - a for a, b in pairwise(speeds(seen, 82))]
    assert seen[-1][0] == -100
    assert seen[10][0] > seen[0][0]  # still on the old curve
    assert max(map(abs, change[1:])) <= 1


@pytest.mark.parametrize(
    ("points", "code", "late"),
    [
        (((-5, 0, 0),), Code.LATE, 1),
        (((20, 10, 0),), Code.LATE, 1),
        (((20.001, 10, 0),), Code.OK, 0),
        (((10, 0, 0), (15, 0, 0), (90, 10, 0)), Code.OK, 2),
        (((2_000, 10, 0),), Code.OK, 0),
        (((2_000.001, 10, 0),), Code.TOO_EARLY, 0),
        (((90, 0, 0), (90, 5, 0)), Code.BAD_PAYLOAD, 0),
    ],
)
def test_points_are_judged_by_their_time(
    joints: Joints, points: tuple[tuple[float, int, int], ...], code: Code, late: int
) -> None:
    joints.activate_at()
    assert joints.push(*points) is code
    counters = joints.core.counters()
    assert (counters["late"], counters["points"]) == (late, len(points) - late if code is Code.OK else 0)


def test_a_push_without_points_is_refused(joints: Joints) -> None:
    joints.activate_at()
    assert joints.ask(Raw(TrajPush.TYPE, bytes(4))) is Code.BAD_PAYLOAD
    assert joints.core.counters()["rejects"] == 1


def test_a_trajectory_into_the_limit_is_braked_before_it(joints: Joints) -> None:
    joints.activate_at(pan=1_000)
    joints.push((300, 1_500, 3_000), (340, 1_500, 3_000))
    change = [b - a for a, b in pairwise(speeds(joints.live(340), 1_000))]
    assert joints.core.outputs()[0] <= 1_500
    assert max(map(abs, change)) <= 1  # 9 rad/s^2: never more than 0.009 rad/s in a millisecond, and rounding


def test_a_full_buffer_takes_nothing(joints: Joints) -> None:
    joints.activate_at()
    for k in range(3):
        assert joints.push((100 + 100 * k, 0, 0), (150 + 100 * k, 0, 0), replace=1990) is Code.OK
    assert joints.push((900, 0, 0), replace=1990) is Code.FULL
    assert joints.core.counters()["points"] == 6
    for _ in range(6):
        joints.push((900, 0, 0), replace=1990)
    assert joints.state is State.ACTIVE  # a full buffer is no bad command


@pytest.mark.parametrize(("ms", "state"), [(239, State.ACTIVE), (240, State.SAFE_STOP)])
def test_a_trajectory_that_ends_in_motion_is_stopped(joints: Joints, ms: int, state: State) -> None:
    joints.activate_at()
    joints.push((200, 100, 1_000))
    joints.live(ms)
    assert joints.state is state
    assert joints.core.counters()["underruns"] == (state is State.SAFE_STOP)
    assert state is State.ACTIVE or joints.cause() is StopCause.UNDERRUN


def test_a_command_ends_a_trajectory_and_a_trajectory_a_command(joints: Joints) -> None:
    joints.activate_at()
    joints.push((500, 400, 0))
    joints.live(50)
    joints.go(0, ms=400)
    joints.live(300)
    assert joints.core.outputs()[0] == 0
    joints.push((300, 200, 0))
    assert joints.live(400)[-1][0] == 200  # the deadline of the command does not count any more
    assert joints.state is State.ACTIVE


def test_boards_without_a_buffer_do_not_know_trajectories(bench: Bench) -> None:
    bench.activate()
    push = TrajPush(0, (Point(bench.after(100), (0, 0), (0, 0)),))
    assert bench.ask(push) is Code.UNKNOWN_TYPE


# -- after a stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disarm", [True, False])
def test_after_a_stop_every_axis_does_as_its_policy_says(joints: Joints, disarm: bool) -> None:
    joints.activate_at()
    if disarm:
        joints.disarm()
        joints.run(1)
    else:
        joints.run(400)
    assert joints.state is (State.LINKED if disarm else State.SAFE)
    assert joints.core.drives() == (Drive.ON, Drive.OFF, Drive.ON)
    assert joints.report().powered == 0b101
    joints.run(285)
    assert joints.core.drives() == (Drive.ON, Drive.OFF, Drive.ON)
    joints.run(20)
    assert joints.core.drives() == (Drive.ON, Drive.OFF, Drive.OFF)


def test_the_first_axis_is_released_too(joints: Joints) -> None:
    joints.hello()
    assert joints.set(Parameter.STOP_POLICY, 0, int(StopPolicy.RELEASE)) is Code.OK
    assert joints.set(Parameter.RELEASE_AFTER_MS, 0, 50) is Code.OK
    joints.activate_at()
    joints.disarm()
    joints.run(50)
    assert joints.core.drives()[0] is Drive.ON
    joints.run(1)
    assert joints.core.drives()[0] is Drive.OFF


def first_challenge(boot_id: int) -> int:
    """xorshift32 of the boot id: nobody sees it before a step, but somebody may guess it."""
    x = boot_id | 1
    x ^= x << 13 & U32
    x ^= x >> 17
    x ^= x << 5 & U32
    return x & 0xFFFF


def test_nothing_of_a_motion_outlives_a_stop(joints: Joints) -> None:
    """A unit of speed but for a millionth was saved up: after a stop and a start between two steps it does not count."""
    joints.hello()
    assert joints.ask(LimitsSet(1, 5_000, 333, 0, 0)) is Code.OK
    for challenge in (None, first_challenge(BOOT)):
        if challenge is not None:
            joints.core.press_estop()
            assert joints.clear(challenge) is Code.OK
        joints.limits_crc = joints.hello(nonce=2).limits_crc
        joints.lease(400)
        assert joints.arm() is Code.OK
        assert joints.ask(SetNow(1, 2, (0, 5_000, 0), joints.after(400))) is Code.OK
        joints.now_us += 3_003  # times 333 is 999,999
        joints.core.tick(joints.now_us)
        assert joints.core.outputs()[1] == 0
    joints.now_us += 1
    joints.core.tick(joints.now_us)
    assert joints.core.outputs()[1] == 1


def test_the_rover_brakes(bench: Bench) -> None:
    bench.activate()
    bench.disarm()
    bench.run(1)
    assert bench.core.drives() == (Drive.BRAKE, Drive.BRAKE)


def test_estop_releases_everything(joints: Joints) -> None:
    joints.activate_at()
    joints.estop()
    assert joints.core.drives() == (Drive.OFF,) * 3


# -- limits and parameters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (LimitsSet(0, 3_000, 9_000, -1_500, 1_500), Code.OK),
        (LimitsSet(0, 1_000, 1, -10, 10), Code.OK),
        (LimitsSet(0, 3_001, 9_000, 0, 0), Code.BAD_VALUE),
        (LimitsSet(0, 3_000, 9_001, 0, 0), Code.BAD_VALUE),
        (LimitsSet(0, 3_000, 0, 0, 0), Code.BAD_VALUE),
        (LimitsSet(0, 3_000, 9_000, -1_501, 0), Code.BAD_VALUE),
        (LimitsSet(0, 3_000, 9_000, 0, 1_501), Code.BAD_VALUE),
        (LimitsSet(0, 3_000, 9_000, 1, 0), Code.BAD_VALUE),
        (LimitsSet(1, 5_000, 50_000, 0, 1), Code.BAD_VALUE),
        (LimitsSet(3, 1, 1, 0, 0), Code.BAD_AXIS),
    ],
)
def test_limits_only_tighten_and_change_the_checksum(joints: Joints, limits: LimitsSet, code: Code) -> None:
    before = joints.hello().limits_crc
    assert joints.ask(limits) is code
    changed = code is Code.OK and limits.max_speed != PAN.max_speed
    assert (joints.hello(nonce=2).limits_crc != before) == changed
    joints.lease(400)
    assert joints.arm() is (Code.WRONG_LIMITS if changed else Code.OK)


def test_tightened_limits_hold(joints: Joints) -> None:
    joints.hello()
    assert joints.ask(LimitsSet(0, 500, 9_000, -100, 100)) is Code.OK
    joints.limits_crc = joints.hello(nonce=2).limits_crc
    joints.lease(400)
    assert joints.arm() is Code.OK
    joints.go(1_000)
    seen = joints.live(600)
    assert seen[-1][0] == 100 and max(speeds(seen)) <= 1
    assert joints.ask(LimitsSet(0, 500, 9_000, -100, 100)) is Code.BAD_STATE


@pytest.mark.parametrize(
    ("parameter", "axis", "value", "code"),
    [
        (Parameter.STOP_POLICY, 0, 3, Code.OK),
        (Parameter.STOP_POLICY, 0, 4, Code.BAD_VALUE),
        (Parameter.STOP_POLICY, 3, 0, Code.BAD_PARAMETER),
        (Parameter.OVER_CURRENT_MA, 1, 2_000, Code.OK),
        (Parameter.OVER_CURRENT_MA, 1, 2_001, Code.BAD_VALUE),
        (Parameter.OVER_CURRENT_MA, 1, 0, Code.BAD_VALUE),  # compiled in: not to be removed
        (Parameter.OVER_CURRENT_MA, 0, 0, Code.OK),
        (Parameter.UNDER_VOLTAGE_MV, 0, 5_999, Code.BAD_VALUE),
        (Parameter.UNDER_VOLTAGE_MV, 0, 7_000, Code.OK),
        (Parameter.UNDER_VOLTAGE_MV, 1, 7_000, Code.BAD_PARAMETER),
        (Parameter.LEASE_CAP_MS, 0, 50, Code.OK),
        (Parameter.LEASE_CAP_MS, 0, 49, Code.BAD_VALUE),
        (Parameter.LEASE_CAP_MS, 0, 501, Code.BAD_VALUE),
        (Parameter.MAX_SPEED, 0, 1, Code.BAD_PARAMETER),  # LIMITS_SET is for that
    ],
)
def test_parameters_have_a_range(joints: Joints, parameter: Parameter, axis: int, value: int, code: Code) -> None:
    joints.hello()
    assert joints.set(parameter, axis, value) is code


@pytest.mark.parametrize(
    ("parameter", "axis", "told"),
    [
        (Parameter.MAX_SPEED, 0, (500, 0, MIXED.limits[0].max_speed)),
        (Parameter.MAX_ACCELERATION, 0, (9_000, 1, MIXED.limits[0].max_acceleration)),
        (Parameter.MIN_POSITION, 0, (-100, MIXED.limits[0].min_position, MIXED.limits[0].max_position)),
        (Parameter.MAX_POSITION, 0, (100, MIXED.limits[0].min_position, MIXED.limits[0].max_position)),
        (Parameter.MAX_SPEED, 1, (MIXED.limits[1].max_speed, 0, MIXED.limits[1].max_speed)),
        (Parameter.MAX_SPEED, 3, None),
        (7, 0, None),
        (12, 0, None),
    ],
)
def test_limits_are_told_with_what_is_compiled_in(
    joints: Joints, parameter: int, axis: int, told: tuple[int, int, int] | None
) -> None:
    joints.hello()
    assert joints.ask(LimitsSet(0, 500, 9_000, -100, 100)) is Code.OK
    code = joints.ask(ParamGet(parameter, axis))
    if told is None:
        assert code is Code.BAD_PARAMETER
    else:
        assert joints.last(Param) == Param(parameter, axis, *told)


def test_answers_of_two_sizes_fill_the_buffer_to_the_last_byte(joints: Joints) -> None:
    """304 bytes and 16 per axis: 4 of 25 and 18 of 14. The last byte leaves it too, and nothing behind it is touched."""
    joints.hello()
    for _ in range(4):
        joints.core.receive(joints.wire(ParamGet(Parameter.LEASE_CAP_MS, 0)), joints.now_us)
    for _ in range(18):
        joints.core.receive(joints.wire(Ping(), flags=ACK_REQ), joints.now_us)
    assert joints.core.counters()["tx_dropped"] == 0
    assert [len(joints.core.take(most)) for most in (100, 251, 1, 1)] == [100, 251, 1, 0]


# -- measured faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "supply", "ms", "state"),
    [
        (2_000, 0, 500, State.ACTIVE),
        (2_001, 0, 49, State.ACTIVE),
        (2_001, 0, 50, State.FAULT),
        (-2_001, 0, 50, State.FAULT),
        (0, 6_000, 500, State.ACTIVE),
        (0, 5_999, 99, State.ACTIVE),
        (0, 5_999, 100, State.FAULT),
    ],
)
def test_current_and_supply_make_faults(joints: Joints, current: int, supply: int, ms: int, state: State) -> None:
    joints.activate_at()
    joints.core.measure((0, 0, 0), (0, 0, 0), (0, current, 0), supply)
    joints.live(ms)
    assert joints.state is state
    if state is State.FAULT:
        assert joints.clear() is Code.LATCHED
        joints.core.measure((0, 0, 0), (0, 0, 0), (0, 0, 0))
        joints.run(1)
        assert joints.clear() is Code.OK


@pytest.mark.parametrize(("us", "state"), [(49_999, State.ACTIVE), (50_000, State.FAULT)])
def test_a_fault_takes_its_time_to_the_microsecond(joints: Joints, us: int, state: State) -> None:
    joints.activate_at()
    joints.run(1)
    joints.core.measure((0, 0, 0), (0, 0, 0), (0, 2_001, 0))
    for part in (20_000, 20_000, us - 40_000):
        joints.now_us += part
        joints.core.tick(joints.now_us)
    assert joints.state is state


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_axis_is_watched(joints: Joints, axis: int) -> None:
    joints.hello()
    assert joints.set(Parameter.OVER_CURRENT_MA, axis, 500) is Code.OK
    joints.activate_at()
    joints.core.measure((0, 0, 0), (0, 0, 0), tuple(501 * (i == axis) for i in range(3)))
    joints.live(60)
    assert joints.state is State.FAULT


@pytest.mark.parametrize(("place", "ms", "state"), [(400, 300, 3), (401, 199, 3), (401, 200, 7)])
def test_a_joint_that_is_elsewhere_is_a_fault(joints: Joints, place: int, ms: int, state: int) -> None:
    joints.activate_at()
    joints.core.measure((0, 0, place), (0, 0, 0), (0, 0, 0))
    joints.live(ms)
    assert joints.state is State(state)


def test_the_answer_of_axis_get_carries_the_limits_in_force(joints: Joints) -> None:
    joints.hello()
    joints.ask(LimitsSet(2, 100, 200, 0, 50))
    assert joints.ask(AxisGet(2)) is Code.OK
    axis = joints.last(Axis)
    assert (axis.max_speed, axis.max_acceleration, axis.min_position, axis.max_position) == (100, 200, 0, 50)
