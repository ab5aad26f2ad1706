"""``bridge settings``: the limits and parameters of a board, to be looked at and set until it restarts."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

from edge.bridge.identity import PATIENCE_S, board_of, talking_to
from edge.errors import UserError
from firmware_bridge.board_settings import Setting, Value, read_settings
from firmware_bridge.exchange import Exchange

_EXAMPLES = """examples:
  latentloop bridge settings /dev/ttyACM0                                   all of them, with what the board takes
  latentloop bridge settings /dev/ttyACM0 --json
  latentloop bridge settings /dev/ttyACM0 left.speed=5 right.speed=5        until the board restarts
  latentloop bridge settings /dev/ttyACM0 lift.stop_policy=hold lease_cap_ms=200

Nothing can be set beyond what is compiled into the firmware: limits only tighten. The port must be free. Whoever had the motors
armed loses them: a new session stops them. With other limits a board has to pass 'latentloop bridge selftest' anew.
exit codes: 0 done, 2 it did not answer, or does not take that
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge settings``."""
    parser = subparsers.add_parser(
        "settings",
        help="list and set limits and parameters of a board",
        description="List the limits and parameters of a board with latentloop's firmware, and set them until it restarts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="port of the board, or latentloop:PORT?baud=N")
    parser.add_argument("given", nargs="*", metavar="NAME=VALUE", help="set these, as left.speed=5 (default: only list)")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    board = board_of(args.spec)
    if board is None:
        raise UserError(
            f"{args.spec} has no latentloop firmware: the limits of other controllers are keys of their spec (docs/drivers.md)"
        )
    wanted = wanted_of(args.given)
    with talking_to(board, settings=wanted) as device:
        session = device.session
        if not session.settled:
            raise UserError(
                f"{board.port} takes no settings now, its state is {device.state.name}: bring it to rest, or clear the stop first"
            )
        exchange = Exchange(device.link, board.port, time.monotonic_ns() + int(PATIENCE_S * 1e9))
        settings = read_settings(exchange, session.id, session.axes)
    if args.json:
        found = {
            "firmware": session.firmware,
            "boot_id": f"{session.boot_id:08x}",
            "limits_crc": f"{session.limits_crc:08x}",
            "settings": [asdict(setting) for setting in settings],
        }
        print(json.dumps(found, indent=2))
        return 0
    print(as_table(settings))
    print(f"\nlimits checksum {session.limits_crc:08x}; longest lease {session.lease_cap_us // 1000} ms")
    if wanted:
        print("set until the board restarts. To have them in force whenever the robot runs, put into the robot file:\n")
        print(as_toml(wanted))
    return 0


def wanted_of(given: Sequence[str]) -> dict[str, Value]:
    """NAME=VALUE, NAME=VALUE, ... Raises UserError."""
    wanted: dict[str, Value] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"{text!r} sets nothing: write it as NAME=VALUE, such as left.speed=5")
        if name in wanted:
            raise UserError(f"{name} is given twice: leave one")
        wanted[name] = _value(value)
    return wanted


def _value(text: str) -> Value:
    """A number where it is one; words are judged by the setting."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_table(settings: Sequence[Setting]) -> str:
    """A line each: name, value, what the board takes, meaning."""
    rows = [("setting", "value", "the board takes", "")]
    for each in settings:
        value = each.value if isinstance(each.value, str) else f"{each.value:.10g} {each.unit}"
        rows.append((each.name, value, each.range_text(), each.means))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, (*widths, 0), strict=True)).rstrip() for row in rows)


def as_toml(wanted: dict[str, Value]) -> str:
    """The same settings as a part of a robot file."""
    tables: dict[str, list[str]] = {}
    for name, value in wanted.items():
        axis, stop, key = name.rpartition(".")
        table = f"[bridge.limits.{_key(axis)}]" if stop else "[bridge.parameters]"
        tables.setdefault(table, []).append(f"{key} = {json.dumps(value)}")
    return "\n".join("\n".join((table, *lines)) for table, lines in tables.items())


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)
