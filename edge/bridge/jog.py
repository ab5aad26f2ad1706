"""``bridge jog``: turn one wheel for as long as a key is held."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator

from edge.bridge.consent import WORD, permit
from edge.bridge.gate import Unproved, arm
from edge.bridge.identity import axes_of, board_of, identity_of, talking_to
from edge.bridge.proof import why_not
from edge.errors import UserError
from firmware_bridge.controller import AxisMode, BridgeError, FirmwareState
from firmware_bridge.serial_controller import SerialController

SPEED = 1.0
"""rad/s, unless another is asked for."""
HELD_NS = 150_000_000
"""A key counts as held for so long after the terminal last said so."""
VALID_NS = 200_000_000
TURN_S = 0.02
WAYS = {b"w": 1.0, b"s": -1.0}

_EXAMPLES = f"""examples:
  latentloop bridge jog /dev/ttyACM0 left
  latentloop bridge jog /dev/ttyACM0 right --speed 3

THE WHEELS MUST BE OFF THE GROUND. Nothing moves before you have typed {WORD}. Then hold w for forward, s for backward. The wheel
turns only while the terminal repeats the key, and slows down {HELD_NS // 1_000_000} ms after the last time: so it halts once
between the first press and the first repetition. Any other key ends it, and so do Ctrl-C and a terminal that is closed.
A real board has to have passed 'latentloop bridge selftest' first.
exit codes: 0 ended by a key, 2 bad input or stopped by the firmware, 130 ended by Ctrl-C
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge jog``."""
    parser = subparsers.add_parser(
        "jog",
        help="turn one wheel while a key is held",
        description="Turn one wheel of a board with latentloop's firmware while a key is held.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="port of the board, or latentloop:PORT?baud=N")
    parser.add_argument("axis", metavar="AXIS", help="which wheel")
    parser.add_argument("--speed", type=float, default=SPEED, metavar="V", help=f"rad/s (default: {SPEED:g})")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    board = board_of(args.spec)
    if board is None:
        raise UserError(f"{args.spec} has no latentloop firmware, and only its wheels can be jogged: name the port of such a board")
    with talking_to(board) as device:
        who, axes, names = identity_of(device, board), device.describe(), axes_of(device)
    if args.axis not in names:
        raise UserError(f"there is no axis {args.axis} on {board.port}: its axes are {', '.join(names)}")
    number = names.index(args.axis)
    if axes[number].mode is not AxisMode.VELOCITY:
        raise UserError(f"axis {args.axis} on {board.port} is a joint, and only wheels can be jogged: name a wheel")
    most = axes[number].max_speed
    if not 0.0 < args.speed <= most:
        raise UserError(f"--speed {args.speed:g} is not within the limits of {args.axis}: give more than 0 and at most {most:g}")
    if why := why_not(who):
        raise Unproved(why)
    permit(who, f"{args.axis} will turn at {args.speed:g} rad/s while you hold w (forward) or s (backward).", absent=False)
    motors = SerialController(board.port, names, baud=board.baud)
    try:
        motors.connect()
        with keys_at_once() as terminal:
            _jog(motors, number, args.speed, terminal)
    finally:
        motors.close()
    print("\nended: the motors are disarmed", file=sys.stderr)
    return 0


@contextlib.contextmanager
def keys_at_once() -> Iterator[int]:
    """The terminal gives each key as it comes and shows none; as it was before, in every case. What was typed ahead is gone."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSAFLUSH)
    try:
        yield terminal
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def _jog(motors: SerialController, number: int, speed: float, terminal: int) -> None:
    """Until another key, or no terminal any more. Raises BridgeError when the firmware stops by itself."""
    motors.heartbeat(time.monotonic_ns() + VALID_NS, True)
    arm(motors)
    print("armed: hold w or s; any other key ends", file=sys.stderr, flush=True)
    heard = select.poll()
    heard.register(terminal, select.POLLIN)
    way, held_until_ns = 0.0, 0
    while motors.telemetry().state is FirmwareState.ACTIVE:
        if heard.poll(TURN_S * 1000):
            try:
                keys = os.read(terminal, 64)
            except OSError:
                return
            if not keys or any(bytes([key]) not in WAYS for key in keys):
                return
            way, held_until_ns = WAYS[keys[-1:]], time.monotonic_ns() + HELD_NS
        now_ns = time.monotonic_ns()
        targets = [0.0] * len(motors.axes)
        targets[number] = way * speed if now_ns < held_until_ns else 0.0
        motors.heartbeat(now_ns + VALID_NS, True)
        motors.send(targets, now_ns + VALID_NS)
    seen = motors.telemetry()
    raise BridgeError(f"the motors stopped by themselves ({seen.trouble or seen.stop_cause}): start again when it is mended")
