"""The whole loop with real stages over tiny engines: the order of things, what time is spent on, and when it holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge.belief import BeliefFilter
from edge.cameras.camera import CameraStatus
from edge.chronicle import Chronicle
from edge.clock import NS_PER_MS, NS_PER_S, FakeClock
from edge.config import GoalConfig, PlannerConfig, SafetyConfig
from edge.encoder import FrameEncoder
from edge.goals import Errands, PictureGoals
from edge.loop import Loop, Stages
from edge.memory import Concepts, Memory
from edge.messages import CameraFault, Frame, RobotState, Tick
from edge.planning import SamplingPlanner
from edge.safety import Supervisor
from edge.surprise import Surprise
from tests.edge import tiny_robot
from tests.edge.test_safety import AXES, RecordingMotors
from tests.edge.until import until

PERIOD = 100 * NS_PER_MS
AGE = 20 * NS_PER_MS
STAGES = ["camera", "encoder", "belief", "surprise", "goals", "planner", "safety", "memory"]
ENCODES, PREDICTS, ROLLS = 3, 2, 10
"""Milliseconds that each engine takes."""


class ScriptedCamera:
    """Shows the colour it is told to, caught 20 ms ago; may miss pictures, and may be at fault."""

    fingerprint = "scripted"

    def __init__(self, clock: FakeClock, log: list[str]) -> None:
        self._clock = clock
        self._log = log
        self.colour = np.array((0.2, 0.2, 0.5))
        self.missing = False
        self.faults: tuple[CameraFault, ...] = ()
        self.age_ns = AGE
        self.shown = 0

    def start(self) -> None: ...

    def wait(self, timeout_s: float) -> None: ...

    def latest(self, max_age_ns: int) -> Frame | None:
        self._log.append("camera")
        if self.missing or self.age_ns > max_age_ns:
            return None
        self.shown += 1
        return Frame(tiny_robot.plain(*self.colour), self._clock.now_ns() - self.age_ns, self.shown)

    def status(self) -> CameraStatus:
        return CameraStatus(self.faults, self.shown)

    def close(self) -> None: ...


class Motors(RecordingMotors):
    """Motors that move what the camera sees."""

    def __init__(self, clock: FakeClock, camera: ScriptedCamera, log: list[str]) -> None:
        super().__init__(clock)
        self._camera = camera
        self._log = log

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        self._log.append("motors")
        super().send(targets, valid_until_ns)
        self._camera.colour[:2] += tiny_robot.STEP * np.array(targets) / 20.0


class Forgetful(SamplingPlanner):
    """The planner, and how often it was told to forget."""

    forgot = 0

    def forget(self) -> None:
        self.forgot += 1
        super().forget()


class Bench:
    """A robot that has everything but a machine; the goal is a colour."""

    def __init__(self, folder: Path) -> None:
        clock = self.clock = FakeClock(start_ns=NS_PER_S)
        self.log: list[str] = []
        self.ticks: list[Tick] = []
        self.camera = ScriptedCamera(clock, self.log)
        self.motors = Motors(clock, self.camera, self.log)
        tiny_robot.save(folder / "goal.png", tiny_robot.plain(0.6, 0.3, 0.5))
        self.encodes = tiny_robot.encoder(clock, ENCODES, self.log)
        encoder = FrameEncoder(self.encodes, tiny_robot.bundle(), clock)
        self.memory = Memory.open(folder / "memory", bundle_sha256="b" * 64, tokens=1, dim=3, actions=2, clock=clock)
        concepts = Concepts(3)
        self.supervisor = Supervisor(self.motors, AXES, SafetyConfig(), clock, PERIOD)
        self.errands = Errands(PictureGoals(folder / "goal.png"), encoder, GoalConfig(), 5e-4, clock)
        self.chronicle = Chronicle(self.memory, concepts, clock, camera="scripted", learning=True)
        self.planner = Forgetful(tiny_robot.rollout(clock, ROLLS, self.log), clock, PlannerConfig())
        stages = Stages(
            self.camera,
            encoder,
            BeliefFilter(tiny_robot.predictor(clock, PREDICTS, self.log), clock),
            Surprise(None, concepts),
            self.errands,
            self.planner,
            self.supervisor,
            self.chronicle,
        )
        self.loop = Loop(
            stages,
            clock,
            period_ns=PERIOD,
            max_age_ns=200 * NS_PER_MS,
            budget_ns=40 * NS_PER_MS,
            axes=2,
            observe=self.ticks.append,
        )

    def tick(self) -> Tick:
        """The next turn, at the next beat."""
        self.clock.sleep_until_ns(self.clock.now_ns() // PERIOD * PERIOD + PERIOD)
        self.log.clear()
        return self.loop.tick()

    def acting(self) -> Bench:
        """Goal in hand, armed by a person, and one command sent."""
        until(lambda: self.tick().goal)
        self.supervisor.arm()
        assert self.tick().state is RobotState.ACTING
        return self

    def close(self) -> None:
        self.errands.close()
        self.chronicle.close()
        self.memory.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_one_turn_goes_from_the_camera_to_the_motors(bench: Bench) -> None:
    tick = bench.acting().tick()
    assert [name for i, name in enumerate(bench.log) if i == 0 or bench.log[i - 1] != name] == [
        "camera",
        "encoder",
        "predictor",
        "rollout",
        "motors",
    ]
    assert tick.frame is not None and tick.latent is not None and tick.belief is not None and tick.plan is not None
    assert tick.latent.sequence == tick.frame.sequence
    assert tick.belief.captured_ns == tick.frame.captured_ns
    np.testing.assert_array_equal(tick.belief.latent, tick.latent.tokens)
    assert tick.command is not None and bench.motors.sent[-1] == tick.command.targets
    assert (tick.goal is not None and tick.goal.name, tick.plan.goal) == ("goal", "goal")


def test_timings_cover_every_stage_and_add_up(bench: Bench) -> None:
    tick = bench.acting().tick()
    assert tick.plan is not None
    planned = ROLLS * tick.plan.iterations
    assert tick.plan.iterations == 3, "5 ms are gone of 40, and a fourth iteration would not fit"
    spent = {"encoder": ENCODES, "belief": PREDICTS, "planner": planned}
    assert list(tick.timings_ns) == STAGES
    assert tick.timings_ns == {stage: spent.get(stage, 0) * NS_PER_MS for stage in STAGES}
    assert tick.engine_ns == tick.total_ns == sum(tick.timings_ns.values())
    assert tick.capture_to_command_ns == AGE + (ENCODES + PREDICTS + planned) * NS_PER_MS


def test_a_goal_picture_is_encoded_once_and_its_time_is_counted_once(bench: Bench) -> None:
    def first() -> Tick | None:
        tick = bench.tick()
        return tick if tick.goal is not None else None

    tick = until(first)
    assert tick.timings_ns["goals"] == ENCODES * NS_PER_MS
    assert tick.engine_ns == sum(tick.timings_ns.values()) == tick.total_ns
    following = bench.tick()
    assert following.timings_ns["goals"] == 0
    assert following.engine_ns == following.total_ns


def test_without_a_person_it_plans_and_sends_nothing(bench: Bench) -> None:
    until(lambda: bench.tick().goal)
    tick = bench.tick()
    assert tick.plan is not None and tick.command is None and tick.capture_to_command_ns is None
    assert bench.motors.sent == []


def test_it_drives_to_the_goal_and_says_so(bench: Bench) -> None:
    bench.acting()
    events = [event for _ in range(20) for event in bench.tick().events]
    assert [event.cause for event in events if event.kind == "goal"] == ["goal_reached"]
    np.testing.assert_allclose(bench.camera.colour, (0.6, 0.3, 0.5), atol=0.05)
    assert bench.errands.reached == 1
    last = bench.tick()
    assert last.goal is None and last.plan is None and last.state is RobotState.ARMED
    assert last.command is None or not any(last.command.targets)


def test_the_last_plan_is_forgotten_when_the_goal_changes_and_only_then(bench: Bench) -> None:
    bench.acting().tick()
    assert bench.planner.forgot == 1
    for _ in range(20):
        bench.tick()
    assert bench.errands.reached == 1 and bench.planner.forgot == 2


def test_the_belief_knows_what_was_commanded(bench: Bench) -> None:
    before = bench.acting().tick()
    after = bench.tick()
    assert before.command is not None and after.belief is not None
    np.testing.assert_array_equal(after.belief.actions[-1], before.command.action)
    assert after.belief.predicted is not None
    np.testing.assert_allclose(after.belief.predicted, after.belief.latent, atol=0.005)


def test_missing_pictures_are_coasted_over_then_it_holds_then_goes_on(bench: Bench) -> None:
    bench.acting().tick()
    bench.camera.missing = True
    blind = [bench.tick() for _ in range(4)]
    assert [tick.belief.coasted for tick in blind if tick.belief is not None] == [1, 2, 3, 4]
    # Decided 32 ms after the beat on a picture caught 20 ms before one: 152, 252, 352, 452 ms old.
    assert [tick.state for tick in blind] == [RobotState.ACTING] * 2 + [RobotState.HOLD] * 2
    assert bench.motors.sent[-1] == (0.0, 0.0)
    assert all(tick.frame is None and tick.latent is None and tick.capture_to_command_ns is None for tick in blind)
    assert all(list(tick.timings_ns) == STAGES and tick.timings_ns["encoder"] == 0 for tick in blind)
    assert all(tick.engine_ns == tick.total_ns for tick in blind)
    bench.camera.missing = False
    seen = bench.tick()
    assert seen.state is RobotState.ACTING and seen.belief is not None and seen.belief.coasted == 0


def test_a_picture_that_is_too_old_is_none(bench: Bench) -> None:
    bench.acting()
    bench.camera.age_ns = 200 * NS_PER_MS
    assert bench.tick().frame is not None
    bench.camera.age_ns += 1
    assert bench.tick().frame is None


def test_a_camera_fault_holds_at_once_and_its_pictures_are_not_believed(bench: Bench) -> None:
    bench.acting()
    bench.camera.faults = (CameraFault.FROZEN,)
    bench.camera.colour[:] = 0.9
    tick = bench.tick()
    assert (tick.state, tick.reason) == (RobotState.HOLD, "the camera is frozen")
    assert bench.motors.sent[-1] == (0.0, 0.0)
    assert tick.frame is not None and tick.latent is None
    assert tick.belief is not None and tick.belief.coasted == 1 and tick.belief.latent[0, 2] < 0.6
    assert tick.assessment is not None and tick.assessment.cause == "frozen"
    assert [(event.kind, event.cause) for event in tick.events] == [("state", "hold"), ("alarm", "frozen")]
    assert all(event.thumbnail for event in tick.events)
    assert "encoder" not in bench.log


def test_before_the_first_picture_nothing_is_thought(bench: Bench) -> None:
    bench.camera.missing = True
    tick = bench.tick()
    assert (tick.belief, tick.assessment, tick.plan, tick.command) == (None, None, None, None)
    assert list(tick.timings_ns) == STAGES and "rollout" not in bench.log


def test_it_runs_on_the_beat_counts_what_it_missed_and_stops_when_told(bench: Bench) -> None:
    stop = threading.Event()

    def observe(tick: Tick) -> None:
        bench.ticks.append(tick)
        bench.encodes.takes_ms = 250 if tick.index == 1 else ENCODES
        if tick.index == 5:
            stop.set()

    bench.loop._observe = observe
    bench.loop.run(stop)
    assert [tick.index for tick in bench.ticks] == list(range(6))
    assert [(tick.started_ns - NS_PER_S) // PERIOD for tick in bench.ticks] == [0, 1, 2, 5, 6, 7]
    assert [tick.overruns for tick in bench.ticks] == [0, 0, 0, 2, 2, 2]
