"""The ``watch`` command: any fixed camera in, one line per thing worth telling out."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import resource
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import cv2

from edge.bundle import Bundle, load
from edge.cameras.camera import Camera
from edge.cameras.opening import open_camera
from edge.cameras.source import parse_source
from edge.clock import NS_PER_S, Clock, MonotonicClock
from edge.dashboard import Dashboard
from edge.engines import EngineSettings
from edge.engines.tensorrt.background import build_in_background
from edge.errors import UserError
from edge.intrinsics import Intrinsics, taken_out
from edge.learn_normal import NormalLearner
from edge.memory import Concepts, Memory
from edge.messages import CameraFault, Event, Frame, Tick
from edge.normal import INDEX, Normal, default_folder
from edge.perception import Perception
from edge.state_folder import state_folder
from edge.surprise import AlarmRule, Surprise
from edge.watcher import Watcher
from edge.witness import Witness

WAIT_S = 0.1
MAX_AGE_NS = NS_PER_S

_EXAMPLES = """examples:
  latentloop calibrate alarms /dev/video0 --minutes 10     learn what is normal here, then
  latentloop watch /dev/video0                             watch
  latentloop watch yard.mp4 --speed max --json             a recording, as fast as it goes
  latentloop watch rtsp://camera/stream --learn 120        learn for two minutes, then watch

