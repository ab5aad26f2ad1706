"""``bench watch``: does watching a fixed camera raise the right alarms, and only those?

Every recording is learned from in its first half. The second half is watched once as it is, for false alarms, and then in
seeded trials: at a random moment something goes wrong, and the alarm must begin within a second. What goes wrong:

* ``foreign``: a thing that moves in *another* of the recordings, cut out there, appears somewhere, a fifth to a third of the
  picture tall; in half of the trials it then moves steadily;
* ``covered``: tape or a hand before the lens: a dim glow, brighter to one side, with sensor noise;
* ``frozen``: the camera repeats one picture.

Everything runs as in ``latentloop watch`` from the camera's health check on; only the decoding is done beforehand.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bench.cutouts import Cutout, moving_objects
from edge.bundle import Bundle, Precision, load
from edge.cameras.health import CameraHealth
from edge.clock import NS_PER_S, MonotonicClock
from edge.engines import EngineSettings
from edge.errors import UserError
from edge.learn_normal import NormalLearner
from edge.messages import Event, Frame, Pixels
from edge.normal import Normal
from edge.perception import Perception
from edge.watch import surprise_of
from edge.watcher import Watcher

CLIPS = ("bottle-detection.mp4", "car-detection.mp4", "one-by-one-person-detection.mp4")
KINDS = ("foreign", "covered", "frozen")
LEARNED_SHARE = 0.5
LEAD_S = 5.0
DEADLINE_S = 1.0
FOREIGN_CAUSES = ("unfamiliar", "unexpected")

Spoil = Callable[[Pixels, int], Pixels]
"""What goes wrong: the true picture and its number since then -> what the camera delivers."""


@dataclass(frozen=True, slots=True)
class Recording:
    """frames: uint8 (H, W, 3) each, evenly spaced in time."""

    name: str
    frames: Sequence[Pixels]
    fps: float

    def at_ns(self, index: int) -> int:
        """Time of a frame."""
        return round(index / self.fps * NS_PER_S)


@dataclass(frozen=True, slots=True)
class Trial:
    """alarm: cause of the first alarm that began within the deadline, or of the first rightly named one if there was one
    too; empty if none began. delay_s: until it began. already: an alarm was on when things went wrong."""

    clip: str
    kind: str
    at_s: float
    alarm: str
    delay_s: float
    already: bool

    @property
    def named(self) -> bool:
        """The alarm has the right name."""
        return self.alarm in FOREIGN_CAUSES if self.kind == "foreign" else self.alarm == self.kind


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench watch``."""
    parser = subparsers.add_parser(
        "watch", help="right and false alarms on recordings of fixed cameras", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="recordings (default: %(default)s)")
    parser.add_argument("--bundle", default="camera", help="model: a name or a folder (default: %(default)s)")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="(default: %(default)s)")
    parser.add_argument("--trials", type=int, default=60, help="over all recordings and kinds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises UserError."""
    cv2.setNumThreads(1)
    report = bench_watch(load(args.bundle), args.data, args.precision, args.trials, args.seed)
    if args.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return 0
    print(f"{report['bundle']} ({report['precision']}), learned from the first half of each recording")
    for name, figures in report["clips"].items():
        print(f"  {name}: {figures['false_onsets']} false alarms in {figures['watched_s']:.0f} s at {figures['false_onsets_at_s']}")
    for kind, figures in report["kinds"].items():
        print(
            f"  {kind}: {figures['detected']} of {figures['trials']} within {DEADLINE_S:g} s, {figures['named']} rightly named, "
            f"delay p50 {figures['delay_p50_s']} s, p95 {figures['delay_p95_s']} s"
        )
    print(f"  all: {report['detected_share']:.1%} detected, {report['named_share']:.1%} rightly named")
    return 0


def bench_watch(bundle: Bundle, data: Path, precision: Precision, trials: int, seed: int) -> dict[str, Any]:
    """The whole measurement; blocks for minutes. Raises UserError."""
    started = time.monotonic()
    folder = data / "intel_sample_videos"
    cutouts = {}
    for name in CLIPS:
        recording = read(folder / name)
        half = round(LEARNED_SHARE * len(recording.frames))
        cutouts[name] = moving_objects(recording.frames[half:], recording.frames[0])
    clips: dict[str, Any] = {}
    done: list[Trial] = []
    for number, name in enumerate(CLIPS):
        recording = read(folder / name)
        half = round(LEARNED_SHARE * len(recording.frames))
        bench = ClipBench(bundle, recording, precision)
        normal = bench.learn(0, half)
        false, alarmed_s = bench.false_onsets(normal, half)
        clips[name] = {
            "false_onsets": len(false),
            "false_onsets_at_s": [round(event.at_ns / NS_PER_S, 1) for event in false],
            "alarmed_s": round(alarmed_s, 1),
            "watched_s": round((len(recording.frames) - half) / recording.fps, 1),
            "learned_s": normal.evidence.seconds,
            "independent_frames": normal.evidence.effective,
            "alarm_p": normal.evidence.alarm_p,
        }
        rng = np.random.default_rng([seed, number])
        foreign = [cutout for other in CLIPS if other != name for cutout in cutouts[other]]
        for trial in range(number, trials, len(CLIPS)):
            kind = KINDS[trial // len(CLIPS) % len(KINDS)]
            done.append(bench.trial(normal, half, kind, foreign, rng))
        bench.close()
    return {
        "bundle": f"{bundle.manifest.name} {bundle.sha256[:12]}",
        "precision": precision,
        "trials": len(done),
        "seed": seed,
        **_figures(done),
        "kinds": {kind: _figures([t for t in done if t.kind == kind]) for kind in KINDS},
        "clips": clips,
        "missed": [
            f"{t.kind} in {t.clip} at {t.at_s:.1f} s" + (", already alarmed" if t.already else "")
            for t in done
            if not t.alarm
        ],
        "took_s": round(time.monotonic() - started, 1),
    }


class ClipBench:
    """One recording, learned from and watched."""

    def __init__(self, bundle: Bundle, recording: Recording, precision: Precision) -> None:
        self._bundle = bundle
        self._recording = recording
        self._clock = MonotonicClock()
        self._perception = Perception(bundle, self._clock, EngineSettings(precision=precision))

    def learn(self, first: int, last: int) -> Normal:
        """From the frames first .. last - 1."""
        shape = self._bundle.manifest.latent
        learner = NormalLearner(shape.tokens, shape.dim, shape.grid, self._bundle.predicts)
        self._perception.forget()
        for frame in self._frames(first, last):
            belief = self._perception.see(frame)
            if belief is not None:
                learner.observe(belief, self._perception.shifted(frame.pixels))
        return learner.learn(bundle_sha256=self._bundle.sha256, made_from=self._recording.name, wall_s=0.0)

    def false_onsets(self, normal: Normal, first: int, last: int | None = None) -> tuple[list[Event], float]:
        """The alarms in the untouched frames from ``first`` on, and for how many seconds there was one."""
        events = list(self._watch(normal, self._frames(first, last or len(self._recording.frames))))
        alarmed_ns, since = 0, None
        for event in events:
            if event.kind == "alarm":
                since = event.at_ns if since is None else since
            elif since is not None:
                alarmed_ns += event.at_ns - since
                since = None
        if since is not None:
            alarmed_ns += self._recording.at_ns(last or len(self._recording.frames)) - since
        return [event for event in events if event.kind == "alarm"], alarmed_ns / NS_PER_S

    def trial(
        self, normal: Normal, first: int, kind: str, foreign: Sequence[Cutout], rng: np.random.Generator, last: int | None = None
    ) -> Trial:
        """One thing goes wrong at a random moment after ``first``; the watch begins LEAD_S before it."""
        recording = self._recording
        fps = recording.fps
        end = last or len(recording.frames)
        lead = min(round(LEAD_S * fps), (end - first) // 2)
        wrong = int(rng.integers(first + lead, end - round((DEADLINE_S + 0.2) * fps)))
        spoil = _spoiler(kind, recording, wrong, foreign, rng)
        at_ns = recording.at_ns(wrong)
        frames = self._frames(wrong - lead, wrong + round((DEADLINE_S + 0.2) * fps), wrong, spoil)
        best = Trial(recording.name, kind, wrong / fps, "", float("nan"), already=False)
        for event in self._watch(normal, frames):
            if event.at_ns < at_ns:
                best = replace(best, already=event.kind == "alarm")
            elif event.kind == "alarm" and event.at_ns - at_ns <= DEADLINE_S * NS_PER_S:
                found = replace(best, alarm=event.cause, delay_s=(event.at_ns - at_ns) / NS_PER_S)
                if found.named:
                    return found
                best = best if best.alarm else found
        return best

    def close(self) -> None:
        """Give the engines back."""
        self._perception.close()

    def _watch(self, normal: Normal, frames: Iterator[Frame]) -> Iterator[Event]:
        self._perception.forget()
        watcher = Watcher(self._perception, surprise_of(normal, self._bundle), self._clock, lambda: 0.0)
        for frame in frames:
            yield from watcher.look(frame, frame.faults, frame.captured_ns).events

    def _frames(self, first: int, last: int, wrong: int | None = None, spoil: Spoil | None = None) -> Iterator[Frame]:
        """Frames first .. last - 1 as a camera would hand them out, spoilt from ``wrong`` on."""
        health = CameraHealth()
        for index in range(first, min(last, len(self._recording.frames))):
            pixels = self._recording.frames[index]
            if spoil is not None and wrong is not None and index >= wrong:
                pixels = spoil(pixels, index - wrong)
            at_ns = self._recording.at_ns(index)
            yield Frame(pixels, at_ns, index, health.frame(pixels, at_ns, at_ns))


def read(path: Path) -> Recording:
    """Decode a whole recording into memory. Raises UserError."""
    capture = cv2.VideoCapture(str(path))
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        frames.append(np.asarray(frame, np.uint8))
    capture.release()
    if not frames or fps <= 0:
        raise UserError(f"the recording {path} gives no frames: name the folder of the recordings with --data")
    return Recording(path.name, frames, fps)


def _spoiler(kind: str, recording: Recording, wrong: int, foreign: Sequence[Cutout], rng: np.random.Generator) -> Spoil:
    height, width = recording.frames[0].shape[:2]
    if kind == "frozen":
        still = recording.frames[wrong - 1]
        return lambda pixels, number: still.copy()
    if kind == "covered":
        return _cover((height, width), rng)
    thing = foreign[int(rng.integers(len(foreign)))].scaled(round(height * float(rng.uniform(0.2, 0.35))))
    tall, wide = thing.alpha.shape
    start = np.array([rng.uniform(0, max(1, width - wide)), rng.uniform(0, max(1, height - tall))])
    moving = rng.random() < 0.5
    speed = rng.uniform(-0.15, 0.15, 2) * (width, height) / recording.fps * moving

    def paste(pixels: Pixels, number: int) -> Pixels:
        x, y = np.rint(start + speed * number).astype(int)
        return thing.paste_into(pixels, int(x), int(y))

    return paste


def _cover(size: tuple[int, int], rng: np.random.Generator) -> Spoil:
    """Tape or a hand right before the lens: a dim glow that is brighter to one side, and the sensor's noise."""
    height, width = size
    bearing = float(rng.uniform(0.0, 2.0 * np.pi))
    across, down = np.meshgrid(np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height))
    slope = 1.0 + float(rng.uniform(0.0, 0.8)) * (np.cos(bearing) * across + np.sin(bearing) * down)
    tint = rng.uniform((0.5, 0.6, 0.8), (1.0, 1.0, 1.0))
    glow = (float(rng.uniform(5.0, 70.0)) * slope[..., None] * tint).astype(np.float32)
    grain = float(rng.uniform(1.0, 3.0))

    def cover(pixels: Pixels, number: int) -> Pixels:
        noise = rng.standard_normal(glow.shape, dtype=np.float32)
        return np.asarray(np.clip(glow + grain * noise, 0.0, 255.0), np.uint8)

    return cover


def _figures(trials: Sequence[Trial]) -> dict[str, Any]:
    found = [t for t in trials if t.alarm]
    delays = [t.delay_s for t in found]
    return {
        "trials": len(trials),
        "detected": len(found),
        "named": sum(t.named for t in trials),
        "detected_share": round(len(found) / max(1, len(trials)), 4),
        "named_share": round(sum(t.named for t in trials) / max(1, len(trials)), 4),
        "delay_p50_s": round(float(np.quantile(delays, 0.5)), 2) if delays else None,
        "delay_p95_s": round(float(np.quantile(delays, 0.95)), 2) if delays else None,
    }
