"""``bridge monitor``: what a motor controller measures, as it comes, without moving anything."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from edge.bridge.identity import axes_of, board_of, talking_to
from firmware_bridge.controller import Axis, MotorController, Telemetry
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.serial_controller import SerialController

EVERY_S = 0.1

_EXAMPLES = """examples:
  latentloop bridge monitor /dev/ttyACM0                     one line, ten times a second; Ctrl-C ends
  latentloop bridge monitor /dev/ttyACM0 --json > log.jsonl
  latentloop bridge monitor 'feetech:/dev/ttyACM0?ids=1,2,3' --seconds 5

The port must be free. Turn a wheel by hand to see which one it is: nothing is armed. A cable that is pulled shows as offline, and
the link comes back with the cable.
exit codes: 0 ended by Ctrl-C or in time, 2 it did not answer
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge monitor``."""
    parser = subparsers.add_parser(
        "monitor",
        help="watch what a motor controller measures",
        description="Print state, positions and speeds of a motor controller as they come.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="port of a board, or KIND:PORT?KEY=VALUE, as docs/drivers.md says")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="S", help="end after that time (default: Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="a line of JSON each time")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    motors = _motors(args.spec)
    same_line = not args.json and sys.stdout.isatty()
    end = time.monotonic() + args.seconds
    try:
        motors.connect()
        axes = motors.describe()
        while time.monotonic() < end:
            seen = motors.telemetry()
            line = as_json(axes, seen) if args.json else in_words(axes, seen)
            print(f"\r\x1b[K{line}" if same_line else line, end="" if same_line else "\n", flush=True)
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        pass  # the one way to end it
    finally:
        motors.close()
        if same_line:
            print()
    return 0


def in_words(axes: Sequence[Axis], seen: Telemetry) -> str:
    """One line; empty tuples of a controller that is offline leave their axes out."""
    words = [seen.state.value]
    for axis, position, velocity in zip(axes, seen.position, seen.velocity, strict=False):
        words.append(f"{axis.name} {position:+.3f} {velocity:+.3f}/s")
    if seen.health.supply_v is not None:
        words.append(f"{seen.health.supply_v:.1f} V")
    words += [", ".join(seen.faults)] if seen.faults else []
    words += [seen.trouble] if seen.trouble else []
    return "  ".join(words)


def as_json(axes: Sequence[Axis], seen: Telemetry) -> str:
    return json.dumps(
        {
            "measured_ns": seen.measured_ns,
            "state": seen.state.value,
            "axes": [axis.name for axis in axes],
            "position": seen.position,
            "velocity": seen.velocity,
            "current": seen.current,
            "supply_v": seen.health.supply_v,
            "temperature_c": seen.health.temperature_c,
            "faults": seen.faults,
            "stop_cause": seen.stop_cause,
            "trouble": seen.trouble,
            "counts": asdict(seen.counts),
        }
    )


def _motors(spec: str) -> MotorController:
    """A board's axes are taken as they are. Raises BridgeError."""
    board = board_of(spec)
    if board is None:
        return make_controller(spec)
    with talking_to(board) as device:
        names = axes_of(device)
    return SerialController(board.port, names, baud=board.baud)
