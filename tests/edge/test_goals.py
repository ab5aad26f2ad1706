"""Goals one after the other: reached after dwelling, given up after acting for too long, and a bad picture is passed by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.clock import NS_PER_MS, NS_PER_S, FakeClock
from edge.config import GoalConfig
from edge.encoder import FrameEncoder
from edge.goals import Errands, GoalError, NoGoals, PictureGoals
from edge.intrinsics import Intrinsics
from edge.messages import Command, Event, Goal, Plan, RobotState, Tick
from tests.edge import tiny_robot
from tests.edge.test_intrinsics import GOPRO
from tests.edge.until import until

PERIOD = 100 * NS_PER_MS


class Remembering(PictureGoals):
    """Pictures from a folder, and what was said about them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.endings: list[tuple[str, bool]] = []

    def ended(self, name: str, reached: bool) -> None:
        self.endings.append((name, reached))


class Bench:
    """Errands on a fake clock, judged by hand."""

    def __init__(self, folder: Path, intrinsics: Intrinsics | None = None) -> None:
        self.clock = FakeClock(start_ns=NS_PER_S)
        self.source = Remembering(folder)
        encoder = FrameEncoder(tiny_robot.encoder(self.clock, takes_ms=7), tiny_robot.bundle(), self.clock, intrinsics)
        config = GoalConfig(give_up_s=2.0, dwell_ticks=3)
        self.errands = Errands(self.source, encoder, config, 0.01, self.clock, wall_s=lambda: 5.0)

    def goal(self) -> Goal:
        return until(self.errands.goal)

    def judge(self, reached: bool = False, state: RobotState = RobotState.ACTING, planned: bool = True) -> tuple[Event, ...]:
        self.clock.advance_ns(PERIOD)
        tick = Tick(0, self.clock.now_ns(), state)
        if planned:
            still = np.zeros((1, 2), dtype=np.float32)
            tick.plan = Plan(still, 0.0, 0.0, 1, 1, "a", reached)
            tick.command = Command((0.0, 0.0), still[0], 0, 0)
        return self.errands.judge(tick)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_robot.save(tmp_path / "b.png", tiny_robot.plain(0.2, 0.4, 0.6))
    tiny_robot.save(tmp_path / "a.png", tiny_robot.plain(0.8, 0.0, 0.2))
    return tmp_path


@pytest.fixture
def bench(folder: Path) -> Iterator[Bench]:
    bench = Bench(folder)
    yield bench
    bench.errands.close()


def test_a_picture_becomes_a_latent_once(bench: Bench) -> None:
    goal = bench.goal()
    assert (goal.name, goal.reached_cost) == ("a", 0.01)
    np.testing.assert_allclose(goal.latent, [[0.8, 0.0, 0.2]], atol=1e-6)
    assert bench.errands.engine_ns == 7 * NS_PER_MS
    assert bench.errands.goal() is goal
    assert bench.errands.engine_ns == 0


def test_reached_only_after_dwelling(bench: Bench) -> None:
    bench.goal()
    for reached in (True, True, False, True, True):
        assert bench.judge(reached) == ()
    (event,) = bench.judge(True)
    assert (event.kind, event.cause, event.detail, event.wall_s) == ("goal", "goal_reached", "reached a after 0.5 s", 5.0)
    assert bench.goal().name == "b"
    assert (bench.errands.tried, bench.errands.reached) == (1, 1)
    assert bench.source.endings == [("a", True)]


def test_only_time_spent_acting_counts_against_a_goal(bench: Bench) -> None:
    bench.goal()
    for _ in range(50):
        assert bench.judge(state=RobotState.HOLD) == ()
        assert bench.judge(state=RobotState.DISARMED, planned=False) == ()
    for _ in range(20):
        assert bench.judge() == ()
    (event,) = bench.judge()
    assert (event.cause, event.detail) == ("goal_given_up", "gave up a after 2.1 s")
    assert bench.goal().name == "b"
    assert (bench.errands.tried, bench.errands.reached) == (1, 0)
    for _ in range(19):
        assert bench.judge() == (), "the next goal has all its time"


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no picture")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"), [(_garbage, "cannot be decoded"), (_empty, "cannot be decoded"), (Path.unlink, "cannot be read")]
)
def test_a_bad_picture_is_an_event_and_the_next_one_comes(folder: Path, spoil: Callable[[Path], None], said: str) -> None:
    tiny_robot.save(folder / "c.png", tiny_robot.plain(1.0))
    bench = Bench(folder)
    try:
        assert bench.goal().name == "a"
        spoil(folder / "b.png")
        events: list[Event] = []
        for _ in range(3):
            events += bench.judge(True)
        goal = bench.goal()
        events += bench.judge()
        assert goal.name == "c"
        assert [event.cause for event in events] == ["goal_reached", "goal_failed"]
        assert "b.png" in events[1].detail and said in events[1].detail
        assert bench.source.endings == [("a", True)], "a failed picture does not end the goal before it again"
        assert bench.errands.tried == 1
    finally:
        bench.errands.close()


def test_goals_are_seen_through_the_same_lens_as_frames(folder: Path) -> None:
    tiny_robot.save(folder / "b.png", tiny_robot.plain(0.2)[:30])
    rim = tiny_robot.plain(0.0)
    rim[:, 4:-4] = 255  # the zoom to what is filled everywhere cuts the rim off
    tiny_robot.save(folder / "a.png", rim)
    bench = Bench(folder, GOPRO)
    try:
        assert bench.goal().latent.min() > 0.97, "scaled only, it would be 56 of 64 columns"
        for _ in range(3):
            bench.judge(True)
        events = until(lambda: (bench.errands.goal(), bench.judge())[1])
        assert [event.cause for event in events] == ["goal_failed"]
        assert "b cannot be straightened" in events[0].detail and "64x30" in events[0].detail
    finally:
        bench.errands.close()


def test_after_the_last_goal_there_is_none(bench: Bench) -> None:
    for name in ("a", "b"):
        assert bench.goal().name == name
        for _ in range(3):
            bench.judge(True)
    until(lambda: len(bench.source.endings) == 2)
    assert bench.errands.goal() is None
    assert bench.judge(True) == ()


def test_no_picture_no_goals(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(GoalError, match="there is no goal picture at"):
            PictureGoals(path)
    assert NoGoals().next() is None
