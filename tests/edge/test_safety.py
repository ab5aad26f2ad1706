"""Who may move: each reason with the state it leads to, limits from both sides, and that nothing but a person arms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_MS, FakeClock
from edge.config import SafetyConfig
from edge.messages import Assessment, Belief, CameraFault, Plan, RobotState
from edge.safety import ActionAxis, ArmRefused, Supervisor
from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState, Identity, Telemetry

PERIOD = 100 * NS_PER_MS
AXES = (ActionAxis("left", -20.0, 20.0), ActionAxis("right", -20.0, 20.0))
ALARM = Assessment(9.0, 9.0, 0.001, 0.01, True, True, "unfamiliar")
CALM = Assessment(0.1, 0.1, 0.5, 0.01, False, False, "")


class RecordingMotors:
    """Motors that follow the contract's states at once, and keep what they were told."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.state = FirmwareState.LINKED
        self.faults: tuple[str, ...] = ()
        self.refuse = ""
        self.who = Identity("test", "0102", True, "test 1", "00000007", True, "/dev/ttyACM0")
        self.silent_ns = 0
        self.while_arming: Callable[[], None] = lambda: None
        self.while_clearing: Callable[[], None] = lambda: None
        self.sent: list[tuple[float, ...]] = []
        self.beats: list[tuple[int, bool]] = []

    @property
    def axes(self) -> tuple[str, ...]:
        return ("left", "right")

    def describe(self) -> tuple[Axis, ...]:
        return tuple(Axis(name, AxisMode.VELOCITY, "rad/s", -20.0, 20.0, 20.0, 400.0) for name in self.axes)

    def identity(self) -> Identity:
        return self.who

    def connect(self, timeout_s: float = 3.0) -> None:
        self.state = FirmwareState.LINKED

    def arm(self, timeout_s: float = 1.0) -> None:
        if self.refuse:
            raise BridgeError(self.refuse)
        self.state = FirmwareState.ACTIVE
        self.while_arming()

    def disarm(self) -> None:
        if self.state is FirmwareState.ACTIVE:
            self.state = FirmwareState.LINKED

    def estop(self, reason: int = 1) -> None:
        self.state = FirmwareState.ESTOP

    def clear_estop(self) -> None:
        self.state = FirmwareState.IDLE
        self.while_clearing()

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        self.sent.append(tuple(targets))

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        self.beats.append((alive_until_ns, engaged))

    def telemetry(self) -> Telemetry:
        zeros = (0.0, 0.0)
        return Telemetry(self.state, zeros, zeros, zeros, self._clock.now_ns() - self.silent_ns, faults=self.faults)

    def close(self) -> None:
        self.state = FirmwareState.OFFLINE


class Bench:
    """A supervisor on a fake clock, ticked by hand."""

    def __init__(self, **limits: object) -> None:
        self.clock = FakeClock(start_ns=10 * PERIOD)
        self.motors = RecordingMotors(self.clock)
        config = SafetyConfig(**{"hold_on_alarm": True, "hold_limit_s": 1.0, **limits})  # type: ignore[arg-type]
        self.supervisor = Supervisor(self.motors, AXES, config, self.clock, PERIOD)

    def tick(
        self,
        action: Sequence[float] | None = (0.5, -0.5),
        *,
        age_ms: float | None = 50.0,
        faults: tuple[CameraFault, ...] = (),
        seen: Assessment = CALM,
        reached: bool = False,
    ) -> tuple[float, ...] | None:
        """One period later; the targets sent, if any."""
        self.clock.advance_ns(PERIOD)
        latent = np.zeros((1, 2), dtype=np.float32)
        context, past = np.zeros((2, 1, 2), dtype=np.float32), np.zeros((1, 2), dtype=np.float32)
        captured = self.clock.now_ns() - round((age_ms or 0.0) * NS_PER_MS)
        belief = None if age_ms is None else Belief(latent, None, context, past, captured, 0)
        plan = None
        if action is not None:
            plan = Plan(np.array([action], dtype=np.float32), 0.0, 1.0, 1, 8, "the corner", reached)
        command = self.supervisor.decide(plan, belief, faults, seen)
        return None if command is None else command.targets

    def armed(self) -> Bench:
        self.tick()
        self.supervisor.arm()
        return self

    @property
    def state(self) -> RobotState:
        return self.supervisor.state


