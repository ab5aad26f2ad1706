"""``bridge info``: all that a motor controller says of itself, without moving anything."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

from edge.bridge.identity import Board, board_of, identity_of, talking_to
from edge.bridge.proof import why_not
from firmware_bridge.controller import Axis, Identity, LinkCounts, Telemetry
from firmware_bridge.drivers.registry import make_controller

_EXAMPLES = """examples:
  latentloop bridge info /dev/ttyACM0
  latentloop bridge info 'latentloop:usb:2e8a:000a?baud=115200' --json
  latentloop bridge info 'feetech:/dev/ttyACM0?ids=1,2,3'

The port must be free. Whoever had the motors armed loses them: a new session stops them.
exit codes: 0 it answered, 2 it did not
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge info``."""
    parser = subparsers.add_parser(
        "info",
        help="what a motor controller says of itself",
        description="Identity, axes, limits, state, faults and counts of a motor controller.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="port of a board, or KIND:PORT?KEY=VALUE, as docs/drivers.md says")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    board = board_of(args.spec)
    found = of_controller(args.spec) if board is None else of_board(board)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for name, value in found.items():
        if name == "axes":
            for axis in value:
                print(
                    f"axis {axis['name']}: {axis['mode']}, {axis['low']:g} to {axis['high']:g} {axis['unit']}, "
                    f"speed {axis['max_speed']:g}, acceleration {axis['max_acceleration']:g}"
                )
        elif isinstance(value, dict):
            print(f"{name.replace('_', ' ')}: {', '.join(f'{key} {each}' for key, each in value.items())}")
        elif isinstance(value, list):
            print(f"{name.replace('_', ' ')}: {', '.join(map(str, value)) or 'none'}")
        else:
            print(f"{name.replace('_', ' ')}: {'not measured' if value is None else value}")
    return 0


def of_board(board: Board) -> dict[str, Any]:
    """Of latentloop's firmware. Raises BridgeError."""
    with talking_to(board) as device:
        who = identity_of(device, board)
        bound_ns = device.session.clock.error_bound_ns(time.monotonic_ns())
        return {
            **_who(who),
            "longest_lease_ms": device.session.lease_cap_us / 1000,
            "clock_error_bound_us": round(bound_ns / 1000, 1),
            **_seen(device.describe(), device.telemetry(LinkCounts(), "")),
        }


def of_controller(spec: str) -> dict[str, Any]:
    """Of any other controller. Raises BridgeError."""
    motors = make_controller(spec)
    try:
        motors.connect()
        seen = motors.telemetry()
        return {**_who(motors.identity()), **_seen(motors.describe(), seen)}
    finally:
        motors.close()


def _who(who: Identity) -> dict[str, Any]:
    return {
        "firmware": who.firmware,
        "uid": who.uid,
        "uid_is_unique": who.unique,
        "simulated": who.simulated,
        "limits_crc": who.limits,
        "may_be_armed": why_not(who) or "yes",
    }


def _seen(axes: tuple[Axis, ...], seen: Telemetry) -> dict[str, Any]:
    return {
        "state": seen.state.value,
        "faults": list(seen.faults),
        "stop_cause": seen.stop_cause,
        "supply_v": seen.health.supply_v,
        "temperature_c": list(seen.health.temperature_c),
        "axes": [{**asdict(axis), "mode": axis.mode.value} for axis in axes],
        "position": list(seen.position),
        "velocity": list(seen.velocity),
        "counts": asdict(seen.counts),
    }
