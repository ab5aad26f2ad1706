"""What ticks leave behind in a real memory: episodes with pictures from before and after, and a belief to wake up with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.chronicle import WAITING, Chronicle
from edge.clock import NS_PER_MS, NS_PER_S, FakeClock
from edge.memory import BeliefCheckpoint, Concepts, Episode, Memory
from edge.messages import Assessment, Belief, CameraFault, Command, Event, Frame, RobotState, Tick
from tests.edge.until import HANGS_S, until

PERIOD = 100 * NS_PER_MS
CALM = Assessment(0.1, 0.1, 0.5, 0.01, False, False, "")
ONSET = Assessment(9.0, 9.0, 0.001, 0.01, True, True, "unfamiliar")
LASTING = Assessment(9.0, 9.0, 0.001, 0.01, True, False, "unfamiliar")


class Bench:
    """A chronicle over a memory in a folder, ticked by hand. The number of a tick is the brightness of its picture."""

    def __init__(self, folder: Path, *, learning: bool = False) -> None:
        self.clock = FakeClock(start_ns=100 * NS_PER_S)
        self.memory = Memory.open(
            folder, bundle_sha256="b" * 64, tokens=1, dim=3, actions=2, clock=self.clock, wall_s=lambda: 7.0, boot="this one"
        )
        self.concepts = Concepts(3)
        self.chronicle = Chronicle(
            self.memory, self.concepts, self.clock, camera="a camera", learning=learning, wall_s=lambda: 7.0
        )
        self.number = 0

    def tick(
        self,
        seen: Assessment | None = CALM,
        *,
        state: RobotState = RobotState.ACTING,
        faults: tuple[CameraFault, ...] = (),
        latent: float | None = 0.5,
        coasted: int = 0,
        picture: bool = True,
        others: tuple[Event, ...] = (),
    ) -> tuple[Event, ...]:
        self.clock.advance_ns(PERIOD)
        self.number += 1
        now = self.clock.now_ns()
        tick = Tick(self.number, now, state, f"because of tick {self.number}", faults=faults, assessment=seen)
        if picture:
            tick.frame = Frame(np.full((48, 64, 3), self.number, dtype=np.uint8), now, self.number)
        if latent is not None:
            tokens = np.full((1, 3), latent, dtype=np.float32)
            context = np.stack([tokens * 0, tokens, tokens])
            tick.belief = Belief(tokens, None, context, np.full((2, 2), 0.25, dtype=np.float32), now, coasted)
        tick.command = Command((1.0, 2.0), np.array((0.1, 0.2), dtype=np.float32), 0, 0)
        return self.chronicle.note(tick, others)

    def kept(self) -> list[Episode]:
        """Everything in the ledger, the oldest first."""
        self.chronicle.close()
        self.memory.flush()
        return sorted(self.memory.episodes(), key=lambda episode: episode.id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "memory")
    yield bench
    bench.chronicle.close()
    bench.memory.close()


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "memory", learning=True)
    yield bench
    bench.chronicle.close()
    bench.memory.close()


def brightness(picture: bytes) -> int:
    """The number of the tick that a thumbnail was taken in."""
    pixels = cv2.imdecode(np.frombuffer(picture, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None and pixels.shape[:2] == (48, 64)
    return round(float(pixels.mean()))


def test_an_alarm_is_told_with_its_picture_and_kept_with_those_around_it(bench: Bench) -> None:
    for _ in range(27):
        assert bench.tick() == ()
    (event,) = bench.tick(ONSET)
    assert (event.kind, event.cause, event.wall_s, event.at_ns) == ("alarm", "unfamiliar", 7.0, bench.clock.now_ns())
    assert event.detail == "something unfamiliar is in the picture (p = 0.001)"
    assert brightness(event.thumbnail) == 28
    for _ in range(30):
        assert bench.tick(LASTING) == ()
    (episode,) = bench.kept()
    assert (episode.kind, episode.cause, episode.detail) == ("alarm", "unfamiliar", event.detail)
    assert (episode.p_value, episode.at_ns, episode.wall_s) == (0.001, event.at_ns, 7.0)
    np.testing.assert_array_equal(episode.latent, np.full(3, 0.5, dtype=np.float32))
    np.testing.assert_array_equal(episode.action, np.array((0.1, 0.2), dtype=np.float32))
    assert episode.thumbnail == event.thumbnail
    assert [brightness(picture) for picture in episode.before] == [10, 15, 20, 25]
    assert [brightness(picture) for picture in episode.after] == [30, 35, 40, 45]


def test_an_episode_is_kept_at_once_and_not_only_when_it_is_complete(bench: Bench) -> None:
    bench.tick()
    bench.tick(ONSET)

    def first() -> list[Episode]:
        bench.memory.flush()
        return bench.memory.episodes()

    (episode,) = until(first)
    assert episode.after == ()
    for _ in range(4):
        bench.tick(LASTING)
    (whole,) = bench.kept()
    assert whole.id == episode.id
    assert [brightness(picture) for picture in whole.after] == [5], "what there was when it closed"


def test_the_end_of_an_alarm_is_told_and_not_kept(bench: Bench) -> None:
    bench.tick(ONSET)
    (event,) = bench.tick(CALM)
    assert (event.kind, event.cause, event.detail) == ("clear", "unfamiliar", "unfamiliar is over")
    assert [episode.kind for episode in bench.kept()] == ["alarm"]


def test_a_camera_fault_is_kept_as_one_also_without_a_picture(bench: Bench) -> None:
    seen = Assessment(0.0, 0.0, 1.0, 0.01, True, True, "no_frames")
    (event,) = bench.tick(seen, faults=(CameraFault.NO_FRAMES,), picture=False)
    assert (event.kind, event.detail, event.thumbnail) == ("alarm", "the camera is no frames", b"")
    (episode,) = bench.kept()
    assert (episode.kind, episode.cause) == ("fault", "no_frames")


def test_changes_of_state_and_what_others_say(bench: Bench) -> None:
    assert bench.tick(state=RobotState.DISARMED) == (), "waking up is no change"
    (event,) = bench.tick(state=RobotState.HOLD)
    assert (event.kind, event.cause, event.detail) == ("state", "hold", "because of tick 2")
    goal = Event("goal", "goal_reached", "reached a", 1, 2.0)
    (told,) = bench.tick(state=RobotState.HOLD, others=(goal,))
    assert (told.kind, told.detail, brightness(told.thumbnail)) == ("goal", "reached a", 3)
    assert [(episode.kind, episode.cause) for episode in bench.kept()] == [("state", "hold"), ("goal", "goal_reached")]


def test_before_anything_was_seen_events_are_told_but_nothing_is_kept(bench: Bench) -> None:
    bench.tick(None, latent=None, picture=False, state=RobotState.DISARMED)
    (event,) = bench.tick(None, latent=None, picture=False, state=RobotState.HOLD)
    assert event.kind == "state"
    assert bench.kept() == []


def test_the_belief_is_saved_every_second_and_only_one_that_has_seen(bench: Bench) -> None:
    for _ in range(9):
        bench.tick()
    for _ in range(10):
        bench.tick(coasted=1)
    bench.memory.flush()
    assert isinstance(bench.memory.restore_belief(60.0, context=3, camera="a camera"), str)
    bench.tick(latent=0.75)
    saved_ns = bench.clock.now_ns()
    for _ in range(9):
        bench.tick(latent=0.25)
    bench.memory.flush()
    restored = bench.memory.restore_belief(60.0, context=3, camera="a camera")
    assert isinstance(restored, BeliefCheckpoint)
    assert restored.captured_ns == saved_ns
    np.testing.assert_array_equal(restored.context[:, 0, 0], np.array((0.0, 0.75, 0.75), dtype=np.float32))
    assert (restored.actions == 0.25).all()
    assert isinstance(bench.memory.restore_belief(60.0, context=3, camera="another"), str)


def test_concepts_are_learned_from_calm_ticks_only(learner: Bench) -> None:
    learner.tick(ONSET)
    learner.tick(LASTING, latent=0.1)
    learner.tick(latent=0.2, coasted=1)
    learner.tick(latent=0.3, faults=(CameraFault.LATE,))
    assert len(learner.concepts) == 0
    learner.tick(latent=0.4)
    assert len(learner.concepts) == 1
    learner.chronicle.close()
    learner.memory.flush()
    np.testing.assert_array_equal(learner.memory.load_concepts().latents, learner.concepts.latents)


def test_something_new_is_kept_but_not_all_the_time(learner: Bench) -> None:
    for number in range(101):
        learner.tick(latent=number / 100)
    novel = [episode for episode in learner.kept() if episode.kind == "novel"]
    assert [round(float(episode.latent[0]), 2) for episode in novel] == [0.05]


def test_without_learning_nothing_becomes_normal(bench: Bench) -> None:
    for number in range(5):
        bench.tick(latent=number / 5)
    assert len(bench.concepts) == 0
    assert bench.kept() == []


def test_a_stuck_memory_costs_episodes_and_never_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, entered = threading.Event(), threading.Event()
    remember = bench.memory.remember

    def stuck(episode: Episode) -> int:
        entered.set()
        assert opened.wait(HANGS_S)
        return remember(episode)

    monkeypatch.setattr(bench.memory, "remember", stuck)
    bench.tick(ONSET)
    assert entered.wait(HANGS_S)  # the thread holds the first one, and all others wait
    for _ in range(WAITING + 3):
        bench.tick(ONSET, picture=False)  # without pictures nothing is handed over a second time
    assert bench.chronicle.dropped == 3
    opened.set()
    until(lambda: bench.chronicle._work.empty())  # else closing would find the queue full, and drop once more
    assert len(bench.kept()) == 1 + WAITING
