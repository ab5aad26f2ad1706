"""``calibrate motors``: latency, dead band, sign, gain and limits of each axis, measured through the bridge."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from calibration.axis import AxisUnderTest
from calibration.axis_found import Found
from calibration.motion import Mover
from calibration.motors_report import as_json, beside_planted, entry, in_words
from calibration.progress import terminal_line
from calibration.robot_file import check_writable, write_axes
from edge import bundle as bundles
from edge import worlds
from edge.bridge.consent import WORD, permit
from edge.bridge.gate import Unproved
from edge.bridge.proof import why_not
from edge.bundle import Action
from edge.clock import MonotonicClock
from edge.config import RobotConfig, beside_port, load_config
from edge.demo import World
from edge.errors import UserError
from edge.worlds.folder import short_parent
from edge.worlds.wheels import load_wheels
from firmware_bridge.controller import AxisMode, Identity, MotorController
from firmware_bridge.drivers import spec as specs
from firmware_bridge.drivers.registry import foreign, make_controller
from firmware_bridge.process.controller import ProcessController

MOST_REPORTS_HZ = 200.0
REPORT_BYTES = 64
WORN = Path(worlds.__file__).parent / "worn_wheels.toml"

_DEMO_ROBOT = """# The robot file of the demo.
name = "Rover with worn wheels (simulated)"
bundle = "rover"

[camera]
source = "world:frames"

[bridge]
port = "motors" # of the simulated world
lease_ms = 250
"""

_EXAMPLES = f"""examples:
  latentloop calibrate motors robot.toml                    all axes, about 25 s each
  latentloop calibrate motors robot.toml --axis left
  latentloop calibrate motors robot.toml --port /dev/ttyACM1
  latentloop calibrate motors --demo                        on a simulated rover with worn wheels

THE WHEELS MUST BE OFF THE GROUND: each axis turns both ways, up to the largest speed that firmware and bundle allow.
Nothing moves before you have typed {WORD}. Ctrl-C stops the motors, and so does anything that is not as it should be. The robot
file is changed at the very end; the old one is kept beside it. docs/calibrate_motors.md says what is done in which order.
exit codes: 0 measured and written, 2 bad input or not certain, and then nothing is written, 130 ended by Ctrl-C
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``calibrate motors``."""
    parser = subparsers.add_parser(
        "motors",
        help="measure sign, dead band, gain, latency and limits of a robot's motors",
        description="Measure a robot's motors, and write into its file what the runtime needs to drive them right.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("robot", type=Path, nargs="?", metavar="ROBOT.toml", help="the robot's configuration")
    parser.add_argument("--port", help="serial port (default: that of the robot file)")
    parser.add_argument("--axis", action="append", metavar="NAME", help="only this axis; may be given again (default: all)")
    parser.add_argument("--yes", action="store_true", help="do not ask; for simulated robots only")
    parser.add_argument("--demo", action="store_true", help="on a simulated rover with worn wheels, of which nothing is kept")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, write and report. Raises UserError or BridgeError, and then nothing was written."""
    if args.demo == (args.robot is not None):
        raise UserError("calibrate motors wants a robot file or --demo, one of the two: see --help")
    if args.demo and args.port is not None:
        raise UserError("--demo brings its own motors: leave --port out, or give a robot file")
    log = logging.getLogger("firmware_bridge")
    level = log.level
    log.setLevel(logging.ERROR)  # what it would warn of ends the calibration, in one sentence
    try:
        return _calibrate(args.robot, args) if not args.demo else _demonstrate(args)
    finally:
        log.setLevel(level)


def _demonstrate(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="latentloop-motors-", dir=short_parent()) as name, World(Path(name), wheels=WORN):
        robot = Path(name) / "robot.toml"
        robot.write_text(_DEMO_ROBOT)
        args.yes = True
        return _calibrate(robot, args)


def _calibrate(robot: Path, args: argparse.Namespace) -> int:
    config = load_config(robot)
    check_writable(robot)
    base = robot.resolve().parent
    actions = _actions(config, base, args.axis)
    person = Person(args.yes)
    progress = terminal_line()
    now = datetime.now(timezone.utc)
    try:
        with connected(config, args.port or beside_port(base, config.bridge.port), [a.name for a in actions]) as motors:
            who = motors.identity()
            if why := why_not(who):
                raise Unproved(why)
            chosen = list(dict.fromkeys(args.axis or motors.axes))
            person.permit(who, chosen)
            found = measure(motors, config, actions, chosen, None if args.yes else person.saw_forward, progress)
    except KeyboardInterrupt:
        progress("")  # before anything else is said
        print("stopped: the motors are disarmed, nothing was written", file=sys.stderr)
        raise
    finally:
        progress("")
    measured = f"{now:%Y-%m-%d %H:%M} UTC, {who.firmware}, wheels off the ground"
    kept = write_axes(robot, {each.name: entry(each, measured) for each in found}, f"{now:%Y%m%dT%H%M%S}")
    if args.json:
        axes = {each.name: as_json(each) for each in found}
        files = {} if args.demo else {"file": str(robot), "kept": str(kept)}
        print(json.dumps({"measured": measured, "axes": axes, **files}, indent=2))
        return 0
    for each in found:
        print(in_words(each))
    if args.demo:
        print("\n" + beside_planted(found, dict(zip(("left", "right"), load_wheels(WORN), strict=True))))
    else:
        print(f"written to {robot}, and used from the next start; the file as it was: {kept}")
    return 0