Upset = Callable[[Bench], object]


def _firmware(state: FirmwareState) -> Upset:
    def upset(bench: Bench) -> None:
        bench.motors.state = state
        bench.tick()

    return upset


def _silent(ms: int) -> Upset:
    def upset(bench: Bench) -> None:
        bench.motors.silent_ns = ms * NS_PER_MS
        bench.tick()

    return upset


def _refusing(why: str) -> Upset:
    def upset(bench: Bench) -> None:
        bench.tick()
        bench.motors.refuse = why

    return upset


TABLE: tuple[tuple[str, Upset, RobotState], ...] = (
    ("a plan", lambda b: b.tick(), RobotState.ACTING),
    ("no plan", lambda b: b.tick(None), RobotState.ARMED),
    ("at the goal", lambda b: b.tick(reached=True), RobotState.ARMED),
    ("firmware stop", _firmware(FirmwareState.ESTOP), RobotState.STOPPED),
    ("firmware offline", _firmware(FirmwareState.OFFLINE), RobotState.FAULT),
    ("firmware fault", _firmware(FirmwareState.FAULT), RobotState.FAULT),
    ("firmware safe stop", _firmware(FirmwareState.SAFE_STOP), RobotState.FAULT),
    ("firmware safe", _firmware(FirmwareState.SAFE), RobotState.FAULT),
    ("firmware idle", _firmware(FirmwareState.IDLE), RobotState.FAULT),
    ("firmware only linked", _firmware(FirmwareState.LINKED), RobotState.FAULT),
    ("silent for too long", _silent(301), RobotState.FAULT),
    ("camera fault", lambda b: b.tick(faults=(CameraFault.FROZEN,)), RobotState.HOLD),
    ("picture old enough", lambda b: b.tick(age_ms=351), RobotState.HOLD),
    ("picture just young enough", lambda b: b.tick(age_ms=350), RobotState.ACTING),
    ("nothing seen", lambda b: b.tick(age_ms=None), RobotState.HOLD),
    ("alarm", lambda b: b.tick(seen=ALARM), RobotState.HOLD),
)


@pytest.mark.parametrize(("upset", "state"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_situation_leads_to_its_state(upset: Upset, state: RobotState) -> None:
    bench = Bench().armed()
    bench.tick()
    bench.motors.sent.clear()
    upset(bench)
    assert bench.state is state
    if state is not RobotState.ACTING:
        assert all(target == (0.0, 0.0) for target in bench.motors.sent)
    assert bench.motors.beats[-1] == (bench.clock.now_ns() + 2 * PERIOD, state in {"armed", "acting", "hold"})


def test_the_worst_reason_decides() -> None:
    bench = Bench().armed()
    bench.tick(faults=(CameraFault.BLACK,), age_ms=None, seen=ALARM)
    assert (bench.state, bench.supervisor.reason) == (RobotState.HOLD, "the camera is black")
    bench.motors.state = FirmwareState.FAULT
    bench.tick(faults=(CameraFault.BLACK,))
    states = [bench.state]
    bench.motors.state = FirmwareState.ESTOP
    bench.tick(faults=(CameraFault.BLACK,))
    assert [*states, bench.state] == [RobotState.FAULT, RobotState.STOPPED]


@pytest.mark.parametrize(
    ("limits", "wanted", "sent"),
    [
        ({}, (1.0, -1.0), (20.0, -20.0)),
        ({}, (1.5, -7.0), (20.0, -20.0)),
        ({"speed": 0.5}, (0.5, 0.51), (10.0, 10.0)),
        ({"slew": 5.0}, (0.5, 0.51), (10.0, 10.0)),
        ({}, (float("nan"), 0.25), (0.0, 5.0)),
        ({}, (float("inf"), float("-inf")), (0.0, 0.0)),
    ],
)
def test_limits(limits: dict[str, float], wanted: tuple[float, float], sent: tuple[float, float]) -> None:
    bench = Bench(**limits).armed()
    assert bench.tick(wanted) == pytest.approx(sent, abs=1e-5)


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda b: None, "not ticked yet"),
        (lambda b: b.tick(faults=(CameraFault.COVERED,)), "the camera is covered"),
        (lambda b: b.tick(age_ms=None), "nothing has been seen"),
        (_silent(301), "link to the motors is lost"),
        (_firmware(FirmwareState.FAULT), "reports a fault"),
        (_firmware(FirmwareState.ESTOP), "clear the stop first"),
        (_refusing("the battery is low"), "the battery is low"),
    ],
)
def test_arming_is_refused_with_the_reason(prepare: Upset, why: str) -> None:
    bench = Bench()
    prepare(bench)
    with pytest.raises(ArmRefused, match=why):
        bench.supervisor.arm()
    assert bench.tick() is None


