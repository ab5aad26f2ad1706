"""Motions handed over beforehand: what is a plan, how it gets to the device, and that the compiled firmware follows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import framing, host_firmware
from firmware_bridge.board import ARM, ROVER
from firmware_bridge.controller import BridgeError, FirmwareState, Knot, Telemetry, TrajectoryController
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.framing import Decoder
from firmware_bridge.host_firmware import HostFirmware
from firmware_bridge.messages import SCHEMA_ID, Code, Point, TrajPush
from firmware_bridge.process.controller import ProcessController
from firmware_bridge.reference_trajectory import Trajectory
from firmware_bridge.serial_controller import SerialController
from firmware_bridge.trajectory import AHEAD_NS, PlanFeed, check_knots, points_of
from tests.firmware_bridge.middle import Middle
from tests.firmware_bridge.processes import until

MS = 1_000_000
AXES = ARM.axes
STILL = (0.0,) * 6
FOLLOWER = SerialController | ProcessController


def pan(at_ns: int, position: float, velocity: float = 0.0) -> Knot:
    return Knot(at_ns, (position, *STILL[1:]), (velocity, *STILL[1:]))


# -- what is a plan ------------------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("knots", "most", "says"),
    [
        ([pan(50 * MS, 0.1)], 0, "follow no trajectories"),
        ([], 31, "a plan has 1 to 31 knots, and this one has 0"),
        ([pan(i * MS, 0.1) for i in range(32)], 31, "and this one has 32: hand over its beginning"),
        ([Knot(MS, (0.1,), STILL)], 31, "knot 0 has 1 positions for the axes pan, lift"),
        ([Knot(MS, STILL, (0.1,))], 31, "knot 0 has 1 velocities"),
        ([pan(MS, 0.1), pan(2 * MS, NAN)], 31, "knot 1 has the positions .*: give finite numbers"),
        ([pan(MS, 0.1, NAN)], 31, "knot 0 has the velocities"),
        ([pan(2 * MS, 0.1), pan(2 * MS + 999_999, 0.1)], 31, "knot 1 comes 0.999999 ms after knot 0"),
        ([pan(2 * MS, 0.1), pan(MS, 0.1)], 31, "knot 1 comes -1 ms after knot 0"),
        ([pan(MS, 0.1), pan(AHEAD_NS + 1, 0.1)], 31, r"reaches 1\.90 s ahead and may reach 1\.9 s"),
    ],
)
def test_what_is_no_plan(knots: Sequence[Knot], most: int, says: str) -> None:
    with pytest.raises(BridgeError, match=says) as caught:
        check_knots(AXES, knots, most, 0)
    assert "\n" not in str(caught.value)


def test_what_is_a_plan() -> None:
    check_knots(AXES, [pan(-5 * MS, 9.0), pan(AHEAD_NS, -9.0, 100.0)], 2, 0)


def test_knots_are_clamped_to_the_limits_of_their_axis() -> None:
    joints = [ARM.axis(i) for i in range(6)]
    points, beyond = points_of(joints, [pan(MS, 0.5, -0.25)], lambda ns: ns // 1000)
    assert (points, beyond) == ([Point(1000, (500, 0, 0, 0, 0, 0), (-250, 0, 0, 0, 0, 0))], False)
    points, beyond = points_of(joints, [pan(MS, 9.0, -9.0)], lambda ns: ns // 1000)
    assert (points[0].position[0], points[0].velocity[0], beyond) == (1_920, -4_000, True)
    wheels = [ROVER.axis(i) for i in range(2)]
    points, beyond = points_of(wheels, [Knot(MS, (7.0, 7.0), (1.0, -99.0))], lambda ns: ns // 1000)
    assert (points, beyond) == ([Point(1000, (0, 0), (1_000, -20_000))], True)  # where a wheel is to be means nothing


# -- in frames -----------------------------------------------------------------------------------------------------

HERE = Point(0, (0,) * 6, (0,) * 6)


def feed_all(device: Trajectory, feed: PlanFeed, now_us: int) -> list[Code]:
    codes = []
    while (frame := feed.next()) is not None:
        assert len(framing.encode(framing.Frame(TrajPush.TYPE, 1, 1, frame.pack()), SCHEMA_ID)) <= framing.MAX_ENCODED + 2
        code, _, _ = device.push(frame.replace_from_us, frame.points, ARM.limits, Point(now_us, HERE.position, HERE.velocity))
        codes.append(code)
        feed.answered(code)
    return codes


@given(
    st.lists(st.integers(1_000, 80_000), min_size=1, max_size=14),
    st.lists(st.integers(1_000, 80_000), min_size=1, max_size=14),
    st.integers(0, 2**32 - 1),
    st.integers(-50_000, 900_000),
    st.integers(0, 200_000),
)
def test_a_plan_in_frames_is_the_same_motion_as_in_one(
    first: list[int], second: list[int], start_us: int, replace_us: int, later_us: int
) -> None:
    """Also where it begins in the past, cuts into another plan, and across the wrap of device time."""

    def points(gaps: list[int], base_us: int) -> list[Point]:
        at, made = base_us, []
        for k, gap in enumerate(gaps):
            at += gap
            made.append(Point(at & 0xFFFFFFFF, (k * 10, 0, 0, 0, 0, 0), (5 * k, 0, 0, 0, 0, 0)))
        return made

    in_frames, whole = Trajectory(ARM), Trajectory(ARM)
    for gaps, base_us, now_us in ((first, start_us, start_us), (second, start_us + replace_us, start_us + later_us)):
        now_us &= 0xFFFFFFFF
        plan = points(gaps, base_us)
        replace_from_us = base_us & 0xFFFFFFFF
        for device in (in_frames, whole):
            device.follow(now_us, 0)
        feed = PlanFeed(6)
        feed.start(plan, replace_from_us, 0)
        feed_all(in_frames, feed, now_us)
        whole.push(replace_from_us, plan, ARM.limits, Point(now_us, HERE.position, HERE.velocity))
        assert in_frames.queue == whole.queue
        assert in_frames.moving == whole.moving


@pytest.mark.parametrize("refusal", [Code.FULL, Code.TOO_EARLY, Code.BAD_STATE, Code.LATCHED, Code.BAD_PAYLOAD])
def test_a_refused_frame_takes_the_rest_of_the_plan_with_it(refusal: Code) -> None:
    feed = PlanFeed(6)
    feed.start([Point(i, HERE.position, HERE.velocity) for i in range(1, 6)], 0, 0)
    assert feed.next() is not None and feed.answered(Code.OK)
    frame = feed.next()
    assert frame is not None and frame.replace_from_us == 3
    assert not feed.answered(refusal)
    assert feed.next() is None


def test_a_plan_that_is_late_as_a_whole_is_refused() -> None:
    feed = PlanFeed(6)
    feed.start([Point(i, HERE.position, HERE.velocity) for i in range(1, 4)], 9, 0)
    assert feed.next() is not None and feed.answered(Code.LATE)
    frame = feed.next()
    assert frame is not None and frame.replace_from_us == 9  # nothing has been cut yet
    assert not feed.answered(Code.LATE)


# -- with the compiled firmware ------------------------------------------------------------------------------------


@pytest.fixture
def arm_firmware(firmware_cache: None, tmp_path: Path) -> Iterator[HostFirmware]:
    running = host_firmware.start(board="arm", link=tmp_path / "port")
    if running.kind != "c":
        running.close()
        pytest.skip("no C compiler (cc) on this machine")
    yield running
    running.close()


@pytest.fixture(params=["thread", "process"])
def follower(request: pytest.FixtureRequest, arm_firmware: HostFirmware) -> Iterator[FOLLOWER]:
    if request.param == "process":
        controller: FOLLOWER = ProcessController(arm_firmware.port, AXES, lease_s=0.5)
    else:
        controller = SerialController(arm_firmware.port, AXES, lease_s=0.5, state_hz=200.0)
    controller.connect()
    yield controller
    controller.close()


class Pulse:
    """A loop that only says that it lives, and keeps what it sees. stalled: whether it stood still for so long that a lease, or the
    beginning of a plan, may have been missed."""

    def __init__(self, controller: FOLLOWER) -> None:
        self.controller = controller
        self.seen: list[Telemetry] = []
        self.stalled = False

    def beat(self) -> None:
        self.controller.heartbeat(time.monotonic_ns() + 1000 * MS, True)

    def until(self, true: Callable[[Telemetry], bool], what: str) -> Telemetry:
        turn_ns, end_ns = time.monotonic_ns(), time.monotonic_ns() + 10_000 * MS
        while True:
            now_ns = time.monotonic_ns()
            assert now_ns < end_ns, f"waited in vain: {what}"
            self.stalled = self.stalled or now_ns - turn_ns > 60 * MS
            turn_ns = now_ns
            self.beat()
            seen = self.controller.telemetry()
            if not self.seen or seen is not self.seen[-1]:
                self.seen.append(seen)
                self.stalled = self.stalled or now_ns - seen.measured_ns > 120 * MS
                if true(seen):
                    return seen
            time.sleep(0.002)

    def path(self) -> list[tuple[int, float]]:
        """When the pan axis was where: host monotonic ns, rad."""
        return [(seen.measured_ns, seen.position[0]) for seen in self.seen if seen.state is FirmwareState.ACTIVE]


def tried(controller: FOLLOWER, act: Callable[[Pulse, int], None]) -> Pulse:
    """Armed with pan at rest at 0, act(pulse, now_ns). A machine that stands still meanwhile voids the attempt, but only then."""
    for _ in range(6):
        pulse = Pulse(controller)
        try:
            pulse.beat()
            controller.arm()
            pulse.until(lambda seen: seen.state is FirmwareState.ACTIVE, "active")
            if abs(controller.telemetry().position[0]) > 0.001:  # where an attempt before has left it
                controller.follow([pan(time.monotonic_ns() + 900 * MS, 0.0)])
                pulse.until(lambda seen: abs(seen.position[0]) < 0.001 and seen.planned_s == 0.0, "back at the beginning")
            pulse.seen.clear()
            act(pulse, time.monotonic_ns())
            if not pulse.stalled:
                return pulse
        except (AssertionError, BridgeError):
            if not pulse.stalled:
                raise
        controller.disarm()
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "disarmed")
    raise AssertionError("the machine stood still in every attempt")


def curve(before: Knot, after: Knot, at_ns: int) -> float:
    """The pan axis on the cubic Hermite curve between two knots, rad."""
    s = (after.at_ns - before.at_ns) / 1e9
    u = (at_ns - before.at_ns) / 1e9 / s
    p0, p1, m0, m1 = before.position[0], after.position[0], before.velocity[0] * s, after.velocity[0] * s
    return p0 + m0 * u + (3 * (p1 - p0) - 2 * m0 - m1) * u**2 + (m0 + m1 - 2 * (p1 - p0)) * u**3


def apart(plan: Sequence[Knot], path: Sequence[tuple[int, float]], until_ns: int | None = None) -> tuple[float, int]:
    """The largest difference from the plan, rad, and how many reports lay within it."""
    worst, count = 0.0, 0
    for at_ns, place in path:
        for before, after in pairwise(plan):
            if before.at_ns <= at_ns <= min(after.at_ns, until_ns or after.at_ns):
                worst, count = max(worst, abs(place - curve(before, after, at_ns))), count + 1
    return worst, count


SWING = ((200, 0.0, 0.0), (300, 0.1, 1.5), (400, 0.25, 1.0), (500, 0.3, 0.0), (650, 0.2, -1.0), (800, 0.0, -1.0), (950, -0.1, 0.0))
"""ms from now, rad, rad/s: four frames."""


def swing(now_ns: int) -> list[Knot]:
    return [pan(now_ns + ms * MS, place, speed) for ms, place, speed in SWING]


def test_a_plan_is_followed_to_its_rest(follower: FOLLOWER) -> None:
    """The difference allowed is what 1 rad/s makes of the error of the clocks and of one control step, and a mrad of rounding."""
    plans: list[list[Knot]] = []

    def act(pulse: Pulse, now_ns: int) -> None:
        plans.append(swing(now_ns))
        follower.follow(plans[-1])
        pulse.until(lambda seen: seen.planned_s > 0.5, "the whole plan is there")
        pulse.until(lambda seen: seen.measured_ns > plans[-1][-1].at_ns + 50 * MS, "the end")
        assert pulse.seen[-1].state is FirmwareState.ACTIVE and pulse.seen[-1].position[0] == pytest.approx(-0.1, abs=0.002)
        worst, count = apart(plans[-1], pulse.path())
        assert worst < 0.02 and count >= 10
        applied = pulse.seen[-1].applied
        assert applied is not None and applied.valid_until_ns == plans[-1][-1].at_ns

    tried(follower, act)


def test_the_rest_of_a_plan_is_replaced_from_a_time_on(follower: FOLLOWER) -> None:
    def act(pulse: Pulse, now_ns: int) -> None:
        far = [pan(now_ns + 150 * MS, 0.0), pan(now_ns + 1650 * MS, 1.5)]
        follower.follow(far)
        pulse.until(lambda seen: seen.measured_ns > now_ns + 350 * MS, "under way")
        cut_ns = now_ns + 550 * MS
        back = [pan(cut_ns + 300 * MS, 0.0), pan(cut_ns + 400 * MS, 0.0)]
        follower.follow(back, cut_ns)
        pulse.until(lambda seen: seen.measured_ns > back[-1].at_ns + 50 * MS, "the end")
        assert pulse.seen[-1].position[0] == pytest.approx(0.0, abs=0.002)
        worst, count = apart(far, pulse.path(), cut_ns)
        assert worst < 0.02 and count >= 10  # the first plan held until then
        assert max(place for _, place in pulse.path()) < 0.5

    tried(follower, act)


@pytest.mark.parametrize("follower", ["thread"], indirect=True)
@pytest.mark.parametrize("under_way", [True, False])
def test_a_target_ends_a_plan(follower: FOLLOWER, under_way: bool) -> None:
    """under_way: all of it has been sent; otherwise only its first frame, and the others must stay behind."""

    def act(pulse: Pulse, now_ns: int) -> None:
        follower.follow(swing(now_ns))
        if under_way:
            pulse.until(lambda seen: seen.planned_s > 0.5, "the whole plan is there")
        follower.send((-0.05, *STILL[1:]), now_ns + 1500 * MS)
        pulse.until(lambda seen: seen.planned_s == 0.0, "no plan any more")
        pulse.until(lambda seen: seen.measured_ns > now_ns + 500 * MS, "its top, had it gone on")
        assert max(place for _, place in pulse.path()) < 0.01

    tried(follower, act)


def test_a_planner_that_is_gone_moves_nothing(follower: FOLLOWER) -> None:
    """A plan that ends in motion, while the loop lives on: the firmware of the arm bridges nothing, UNDERRUN_MS is 0 there."""

    def act(pulse: Pulse, now_ns: int) -> None:
        plan = [pan(now_ns + 200 * MS, 0.0), pan(now_ns + 400 * MS, 0.1, 1.0)]
        follower.follow(plan)
        seen = pulse.until(lambda seen: seen.state is FirmwareState.SAFE, "stopped")
        assert seen.stop_cause == "underrun"
        assert 0.1 < seen.position[0] < 0.2  # 1 rad/s stops within 25 mrad at 20 rad/s^2
        pulse.until(lambda seen: not any(seen.velocity), "standing")

    tried(follower, act)


@pytest.mark.parametrize("follower", ["thread"], indirect=True)
def test_a_loop_that_is_gone_ends_a_plan(follower: FOLLOWER) -> None:
    def act(pulse: Pulse, now_ns: int) -> None:
        plan = [pan(now_ns + 200 * MS, 0.0), pan(now_ns + 1800 * MS, 1.6)]
        follower.follow(plan)
        pulse.until(lambda seen: seen.planned_s > 1.0, "under way")
        follower.heartbeat(time.monotonic_ns() + 100 * MS, True)
        until(lambda: follower.telemetry().state is FirmwareState.SAFE, "stopped")
        seen = follower.telemetry()
        assert seen.stop_cause == "lease_expired" and seen.position[0] < 1.5

    tried(follower, act)


def test_disarmed_or_over_it_is_held_back_and_counted(follower: FOLLOWER) -> None:
    assert isinstance(follower, TrajectoryController) and follower.most_knots() == 31
    now_ns = time.monotonic_ns()
    for k, plan in enumerate(([pan(now_ns + 500 * MS, 1.0)], [pan(now_ns - 500 * MS, 1.0)]), 1):
        follower.follow(plan)
        until(lambda: follower.telemetry().counts.dropped >= k, "counted")  # noqa: B023
    assert follower.telemetry().position[0] == 0.0


def test_a_refusal_is_told(arm_firmware: HostFirmware) -> None:
    follower = SerialController(arm_firmware.port, AXES, lease_s=0.5)
    follower.connect()

    def act(pulse: Pulse, now_ns: int) -> None:
        follower.follow([pan(now_ns + (300 + 10 * i) * MS, 0.0) for i in range(31)])
        pulse.until(lambda seen: seen.planned_s > 0.5, "the buffer is nearly full")
        follower.follow([pan(now_ns + (1000 + 10 * i) * MS, 0.0) for i in range(31)], now_ns + 900 * MS)
        pulse.until(lambda seen: "refuses TRAJ_PUSH: it has no room" in seen.trouble, "the reason")

    try:
        tried(follower, act)
    finally:
        follower.close()


def test_a_frame_that_gets_lost_leaves_no_hole(arm_firmware: HostFirmware, tmp_path: Path) -> None:
    """Each frame of the plan is lost the first time."""
    middle = Middle(tmp_path / "line")
    middle.attach(arm_firmware.port)
    ears, lost = Decoder(SCHEMA_ID), set()

    def without(data: bytes) -> bytes:
        kept = b""
        for frame in ears.feed(data):
            if frame.type == TrajPush.TYPE and frame.seq not in lost:
                lost.add(frame.seq)
            else:
                kept += framing.encode(frame, SCHEMA_ID)
        return kept

    follower = SerialController(str(middle.path), AXES, lease_s=0.5, state_hz=200.0)
    follower.connect()

    def act(pulse: Pulse, now_ns: int) -> None:
        counts = follower.device_counts
        before = 0 if counts is None else counts.points
        plan = [pan(each.at_ns + 400 * MS, each.position[0], each.velocity[0]) for each in swing(now_ns)]
        lost.clear()
        middle.to_device = without
        try:
            follower.follow(plan)
            pulse.until(lambda seen: seen.measured_ns > plan[-1].at_ns + 50 * MS, "the end")
        finally:
            middle.to_device = bytes
        worst, count = apart(plan, pulse.path())
        assert worst < 0.02 and count >= 10 and len(lost) == 4
        until(lambda: pulse.beat() or (follower.device_counts.points - before) % 2**32 >= len(plan), "counted")  # type: ignore[union-attr]

    try:
        tried(follower, act)
    finally:
        follower.close()
        middle.close()


def test_after_disarming_nothing_of_a_plan_is_repeated(arm_firmware: HostFirmware, tmp_path: Path) -> None:
    """Frames that were lost before a DISARM must not move the motors after the next ARM."""
    middle = Middle(tmp_path / "line")
    middle.attach(arm_firmware.port)
    ears, pushed = Decoder(SCHEMA_ID), []

    def deaf(data: bytes) -> bytes:
        kept = b""
        for frame in ears.feed(data):
            if frame.type == TrajPush.TYPE:
                pushed.append(frame.seq)
            else:
                kept += framing.encode(frame, SCHEMA_ID)
        return kept

    follower = SerialController(str(middle.path), AXES, lease_s=0.5)
    follower.connect()
    pulse = Pulse(follower)
    try:
        pulse.beat()
        follower.arm()
        middle.to_device = deaf
        follower.follow(swing(time.monotonic_ns()))
        until(lambda: pulse.beat() or pushed, "the first frame, lost")
        follower.disarm()
        middle.to_device = bytes
        pulse.until(lambda seen: seen.state is FirmwareState.LINKED, "disarmed")
        pulse.beat()
        follower.arm()
        end = time.monotonic() + 0.5
        pulse.until(lambda seen: time.monotonic() > end, "long enough for any repetition")
        assert not any(place for _, place in pulse.path())
    finally:
        follower.close()
        middle.close()


# -- who cannot ----------------------------------------------------------------------------------------------------


@contextmanager
def rover(tmp_path: Path) -> Iterator[HostFirmware]:
    running = host_firmware.start(board="rover", link=tmp_path / "rover")
    yield running
    running.close()


@pytest.mark.parametrize("make", [SerialController, ProcessController])
def test_a_board_without_room_for_points_cannot_follow(firmware_cache: None, tmp_path: Path, make: type[FOLLOWER]) -> None:
    with rover(tmp_path) as firmware:
        controller = make(firmware.port)
        controller.connect()
        assert controller.most_knots() == 0
        with pytest.raises(BridgeError, match="follow no trajectories: send targets instead"):
            controller.follow([Knot(time.monotonic_ns() + 100 * MS, (0.0, 0.0), (1.0, 1.0))])
        controller.close()


def test_other_controllers_are_no_trajectory_controllers() -> None:
    assert not isinstance(make_controller("feetech:/dev/ttyNOPE?ids=1,2"), TrajectoryController)


def test_before_connecting_nothing_is_known() -> None:
    for make in (SerialController, ProcessController):
        with pytest.raises(BridgeError, match="not connected"):
            make("/dev/ttyNOPE", AXES).most_knots()
