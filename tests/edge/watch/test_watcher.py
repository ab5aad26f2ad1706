"""Watching: faults win, alarms begin and end, and what is remembered of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bench.cutouts import moving_objects
from edge.bench.watch import ClipBench, Recording, read
from edge.bundle import Bundle
from edge.clock import FakeClock
from edge.memory import Memory
from edge.messages import CameraFault, Event, Frame
from edge.normal import Normal
from edge.perception import Perception
from edge.watch import surprise_of
from edge.watcher import Watcher, where
from edge.witness import PICTURES, Witness
from tests.edge.watch.conftest import frames


def watcher_of(bundle: Bundle, normal: Normal | None) -> Watcher:
    return Watcher(Perception(bundle, FakeClock()), surprise_of(normal, bundle), FakeClock(), lambda: 0.0)


def events(watcher: Watcher, seen: list[Frame]) -> list[Event]:
    return [e for frame in seen for e in watcher.look(frame, frame.faults, frame.captured_ns).events]


def with_intruder(frame: Frame) -> Frame:
    pixels = frame.pixels.copy()
    checks = np.indices((60, 60)).sum(axis=0) // 5 % 2 * 255
    pixels[10:70, 90:150] = checks[..., None] * np.array([1.0, 0.2, 0.8])
    return replace(frame, pixels=pixels)


def test_normal_footage_is_no_alarm(bundle: Bundle, normal: Normal) -> None:
    assert events(watcher_of(bundle, normal), frames(150, 250)) == []


def test_an_intruder_alarms_within_a_second_and_clears(bundle: Bundle, normal: Normal) -> None:
    watcher = watcher_of(bundle, normal)
    assert events(watcher, frames(150, 170)) == []
    found = events(watcher, [with_intruder(frame) for frame in frames(170, 200)])
    assert [event.kind for event in found] == ["alarm", "clear"], "it tells of the appearing, not of the being there"
    assert {event.cause for event in found} == {"unexpected"}
    assert found[0].at_ns - frames(170, 171)[0].captured_ns <= 1e9
    picture = cv2.imdecode(np.frombuffer(found[0].thumbnail, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[:2] == (120, 160)
    assert ", upper " in found[0].detail or ", middle " in found[0].detail
    assert found[1].at_ns - found[0].at_ns >= 1e9


def test_without_calibration_there_are_scores_but_no_alarms(bundle: Bundle) -> None:
    watcher = watcher_of(bundle, None)
    seen = [with_intruder(frame) if frame.sequence > 170 else frame for frame in frames(150, 200)]
    assert events(watcher, seen) == []


@pytest.mark.parametrize("fault", list(CameraFault))
def test_a_camera_fault_wins_and_is_named(bundle: Bundle, normal: Normal, fault: CameraFault) -> None:
    watcher = watcher_of(bundle, normal)
    events(watcher, frames(150, 160))
    spoilt = [replace(with_intruder(frame), faults=(fault,)) for frame in frames(160, 180)]
    assert [(e.kind, e.cause) for e in events(watcher, spoilt)] == [("alarm", fault.value)]
    assert [(e.kind, e.cause) for e in events(watcher, frames(180, 200))] == [("clear", fault.value)]


def test_no_picture_at_all_is_a_fault_too(bundle: Bundle, normal: Normal) -> None:
    tick = watcher_of(bundle, normal).look(None, (CameraFault.NO_FRAMES,), 5)
    assert [(e.kind, e.cause, e.thumbnail) for e in tick.events] == [("alarm", "no_frames", b"")]


def test_an_alarm_becomes_one_episode_with_pictures_before_and_after(
    bundle: Bundle, normal: Normal, tmp_path: Path
) -> None:
    shape = bundle.manifest.latent
    memory = Memory.open(
        tmp_path, bundle_sha256=bundle.sha256, tokens=shape.tokens, dim=shape.dim, actions=0, clock=FakeClock()
    )
    witness, watcher = Witness(memory, shape.dim), watcher_of(bundle, normal)
    for frame in frames(150, 230):
        seen = with_intruder(frame) if frame.sequence >= 190 else frame
        witness.observe(watcher.look(seen, seen.faults, seen.captured_ns))
    found = memory.episodes()
    memory.close()
    assert [episode.kind for episode in found] == ["alarm"]
    assert len(found[0].before) == len(found[0].after) == PICTURES
    assert found[0].thumbnail and found[0].p_value < 1.0 and np.any(found[0].latent)


@pytest.mark.parametrize(
    ("cell", "words"), [((0, 0), "upper left"), ((11, 15), "lower right"), ((6, 8), "in the middle of the picture")]
)
def test_says_where(cell: tuple[int, int], words: str) -> None:
    heat = np.zeros((12, 16), np.float32)
    heat[cell] = 2.0
    assert where(heat) == words


def test_real_footage_normal_is_quiet_and_a_foreign_thing_is_not(bundle: Bundle, shared_data: Path) -> None:
    """A calm bench with bottles: quiet as it is, and most parts of a car pasted into it alarm in time."""
    bottles = read(shared_data / "intel_sample_videos" / "bottle-detection.mp4")
    car = read(shared_data / "intel_sample_videos" / "car-detection.mp4")
    things = moving_objects(car.frames[60:110], car.frames[0])
    bench = ClipBench(bundle, Recording(bottles.name, bottles.frames[:400], bottles.fps), "int8")
    learned = bench.learn(0, 340)
    assert bench.false_onsets(learned, 0, 340)[0] == []
    rng = np.random.default_rng(0)
    found = [bench.trial(learned, 0, "foreign", things, rng, last=300) for _ in range(8)]
    assert sum(trial.named and trial.delay_s <= 1.0 for trial in found) >= 6