@pytest.mark.parametrize(
    ("acts", "state"),
    [
        (lambda s: s.emergency_stop("a person"), RobotState.STOPPED),
        (lambda s: (s.emergency_stop("a person"), s.clear_stop()), RobotState.DISARMED),
        (lambda s: s.disarm(), RobotState.DISARMED),
    ],
    ids=["stop", "stop and clear", "disarm"],
)
def test_what_comes_while_the_firmware_arms_wins(acts: Callable[[Supervisor], object], state: RobotState) -> None:
    bench = Bench()
    bench.tick()
    bench.motors.while_arming = lambda: (acts(bench.supervisor), None)[1]
    with pytest.raises(ArmRefused):
        bench.supervisor.arm()
    assert bench.state is state
    assert bench.motors.state is not FirmwareState.ACTIVE
    assert bench.tick() is None


def test_a_stop_that_comes_while_one_is_cleared_wins() -> None:
    bench = Bench().armed()
    bench.supervisor.emergency_stop("first")
    bench.motors.while_clearing = lambda: bench.supervisor.emergency_stop("second")
    with pytest.raises(ArmRefused, match="second"):
        bench.supervisor.clear_stop()
    assert (bench.state, bench.motors.state) == (RobotState.STOPPED, FirmwareState.ESTOP)


def test_a_long_hold_becomes_a_stop() -> None:
    bench = Bench().armed()
    for _ in range(11):
        bench.tick(age_ms=None)
        assert bench.state is RobotState.HOLD
    bench.tick(age_ms=None)
    assert bench.state is RobotState.STOPPED
    bench.tick()
    assert bench.state is RobotState.STOPPED


def test_a_fault_stays_until_a_person_clears_it() -> None:
    bench = Bench().armed()
    bench.motors.silent_ns = 301 * NS_PER_MS
    bench.tick()
    bench.motors.silent_ns = 0
    bench.tick()
    with pytest.raises(ArmRefused, match="clear it first"):
        bench.supervisor.arm()
    bench.supervisor.clear_stop()
    assert bench.state is RobotState.DISARMED


STEPS = ("tick", "tick", "blind", "arm", "stop", "clear", "disarm", "silent", "heard", "fault", "reset")


@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_nothing_moves_without_a_person_who_armed_and_nobody_who_stopped(steps: list[str]) -> None:
    bench = Bench()
    allowed = False
    for step in steps:
        if step == "arm":
            try:
                bench.supervisor.arm()
                allowed = True
            except ArmRefused:
                pass
        elif step in {"stop", "disarm"}:
            bench.supervisor.emergency_stop("a person") if step == "stop" else bench.supervisor.disarm()
            allowed = False
        elif step == "clear":
            try:
                bench.supervisor.clear_stop()
                allowed = False
            except ArmRefused:
                pass
        elif step in {"silent", "heard"}:
            bench.motors.silent_ns = 400 * NS_PER_MS if step == "silent" else 0
        elif step in {"fault", "reset"}:
            bench.motors.state = FirmwareState.FAULT if step == "fault" else FirmwareState.LINKED
        else:
            sent = bench.tick(age_ms=None if step == "blind" else 50.0)
            assert bench.motors.beats[-1][1] <= allowed
            assert allowed or sent is None
            assert step != "blind" or not sent or not any(sent)


def test_plans_are_not_written_to() -> None:
    bench = Bench(speed=0.1).armed()
    plan = Plan(np.ones((1, 2), dtype=np.float32), 0.0, 1.0, 1, 8, "g", False)
    bench.supervisor.decide(replace(plan), None, (), CALM)
    assert (plan.actions == 1.0).all()
