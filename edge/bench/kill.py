"""``latentloop bench kill``: the runtime is killed with SIGKILL while the rover moves, again and again.

What must hold: the firmware comes to its safe stop by itself, and the next start finds every episode that was committed and
the belief. The arena, the firmware and the runtime are the real processes of the demo.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.demo import World
from edge.errors import UserError
from edge.memory import ledger
from edge.worlds.folder import short_parent
from edge.worlds.guide import ArenaGuide

PATIENCE_S = 30.0
MOVES_S = 10.0
"""A rover that stands for longer before it is killed has lost its lease to a machine that was busy."""

_ROBOT = """name = "Arena rover (simulated)"
bundle = "{bundle}"
[camera]
source = "world:frames"
[bridge]
port = "motors"
lease_ms = {lease_ms}
[goals]
source = "world:goals"
[memory]
belief_max_age_s = 60
[dashboard]
enabled = false
"""


def bench_kill(bundle: str, kills: int, seed: int, lease_ms: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Kill ``kills`` runtimes; takes some five seconds for each."""
    draw = random.Random(seed)
    stops: list[float] = []
    committed = lost = damaged = restored = held_up = 0
    floor = 0
    with tempfile.TemporaryDirectory(prefix="latentloop-kill-", dir=short_parent()) as name, World(Path(name), seed):
        folder = Path(name)
        (folder / "robot.toml").write_text(_ROBOT.format(bundle=bundle, lease_ms=lease_ms))
        with contextlib.closing(ArenaGuide(folder / "goals")) as guide:
            while len(stops) < kills:
                runtime, said = _start(folder, guide)
                with runtime:
                    try:
                        restored += any(line.startswith("belief restored") for line in said)
                        time.sleep(draw.uniform(0.3, 1.8))
                        moving = _comes(guide, lambda motors: bool(motors["moving"]), MOVES_S)
                        known = _episodes(folder)
                    finally:
                        runtime.kill()
                if not moving:  # a lease ran out before the kill, and nobody arms it again, as it should be
                    held_up += 1
                    if held_up > kills:
                        raise UserError(
                            f"the rover does not move within {MOVES_S:.0f} s: run it again on a machine that is less busy"
                        )
                    continue
                motors = _wait_for(guide, lambda m: m["state"] != "active", "the firmware did not stop")
                _wait_for(guide, lambda m: not m["moving"], "the rover did not come to rest")
                stops.append(float(motors["last_lease_to_safe_stop_ms"]))
                with contextlib.closing(ledger.open_for_reading(folder / "memory")) as connection:
                    found = {int(row[0]) for row in connection.execute("SELECT id FROM episodes")}
                    damaged += len(ledger.unreadable_episodes(connection))
                lost += len(known - found)
                committed = len(found)
                lost += floor > committed
                floor = committed
                note(f"kill {len(stops)} of {kills}: safe stop {stops[-1]:.0f} ms after the last lease")
    return {
        "kills": kills,
        "last_lease_to_safe_stop_ms": {
            "p50": round(float(np.median(stops)), 2),
            "max": round(max(stops), 2),
            "lease": lease_ms,
        },
        "episodes_committed": committed,
        "episodes_lost": lost,
        "episodes_damaged": damaged,
        "beliefs_restored": restored,
        "restarts": kills + held_up - 1,
        "held_up": held_up,
    }


def _start(folder: Path, guide: ArenaGuide) -> tuple[subprocess.Popen[str], list[str]]:
    """The runtime, armed and moving unless this machine is too busy, and what it said at its start."""
    runtime = subprocess.Popen(
        (sys.executable, "-m", "edge.cli", "run", str(folder / "robot.toml"), "--arm"), stdout=subprocess.PIPE, text=True
    )
    assert runtime.stdout is not None
    said: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if select.select([runtime.stdout], [], [], 0.1)[0]:
            line = runtime.stdout.readline()
            if not line:
                raise UserError(f"the runtime ended before it was killed (exit code {runtime.wait()}): see its message above")
            said.append(line.strip())
        if guide.motors()["moving"]:
            return runtime, said
    return runtime, said


def _comes(guide: ArenaGuide, good: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any] | None:
    """The first motors like that; None if there are none in that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        motors = guide.motors()
        if good(motors):
            return motors
        time.sleep(0.005)
    return None


def _wait_for(guide: ArenaGuide, good: Callable[[dict[str, Any]], bool], otherwise: str) -> dict[str, Any]:
    if (motors := _comes(guide, good, PATIENCE_S)) is not None:
        return motors
    raise UserError(f"{otherwise} within {PATIENCE_S:.0f} s: run it again on a machine that is less busy")


def _episodes(folder: Path) -> set[int]:
    """What is surely committed now, as another process sees it."""
    with contextlib.closing(ledger.open_for_reading(folder / "memory")) as connection:
        return {int(row[0]) for row in connection.execute("SELECT id FROM episodes")}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench kill``."""
    parser = subparsers.add_parser("kill", help="kill the runtime while the rover moves: safe stop, nothing lost")
    parser.add_argument("--bundle", default="rover", help="name or folder (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--lease-ms", type=int, default=100, help="of the firmware (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.kills < 1 or not 50 <= args.lease_ms <= 500:
        raise UserError("bench kill needs --kills of 1 or more and --lease-ms between 50 and 500")
    bundle = str(Path(args.bundle).resolve()) if Path(args.bundle).is_dir() else args.bundle
    report = bench_kill(bundle, args.kills, args.seed, args.lease_ms, lambda text: print(f"\r{text}", end="", file=sys.stderr))
    print(file=sys.stderr)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        stop = report["last_lease_to_safe_stop_ms"]
        print(f"safe stop {stop['p50']} ms after the last lease at the median, {stop['max']} ms at most")
        print(f"{report['episodes_committed']} episodes committed, {report['episodes_lost']} lost")
        print(f"belief restored in {report['beliefs_restored']} of {report['restarts']} restarts")
        if report["held_up"]:
            print(f"begun anew {report['held_up']} times, because the rover stood still before it was killed: the machine is busy")
    return 0 if report["episodes_lost"] == report["episodes_damaged"] == 0 else 1