exit codes: 0 ended or stopped, 1 the camera failed for good, 2 bad input
"""

Say = Callable[[Event, float], None]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``watch`` command."""
    parser = subparsers.add_parser(
        "watch",
        help="watch one fixed camera and tell what is not normal",
        description="Watch one fixed camera: camera faults at once, and what was never seen while learning what is normal.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="device, video file, folder of pictures or address")
    parser.add_argument("--bundle", default="camera", help="model: a name or a folder (default: %(default)s)")
    parser.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="what is normal here (default: the last one made for SOURCE)"
    )
    add_intrinsics(parser)
    parser.add_argument("--learn", type=_seconds, metavar="SECONDS", help="first learn what is normal for so long")
    parser.add_argument("--memory", type=Path, metavar="FOLDER", help="remember every alarm there, with pictures")
    parser.add_argument("--speed", choices=("real", "max"), default="real", help="of a recording (default: %(default)s)")
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="stop after so long")
    parser.add_argument(
        "--dashboard", action=argparse.BooleanOptionalAction, default=True, help="serve the page (default: yes)"
    )
    parser.add_argument("--port", type=int, default=8420, help="of the page, 0 for any (default: %(default)s)")
    parser.add_argument(
        "--runtime",
        choices=("onnxruntime", "openvino", "auto"),
        default="onnxruntime",
        help="what runs the model on the CPU; auto measures once (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="JSON lines: events, and a summary last")
    parser.set_defaults(run=run)


def add_intrinsics(parser: argparse.ArgumentParser) -> None:
    """Add the option that stands for ``camera.intrinsics`` of a robot's file."""
    parser.add_argument(
        "--intrinsics",
        type=Path,
        metavar="FILE",
        help="take the lens out of the pictures: what 'latentloop calibrate camera' wrote; the same for learning and watching",
    )


def run(args: argparse.Namespace) -> int:
    """Watch until the source ends, the duration is over or somebody interrupts. Raises UserError."""
    cv2.setNumThreads(1)
    clock = MonotonicClock()
    source = parse_source(args.source).label
    bundle = load(args.bundle)
    if bundle.manifest.kind != "camera":
        raise UserError(f"bundle {bundle.manifest.name!r} is for a robot: watch takes a camera bundle, such as 'camera'")
    intrinsics = Intrinsics.load(args.intrinsics) if args.intrinsics else None
    lens = taken_out(intrinsics)
    tell = _Teller(as_json=args.json)
    with contextlib.ExitStack() as stack:
        perception = Perception(bundle, clock, EngineSettings(tensorrt=True, runtime=args.runtime), intrinsics)
        stack.callback(perception.close)
        building = build_in_background(bundle)
        if building is not None:
            stack.callback(building.close)
        camera = open_camera(args.source, clock=clock, speed=args.speed)
        stack.callback(camera.close)
        normal = None if args.learn else find_normal(args.calibration, source, bundle, lens)
        observers: list[Callable[[Tick], None]] = []
        if args.memory is not None:
            shape = bundle.manifest.latent
            memory = Memory.open(
                args.memory, bundle_sha256=bundle.sha256, tokens=shape.tokens, dim=shape.dim, actions=0, clock=clock
            )
            stack.callback(memory.close)
            witness = Witness(memory, shape.dim)
            observers.append(witness.observe)
        if args.dashboard:
            dashboard = Dashboard(
                title=f"watching {source}",
                operator=None,
                port=args.port,
                token_path=state_folder() / "dashboard.token",
                clock=clock,
                engines=building,
            )
            tell.note(f"dashboard: {dashboard.start()}")
            stack.callback(dashboard.close)
            observers.append(lambda tick: dashboard.observe(tick) if tick.assessment or tick.events else None)
        began = _usage()
        failed = False
        camera.start()
        watch = _Watch(camera, perception, clock, observers, tell.event, speed_max=args.speed == "max")
        try:
            with _interruptible():
                if args.learn:
                    normal = watch.learn(args.learn, bundle, source, tell.note)
                if normal is None:
                    tell.note(
                        "not calibrated: scores and camera faults only; to get alarms run "
                        f"'{_learning(args)}'"
                    )
                else:
                    tell.note(describe(normal))
                watch.watch(surprise_of(normal, bundle), args.duration)
        except KeyboardInterrupt:
            tell.note("stopped")
        finally:
            status = camera.status()
            failed = status.failed
            if failed:
                tell.note(f"the camera failed: {status.detail}")
            camera.close()  # so that the capture process is counted
            tell.summary(watch.summary(status.dropped, began, perception))
    return 1 if failed else 0


def _learning(args: argparse.Namespace) -> str:
    """The command that learns what this one needs."""
    words = ["latentloop", "calibrate", "alarms", args.source]
    words += ["--bundle", args.bundle] if args.bundle != "camera" else []
    words += ["--intrinsics", str(args.intrinsics)] if args.intrinsics else []
    return shlex.join(words)


def find_normal(folder: Path | None, source: str, bundle: Bundle, lens: str) -> Normal | None:
    """The folder's calibration; without a folder the one made last for this source and lens, None if there is none. Raises
    NormalError."""
    if folder is None:
        folder = default_folder(source, lens)
        if not (folder / INDEX).exists():
            return None
    shape = bundle.manifest.latent
    return Normal.load(folder, bundle_sha256=bundle.sha256, tokens=shape.tokens, dim=shape.dim, lens=lens)


def surprise_of(normal: Normal | None, bundle: Bundle) -> Surprise:
    """The judge of this camera; without a calibration one that never raises a statistical alarm."""
    shape = bundle.manifest.latent
    if normal is None:
        return Surprise(None, Concepts(shape.dim), shape.grid, AlarmRule())
    return Surprise(normal.calibration, normal.concepts, shape.grid, normal.rule)


def describe(normal: Normal) -> str:
    """One sentence on what the alarms rest on."""
    evidence = normal.evidence
    return (
        f"calibrated on {evidence.seconds:.0f} s of {normal.made_from}: {len(normal.concepts)} concepts, alarm at "
        f"p <= {evidence.alarm_p:.2g}; {evidence.onsets} false alarms on footage not learned from, which with 95 % "
        f"confidence means fewer than {evidence.per_hour_below:.0f} per hour"
    )


class _Watch:
    """The loop over one camera."""

    def __init__(
        self,
        camera: Camera,
        perception: Perception,
        clock: Clock,
        observers: list[Callable[[Tick], None]],
        say: Say,
        *,
        speed_max: bool,
    ) -> None:
        self._camera = camera
        self._perception = perception
        self._clock = clock
        self._observers = observers
        self._say = say
        self._speed_max = speed_max
        self._first_ns: int | None = None
        self._last_ns = 0
        self._started_ns = clock.now_ns()
        self._frames = 0
        self._steps = 0
        self._step_ns = 0
        self._events: Counter[str] = Counter()

    def learn(self, seconds: float, bundle: Bundle, source: str, note: Callable[[str], None]) -> Normal:
        """Learn what is normal from the next seconds of healthy pictures. Raises NormalError."""
        shape = bundle.manifest.latent
        learner = NormalLearner(shape.tokens, shape.dim, shape.grid, bundle.predicts)
        note(f"learning what is normal for {seconds:.0f} s")
        for frame, faults in self._pictures():
            if frame is None or faults:
                self._perception.forget()
                continue
            belief = self._perception.see(frame)
            if belief is not None:
                learner.observe(belief, self._perception.shifted(frame.pixels))
            if learner.seconds >= seconds:
                break
        note("working out the alarm threshold")
        self._perception.forget()
        return learner.learn(bundle_sha256=bundle.sha256, made_from=source, wall_s=time.time())

    def watch(self, surprise: Surprise, duration_s: float | None) -> None:
        """Look at every picture until the source ends or the duration is over."""
        watcher = Watcher(self._perception, surprise, self._clock, time.time)
        until_ns = None if duration_s is None else self._now_ns() + round(duration_s * NS_PER_S)
        for frame, faults in self._pictures():
            tick = watcher.look(frame, faults, self._now_ns() if frame is None else frame.captured_ns)
            if tick.belief is not None:
                self._steps += 1
                self._step_ns += tick.total_ns
            for event in tick.events:
                if event.kind == "alarm":
                    self._events[event.cause] += 1
                self._say(event, self._seconds_at(event.at_ns))
            for observe in self._observers:
                observe(tick)
            if until_ns is not None and self._now_ns() >= until_ns:
                return

    def summary(self, dropped: int, began: tuple[float, float], perception: Perception) -> dict[str, object]:
        """The last line in JSON. fps: frames looked at per second of real time. cpu_s, rss_mb: of this process and the
        capture process, the second being the sum of both peaks."""
        elapsed_s = (self._clock.now_ns() - self._started_ns) / NS_PER_S
        cpu_s, rss_mb = _usage()
        return {
            "summary": True,
            "frames": self._frames,
            "dropped": dropped,
            "seconds": round(elapsed_s, 2),
            "fps": round(self._frames / max(elapsed_s, 1e-9), 1),
            "steps": self._steps,
            "step_ms": round(self._step_ns / max(1, self._steps) / 1e6, 2),
            "cpu_s": round(cpu_s - began[0], 2),
            "cores": round((cpu_s - began[0]) / max(elapsed_s, 1e-9), 3),
            "rss_mb": round(rss_mb, 1),
            "events": dict(self._events),
            "engines": {
                part: {"runtime": info.runtime, "precision": info.precision} for part, info in perception.engines.items()
            },
        }

    def _pictures(self) -> Iterator[tuple[Frame | None, tuple[CameraFault, ...]]]:
        """Every new picture with the camera's faults, and the faults alone while there is none."""
        while True:
            self._camera.wait(WAIT_S)
            frame = self._camera.latest(MAX_AGE_NS)
            status = self._camera.status()
            if frame is None:
                if status.ended or status.failed:
                    return
                yield None, status.faults
                continue
            self._frames += 1
            self._last_ns = frame.captured_ns
            if self._first_ns is None:
                self._first_ns = frame.captured_ns
            yield frame, frame.faults

    def _now_ns(self) -> int:
        return self._last_ns if self._speed_max else self._clock.now_ns()

    def _seconds_at(self, at_ns: int) -> float:
        return 0.0 if self._first_ns is None else (at_ns - self._first_ns) / NS_PER_S


class _Teller:
    """Prints for people or for programs; notes for people go to standard error when programs read."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def note(self, text: str) -> None:
        print(text, file=sys.stderr if self._as_json else sys.stdout, flush=True)

    def event(self, event: Event, seconds: float) -> None:
        if self._as_json:
            line = {"event": event.kind, "cause": event.cause, "detail": event.detail, "seconds": round(seconds, 3)}
            line["time"] = datetime.fromtimestamp(event.wall_s).astimezone().isoformat(timespec="milliseconds")
            print(json.dumps(line), flush=True)
        else:
            minutes, rest = divmod(max(seconds, 0.0), 60.0)
            print(f"{minutes:3.0f}:{rest:04.1f}  {event.kind:<5}  {event.cause:<10}  {event.detail}", flush=True)

    def summary(self, figures: dict[str, object]) -> None:
        if self._as_json:
            print(json.dumps(figures), flush=True)
            return
        events = figures["events"]
        assert isinstance(events, dict)
        told = ", ".join(f"{count} x {cause}" for cause, count in sorted(events.items())) or "no alarms"
        print(
            f"{figures['frames']} pictures in {figures['seconds']} s ({figures['dropped']} dropped): {told}; "
            f"{figures['cores']} cores, {figures['rss_mb']} MB",
            flush=True,
        )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A termination signal ends the watch as Ctrl-C does."""

    def interrupt(number: int, stack: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage() -> tuple[float, float]:
    """CPU seconds and peak resident MB of this process and those it started and has waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in both), sum(u.ru_maxrss for u in both) / 1024.0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above zero")
    return value
