"""The ``run`` command: drive one robot from its configuration file."""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from edge.arming import arm_when_healthy, keep_armed
from edge.clock import NS_PER_S
from edge.config import RobotConfig, load_config
from edge.learn_normal import NormalLearner
from edge.messages import RobotState, Tick
from edge.robot import Robot
from edge.run_report import RunReport

_EXAMPLES = """examples:
  latentloop run robot.toml                    arm it on the page that it prints
  latentloop run robot.toml --arm              arm as soon as everything is healthy
  latentloop run robot.toml --seconds 30 --json

Motors stay off until a person arms them. Ctrl-C stops the motors first.
exit codes: 0 ended as asked, 1 something failed while running, 2 bad input
"""

SWITCH_S = 0.0005


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``run`` command."""
    parser = subparsers.add_parser(
        "run",
        help="drive a robot",
        description="Drive a robot: camera, world model, planner, motors, memory and status page, from one TOML file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("robot", type=Path, metavar="ROBOT.toml", help="the robot's configuration")
    parser.add_argument("--arm", action="store_true", help="let the motors move as soon as everything is healthy")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long (default: when told to)")
    parser.add_argument("--learn", type=Path, metavar="FOLDER", help="learn from this run what is normal; see 'calibration'")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    config = load_config(args.robot)
    base = args.robot.resolve().parent
    summary = drive(config, base, arm=args.arm, seconds=args.seconds, quiet=args.json, learn=args.learn)
    print(json.dumps(summary, indent=2) if args.json else described(summary))
    return 0


def drive(
    config: RobotConfig,
    base: Path,
    *,
    arm: bool,
    seconds: float | None,
    quiet: bool,
    learn: Path | None = None,
    simulated: bool = False,
) -> dict[str, Any]:
    """Assemble the robot, run it until a signal or for so many seconds, and say what it amounted to.

    simulated: nobody can be hurt, so where it was armed from the command line it is so again after every fault. learn:
    write there what is normal, as this run showed it. Raises UserError or BridgeError before anything moves, and
    NormalError at the end where the run was too short to learn from.
    """
    report = RunReport()
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # the second one ends the program at once, and the lease stops the motors

    watcher = _Watcher(report, stop, seconds, quiet)
    learner: list[NormalLearner] = []

    def study(tick: Tick) -> None:
        if learner and tick.belief is not None and not tick.belief.coasted and not tick.faults:
            learner[0].observe(tick.belief)

    with Robot(config, base, observers=(report.observe, watcher.observe, study)) as robot:
        if learn is not None:
            shape = robot.bundle.manifest.latent
            learner.append(NormalLearner(shape.tokens, shape.dim, shape.grid))
        watcher.attend(robot, arm, keep=simulated)
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        # What lives now lives as long as the robot: the collector need not look at it in every tick.
        gc.collect()
        gc.freeze()
        # Every return from an engine waits for the interpreter; by default another thread may keep it for 5 ms.
        patience_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            robot.run(stop)
        finally:
            sys.setswitchinterval(patience_s)
            gc.unfreeze()
            for number, handler in before.items():
                signal.signal(number, handler)
        if learn is not None:
            normal = learner[0].learn(bundle_sha256=robot.bundle.sha256, made_from=config.name, wall_s=time.time())
            replace(normal, lens=robot.lens).save(learn)
        telemetry = robot.controller.telemetry()
        engines = {name: engine.info for name, engine in robot.engines.items()}
        memory = robot.memory.counts()
        return {
            "robot": config.name,
            "bundle": robot.bundle.manifest.name,
            "goals_tried": robot.errands.tried,
            "goals_reached": robot.errands.reached,
            "goals_confirmed": robot.goal_source.confirmed,
            **report.summary(),
            "engine": {name: f"{info.runtime} {info.precision}" for name, info in engines.items()},
            "integer_gemms": {name: info.integer_gemms for name, info in engines.items()},
            "serial": {name: getattr(telemetry.counts, name) for name in ("sent", "acked", "crc_errors", "dropped")},
            "firmware": telemetry.firmware,
            "memory": {"episodes": memory.episodes, "concepts": memory.concepts, "bytes": memory.bytes},
        }


class _Watcher:
    """Tells the person at the terminal what happens, arms when asked to, and ends the run in time."""

    def __init__(self, report: RunReport, stop: threading.Event, seconds: float | None, quiet: bool) -> None:
        self._report = report
        self._stop = stop
        self._seconds = seconds
        self._quiet = quiet
        self._began_ns: int | None = None
        self._said_ns = 0
        self._robot: Robot | None = None
        self._arming: threading.Thread | None = None

    def attend(self, robot: Robot, arm: bool, keep: bool) -> None:
        """Before the first tick. keep: arm it again after a fault."""
        self._robot = robot
        if not self._quiet:
            for note in robot.notes:
                print(note)
            if robot.dashboard is not None:
                print(f"status page: {robot.dashboard.login_url}", flush=True)
        if arm:
            self._arming = threading.Thread(target=self._arm, args=(robot, keep), name="arming", daemon=True)

    def observe(self, tick: Tick) -> None:
        """See :meth:`edge.robot.Robot`."""
        if self._began_ns is None:
            self._began_ns = self._said_ns = tick.started_ns
            if self._arming is not None:
                self._arming.start()
        if self._seconds is not None and tick.started_ns - self._began_ns >= self._seconds * NS_PER_S:
            self._stop.set()
        if self._quiet:
            return
        for event in tick.events:
            print(f"{event.kind:6} {event.detail}", flush=True)
        if tick.started_ns - self._said_ns >= 5 * NS_PER_S:
            self._said_ns = tick.started_ns
            print(
                f"       {tick.state.value}: {tick.reason}{self._todo(tick)}; {self._report.tick_hz:.1f} ticks/s{self._building()}",
                flush=True,
            )

    def _todo(self, tick: Tick) -> str:
        """What the person must do before the robot moves again."""
        if tick.state not in (RobotState.FAULT, RobotState.STOPPED):
            return ""
        served = self._robot is not None and self._robot.dashboard is not None
        return ": clear it and arm again on the page" if served else ": start again when it is mended"

    def _building(self) -> str:
        building = self._robot.building if self._robot is not None else None
        state = building.state if building is not None else None
        if state is None or not state.text:
            return ""
        return f"; {state.text}" if state.share is None else f"; {state.text}, {state.share:.0%}"

    def _arm(self, robot: Robot, keep: bool) -> None:
        """The person has said it on the command line; the robot is armed when it is healthy, or the run ends."""
        if arm_when_healthy(robot.supervisor, robot.clock, self._stop) and keep:
            keep_armed(robot.supervisor, self._stop)


def described(summary: dict[str, Any]) -> str:
    """The summary for people."""
    latency, overhead, serial = summary["camera_to_command_ms"], summary["overhead_ms"], summary["serial"]
    confirmed = "" if summary["goals_confirmed"] is None else f"; the true pose confirms {summary['goals_confirmed']}"
    return "\n".join(
        (
            f"{summary['robot']} with bundle {summary['bundle']} and {summary['firmware'] or 'no firmware'}",
            f"goals    {summary['goals_reached']} of {summary['goals_tried']} reached{confirmed}",
            f"ticks    {summary['ticks']} at {summary['tick_hz']:.2f} Hz, {summary['overruns']} missed",
            f"latency  camera to command {latency['p50']:.1f} ms at the median, {latency['p99']:.1f} ms at the 99th percentile",
            f"overhead {overhead['p50']:.2f} ms at the median, {overhead['p99']:.2f} ms at the 99th percentile",
            f"serial   {serial['sent']} sent, {serial['acked']} acknowledged, {serial['crc_errors']} CRC errors, "
            f"{serial['dropped']} dropped",
            f"memory   {summary['memory']['episodes']} episodes, {summary['memory']['concepts']} concepts",
        )
    )
