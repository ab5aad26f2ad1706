"""``bridge scan``: the serial ports with a device on them, who has them open, and what answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.bridge.identity import Board, axes_of, identity_of, talking_to
from firmware_bridge.controller import BridgeError
from firmware_bridge.drivers.recognise import recognise
from firmware_bridge.port_holders import holders
from firmware_bridge.serial_controller import COMMON_BAUD
from firmware_bridge.usb_ports import PREFIX, device_of, plugged_in

ASK_S = 1.0

_EXAMPLES = """examples:
  latentloop bridge scan
  latentloop bridge scan --ask                    who is there? and the line for the robot file
  latentloop bridge scan --ask /dev/ttyTHS1       a port without a USB identity
  latentloop bridge scan --json

Without --ask no port is opened. With it, a port that another program has open is left alone. A free one is asked for latentloop's
firmware, and then in the words of Feetech, Dynamixel, VESC, RoboClaw, ODrive and Waveshare, each at its usual speeds and for 7 s in
all; MAVLink is only listened to. All of these questions only read. But a controller that takes bare bytes as speeds (a RoboClaw
or Sabertooth in simple serial mode, a sketch of your own) may take any byte for one: WHEELS OFF THE GROUND.
exit codes: 0 looked, 2 bad input
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """name: finds this port again. holders: programs that have it open. answer: who is there, or why nobody is known to be;
    empty if nobody asked. spec: what belongs into a robot file as ``bridge.port``, empty if nobody answers."""

    port: str
    name: str
    description: str
    holders: tuple[str, ...]
    answers: bool | None
    answer: str
    spec: str


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge scan``."""
    parser = subparsers.add_parser(
        "scan",
        help="list serial ports, who has them open and what answers",
        description="List the serial ports with a USB device on them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ports", nargs="*", metavar="PORT", help="look at these ports (default: those with a USB identity)")
    parser.add_argument("--ask", action="store_true", help="open free ports and ask who is there; wheels off the ground")
    parser.add_argument(
        "--baud", type=int, default=COMMON_BAUD, help=f"speed to ask latentloop's firmware with (default: {COMMON_BAUD})"
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    seen = scan(args.ports, args.ask, args.baud)
    if args.json:
        print(json.dumps([asdict(each) for each in seen], indent=2))
        return 0
    for each in seen:
        held = f"  in use by {', '.join(each.holders)}" if each.holders else ""
        print(f"{each.port}  {each.name}  {each.description}{held}".rstrip())
        if each.answer:
            print(f"    {each.answer}")
        if each.spec:
            print(f'    port = "{each.spec}"')
    if not seen:
        print("no serial port with a USB device on it: plug one in, or name a port, such as /dev/ttyTHS1")
    return 0


def scan(ports: Sequence[str], ask: bool, baud: int) -> list[Seen]:
    """ports: empty for all with a USB identity. Raises BridgeError for a port that is not there."""
    usb = {port.device: port for port in plugged_in()}
    found = []
    for name in ports or usb:
        port = device_of(name) if name.startswith(PREFIX) else name
        if "://" not in port and not Path(port).exists():
            raise BridgeError(f"there is no serial port {port}: name one that 'latentloop bridge scan' lists, or plug it in")
        known = usb.get(port)
        users = tuple(holders(port))
        identity, description = (known.name, known.description) if known else ("", "")
        lasting = identity if known and known.serial else port  # two boards without a serial number would share a name
        answers, answer, spec = _ask(Board(port, baud), users, lasting) if ask else (None, "", "")
        found.append(Seen(port, identity, description, users, answers, answer, spec))
    return found


def _ask(board: Board, users: tuple[str, ...], lasting: str) -> tuple[bool | None, str, str]:
    """lasting: the port, as a robot file should have it."""
    if users:
        return None, "not asked, because it is in use", ""
    try:
        with talking_to(board, timeout_s=ASK_S) as device:
            who, axes = identity_of(device, board), axes_of(device)
    except BridgeError as error:
        return _ask_others(board.port, str(error), lasting)
    spec = lasting if board.baud == COMMON_BAUD else f"latentloop:{lasting}?baud={board.baud}"
    return True, f"{who.firmware}, axes {', '.join(axes)}, board {who.uid}", spec


def _ask_others(port: str, not_ours: str, lasting: str) -> tuple[bool, str, str]:
    try:
        found = recognise(port)
    except BridgeError as error:
        return False, str(error), ""
    if found is None:
        return False, f"{not_ours}; no other make that is known answers either", ""
    return True, found.remark, found.spec(lasting)