@contextlib.contextmanager
def connected(config: RobotConfig, port: str, names: Sequence[str]) -> Iterator[MotorController]:
    """The motors, driven as ``latentloop run`` does, with reports as often as the line can carry; disarmed and closed in every
    case. port: of a board with latentloop's firmware. Raises UserError, BridgeError."""
    if foreign(port) is not None:
        raise UserError(
            f"calibrate motors measures boards with latentloop's firmware, and {port} is another controller: tune that with its "
            "maker's tool"
        )
    baud = specs.parse(port).integer("baud", config.bridge.baud, 9600, 4_000_000)
    drive = ProcessController if config.bridge.own_process else make_controller
    motors: MotorController = drive(
        port,
        tuple(names),
        baud=baud,
        lease_s=config.bridge.lease_ms / 1000,
        state_hz=max(1.0, min(MOST_REPORTS_HZ, 0.5 * baud / 10 / REPORT_BYTES)),
        settings=config.bridge.settings,
    )
    try:
        motors.connect()
        yield motors
    finally:
        motors.close()


def measure(
    motors: MotorController,
    config: RobotConfig,
    actions: Sequence[Action],
    chosen: Sequence[str],
    asked: Callable[[str], bool] | None,
    progress: Callable[[str], None],
) -> list[Found]:
    """The chosen axes, one after the other. Raises Doubt or BridgeError."""
    axes = motors.describe()
    if joints := [axis.name for axis in axes if axis.mode is not AxisMode.VELOCITY]:
        raise UserError(f"{', '.join(joints)} is a joint, and only wheels can be calibrated: leave it as it is")
    tops = [min(axis.max_speed, -action.low, action.high) for axis, action in zip(axes, actions, strict=True)]
    mover = Mover(motors, MonotonicClock(), tops, config.bridge.lease_ms * 1_000_000)
    found = []
    for name in chosen:
        axis = motors.axes.index(name)
        under_test = AxisUnderTest(mover, axis, name, tops[axis], axes[axis].max_acceleration, asked, progress)
        found.append(under_test.measure())
    return found


def _actions(config: RobotConfig, base: Path, chosen: Sequence[str] | None) -> tuple[Action, ...]:
    """The axes of the robot's bundle, in the controller's order. Raises UserError."""
    manifest = bundles.load_beside(base, config.bundle).manifest
    if not manifest.actions:
        raise UserError(f"bundle {manifest.name!r} moves nothing, so there are no motors to calibrate: give a robot's file")
    names = [action.name for action in manifest.actions]
    for name in chosen or ():
        if name not in names:
            raise UserError(f"--axis {name} is no axis of bundle {manifest.name!r}: its axes are {', '.join(names)}")
    for action in manifest.actions:
        if not action.low < 0.0 < action.high:
            raise UserError(
                f"axis {action.name} of bundle {manifest.name!r} goes from {action.low:g} to {action.high:g}, and only axes that "
                "turn both ways can be calibrated: leave it as it is"
            )
    return manifest.actions


@dataclass(frozen=True, slots=True)
class Person:
    """Who stands beside the robot. absent: nobody, which only a simulated robot may have."""

    absent: bool

    def permit(self, who: Identity, axes: Sequence[str]) -> None:
        """Say what will happen and wait for the word. Raises UserError without it."""
        permit(
            who,
            f"The axes {', '.join(axes)} will turn one after the other, both ways and up to full speed, for about 25 s each. "
            "Ctrl-C stops at any time.",
            absent=self.absent,
        )

    def saw_forward(self, axis: str) -> bool:
        """After a movement: which way was it? Raises UserError if nobody answers."""
        print(f"\n{axis} has just turned, and is disarmed.", file=sys.stderr)
        while True:
            answer = _asked("Did it turn as when driving forward (f) or backward (b)? It turns again after your answer: ").lower()
            if answer in ("f", "forward", "b", "backward"):
                return answer.startswith("f")


def _asked(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise UserError("nobody answered, so the calibration ended: the motors are disarmed and nothing was written")
    return answer.strip()
