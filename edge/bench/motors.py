"""``latentloop bench motors``: what faulty motors cost the closed loop, and what calibrating them gives back.

Each fault is planted in the simulated wheels. ``latentloop calibrate motors`` then measures them as it would a robot's: in real
time, through a pseudo-terminal and the compiled C firmware. The world model drives the same starts and goals as in ``bench
world``, in injected time, without the calibration and with the robot file that was written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge import bundle as bundles
from edge.bench.world import STEPS, Choose, Episode, drive_by_model, interval, load_model, steps_to_goal
from edge.bench.worn_motors import AXES, WornMotors
from edge.config import AxisConfig, PlannerConfig, load_config
from edge.demo import World
from edge.errors import UserError
from edge.worlds.folder import short_parent
from edge.worlds.wheels import Wheel, load_wheels

Wheels = tuple[Wheel, Wheel]

FAULTS: dict[str, Wheels] = {
    "sign": (Wheel(reversed=True), Wheel()),
    "gain": (Wheel(gain=0.5), Wheel()),
    "dead-band": (Wheel(dead_band=5.0, friction=4.0), Wheel(dead_band=5.0, friction=4.0)),
    "weak": (Wheel(max_speed=8.0, max_acceleration=60.0), Wheel()),
    "latency": (Wheel(delay_ms=100.0), Wheel(delay_ms=100.0)),
    "worn": load_wheels(Path(__file__).parents[1] / "worlds" / "worn_wheels.toml"),
}
"""Left and right wheel. A calibration tells what latency is, and nothing makes up for it."""

_ROBOT = """name = "Rover with faulty wheels (simulated)"
bundle = "rover"
[camera]
source = "world:frames"
[bridge]
port = "motors"
lease_ms = 250
"""

_EXAMPLES = """examples:
  latentloop bench motors                             all faults, about two minutes each
  latentloop bench motors --fault sign --episodes 10
  latentloop bench motors --json

exit codes: 0 measured, 2 bad input, or a calibration that was refused
"""

Calibrate = Callable[[Wheels], Mapping[str, AxisConfig]]
Drive = Callable[[Episode], Choose]


def bench_motors(
    faults: Sequence[str], episodes: int, drive: Drive, calibrate: Calibrate, note: Callable[[str], None]
) -> dict[str, Any]:
    """Goals reached with perfect wheels, and with those of each fault before and after a calibration. note: progress."""

    def driven(what: str, wheels: Wheels, axes: Mapping[str, AxisConfig]) -> dict[str, Any]:
        steps = []
        for number in range(episodes):
            episode = Episode(number, WornMotors(wheels, axes, number))
            steps.append(steps_to_goal(episode, drive(episode)))
            note(f"{what}: {sum(s is not None for s in steps)} of {number + 1} goals reached")
        there = [s for s in steps if s is not None]
        return {
            "reached": len(there),
            "interval_95": interval(len(there), episodes),
            "median_steps": float(np.median(there)) if there else None,
            "steps": steps,
        }

    report: dict[str, Any] = {
        "episodes": episodes,
        "step_limit": STEPS,
        "perfect": driven("perfect wheels", (Wheel(), Wheel()), {}),
        "faults": {},
    }
    for name in faults:
        wheels = FAULTS[name]
        before = driven(f"{name}, as it is", wheels, {})
        note(f"{name}: being calibrated in real time, about a minute")
        axes = calibrate(wheels)
        report["faults"][name] = {
            "planted": {axis: _faults_of(wheel) for axis, wheel in zip(AXES, wheels, strict=True)},
            "before": before,
            "after": driven(f"{name}, calibrated", wheels, axes),
            "axes": msgspec.to_builtins(axes),
        }
    return report


def calibrate_in_arena(wheels: Wheels) -> Mapping[str, AxisConfig]:
    """Run ``calibrate motors`` on a simulated rover with these wheels, and read what it wrote. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="latentloop-motors-", dir=short_parent()) as name:
        folder, robot = Path(name), Path(name) / "robot.toml"
        robot.write_text(_ROBOT)
        tables = (f"[{axis}]\n{_toml(wheel)}" for axis, wheel in zip(AXES, wheels, strict=True))
        (folder / "wheels.toml").write_text("\n".join(tables))
        with World(folder, wheels=folder / "wheels.toml"):
            command = (sys.executable, "-m", "edge.cli", "calibrate", "motors", str(robot), "--yes", "--json")
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise UserError(f"the calibration was refused ({said[-1].removeprefix('latentloop: ')}): run it again")
        return load_config(robot).axes


def _faults_of(wheel: Wheel) -> dict[str, Any]:
    """Only what is not perfect."""
    perfect = Wheel()
    return {key: value for key, value in msgspec.to_builtins(wheel).items() if value != getattr(perfect, key)}


def _toml(wheel: Wheel) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in _faults_of(wheel).items())


def in_words(report: Mapping[str, Any]) -> str:
    """A table for the terminal."""
    episodes = report["episodes"]

    def cells(found: Mapping[str, Any]) -> tuple[str, str]:
        steps = found["median_steps"]
        return f"{found['reached']} of {episodes}", "-" if steps is None else f"{steps:g}"

    def line(wheels: str, *columns: str) -> str:
        return f"{wheels:12}" + "".join(f"{column:>{width}}" for column, width in zip(columns, (13, 8, 14, 8), strict=True))

    reached, steps = cells(report["perfect"])
    lines = [
        line("wheels", "goals before", "steps", "goals after", "steps"),
        line("perfect", reached, steps, "", ""),
    ]
    for name, found in report["faults"].items():
        lines.append(line(name, *cells(found["before"]), *cells(found["after"])))
    return "\n".join(each.rstrip() for each in lines)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench motors``."""
    parser = subparsers.add_parser(
        "motors",
        help="goals reached with faulty motors, before and after calibrating them",
        description="Plant a fault in the simulated wheels, drive, calibrate through the real firmware, and drive again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fault", action="append", choices=tuple(FAULTS), help="only this one; may be given again (default: all)")
    parser.add_argument("--episodes", type=int, default=20, help="start and goal pairs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.episodes < 1:
        raise UserError(f"--episodes is {args.episodes} and must be 1 or more")
    model = load_model(bundles.load("rover"), "int8", PlannerConfig())
    faults = list(dict.fromkeys(args.fault or FAULTS))
    report = bench_motors(faults, args.episodes, lambda episode: drive_by_model(model, episode), calibrate_in_arena, _note)
    print(file=sys.stderr)
    print(json.dumps(report, indent=2) if args.json else in_words(report))
    return 0


def _note(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
