"""``bridge selftest``: does this very board stop when it has to? Asked with motors that turn, wheels off the ground."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from edge.bridge import proof
from edge.bridge.by_hand import STILL, ByHand
from edge.bridge.consent import WORD, permit
from edge.bridge.identity import Board, board_of, identity_of, talking_to
from edge.bridge.proof import Check
from edge.errors import UserError
from firmware_bridge.device import Device
from firmware_bridge.link import LinkLost
from firmware_bridge.messages import Arm, Code, Disarm, Estop, Mode, State, StopCause, text

MARGIN_MS = 20
"""Of a stop behind the end of a lease or command, in the device's own time."""
ESTOP_MS = 100
SLOW = 0.2
"""Share of the largest speed at which the wheels turn before they have to stop."""
OVERSHOOT = 1.1

_EXAMPLES = f"""examples:
  latentloop bridge selftest /dev/ttyACM0
  latentloop bridge selftest usb:2e8a:000a --json

THE WHEELS MUST BE OFF THE GROUND: they turn for some seconds, and once at full speed. Nothing moves before you have typed
{WORD}. Ctrl-C stops the motors. If all goes well, a proof for this board, firmware and limits is kept in the state folder; if
not, an older one is removed. Only wheels: joints are not tested.
exit codes: 0 all is proved, 1 something is not, 2 bad input or no answer, 130 ended by Ctrl-C
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge selftest``."""
    parser = subparsers.add_parser(
        "selftest",
        help="prove on the real board that it stops when it has to",
        description="Prove emergency stop, lease, command expiry and limits on a board with latentloop's firmware.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="port of the board, or latentloop:PORT?baud=N")
    parser.add_argument("--yes", action="store_true", help="do not ask; for simulated motors only")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    board = board_of(args.spec)
    if board is None:
        raise UserError(f"{args.spec} has no latentloop firmware, and only that can be tested: name the port of such a board")
    log = logging.getLogger("firmware_bridge")
    level = log.level
    log.setLevel(logging.ERROR)  # it would warn of every stop that is asked for here
    try:
        return _prove(board, args)
    finally:
        log.setLevel(level)


def _prove(board: Board, args: argparse.Namespace) -> int:
    with talking_to(board) as device:
        who = identity_of(device)
        _check_wheels(device)
    will = f"The axes {', '.join(who.axes)} of {who.firmware} will turn for some seconds, once at full speed."
    permit(who.firmware, will, args.yes)
    checks = []
    with talking_to(board) as device:  # a new session: nobody listened while the person was asked
        if identity_of(device) != who:
            raise UserError(f"another board is on {board.port} than a moment ago: start again")
        for check in examine(device):
            checks.append(check)
            if not args.json:
                print(f"{'proved' if check.passed else 'FAILED':8}{check.name:18}{check.found}; wanted: {check.wanted}", flush=True)
    passed = all(check.passed for check in checks)
    if passed:
        kept = str(proof.store(who, checks))
    else:
        proof.forget(who)
        kept = ""
    if args.json:
        report = {"uid": who.uid, "firmware": who.firmware, "limits_crc": f"{who.limits_crc:08x}", "passed": passed}
        print(json.dumps({**report, "proof": kept, "checks": [asdict(check) for check in checks]}, indent=2))
    elif passed:
        print(f"all is proved for board {who.uid}: {kept}")
    else:
        print("do not arm this board: see what has failed, and flash the firmware of this release", file=sys.stderr)
    return 0 if passed else 1


def examine(device: Device) -> Iterator[Check]:
    """One check after the other; however it ends, the motors are disarmed. Raises BridgeError and LinkLost."""
    hand = ByHand(device)
    slow = round(SLOW * min(axis.max_speed for axis in device.session.axes))
    try:
        hand.rest()
        yield unarmed(hand, slow)
        yield limits(hand)
        yield lease(hand, slow)
        yield command(hand, slow)
        yield estop(hand, slow)
    finally:
        with contextlib.suppress(LinkLost):
            hand.device.request(Disarm())  # and the lease is fed no more


def unarmed(hand: ByHand, slow: int) -> Check:
    """With a lease and commands, but without ARM."""
    hand.leased, hand.speed = True, slow
    hand.run(0.3)
    passed = bool(hand.reports) and hand.fastest() <= STILL and all(report.state != State.ACTIVE for report in hand.reports)
    found = f"{hand.fastest() / 1000:g} rad/s at most"
    hand.rest()
    return Check("unarmed", passed, found, "nothing turns without ARM")


def limits(hand: ByHand) -> Check:
    """Twice as fast as the limit of the fastest axis."""
    axes = hand.device.session.axes
    hand.arm()
    hand.speed = 2 * max(axis.max_speed for axis in axes)
    hand.run(0.4)
    everyone = (1 << len(axes)) - 1
    told = hand.newest.clamped == everyone
    tops = [max(abs(report.velocity[i]) for report in hand.reports) for i in range(len(axes))]
    within = all(top <= OVERSHOOT * axis.max_speed for top, axis in zip(tops, axes, strict=True))
    found = f"{', '.join(f'{top / 1000:g}' for top in tops)} rad/s, {'clamped' if told else 'not reported as clamped'}"
    hand.rest()
    wanted = ", ".join(f"{axis.max_speed / 1000:g}" for axis in axes)
    return Check("limits", told and within, found, f"clamped to {wanted} rad/s, 10 % for the motors")


def lease(hand: ByHand, slow: int) -> Check:
    """Commands go on, the lease is not fed any more."""
    _set_turning(hand, slow)
    hand.leased, hand.valid_ms = False, 1500
    return _stopped(hand, "lease", StopCause.LEASE_EXPIRED, lambda: hand.lease_us)


def command(hand: ByHand, slow: int) -> Check:
    """The lease goes on, commands do not."""
    _set_turning(hand, slow)
    hand.speed = None
    return _stopped(hand, "command expiry", StopCause.COMMAND_EXPIRED, lambda: hand.command_us)


def estop(hand: ByHand, slow: int) -> Check:
    """Stops at once and stays stopped, whatever comes after."""
    _set_turning(hand, slow)
    turned = hand.fastest()
    began_ns = time.monotonic_ns()
    for _ in range(3):
        hand.device.link.send(Estop(1), 0)
    stopped = hand.until(lambda: hand.state is State.ESTOP)
    took_ms = (hand.device.reports.received_ns - began_ns) / 1e6
    session = hand.device.session
    refused = hand.ask(Arm(session.limits_crc, session.boot_id)) == Code.LATCHED
    hand.run(0.2)  # with lease and commands
    stayed = hand.state is State.ESTOP and hand.until(hand.standing)
    cleared = stopped and hand.clear_estop()
    if cleared:
        hand.rest()
    passed = turned > STILL and stopped and took_ms <= ESTOP_MS and refused and stayed and cleared
    words = (f"after {took_ms:.1f} ms" if stopped else "not stopped", "ARM refused" if refused else "ARM NOT REFUSED")
    found = f"{words[0]}, {words[1]}, {'stayed off' if stayed else 'DID NOT STAY OFF'}"
    return Check("emergency stop", passed, found, f"within {ESTOP_MS} ms, latched")


def _set_turning(hand: ByHand, slow: int) -> None:
    hand.arm()
    hand.speed = slow
    hand.run(0.3)


def _stopped(hand: ByHand, name: str, cause: StopCause, due: Callable[[], int]) -> Check:
    """due: device time in us at which the stop has to begin."""
    turned = hand.fastest()
    stopped = hand.until(lambda: hand.state is not State.ACTIVE)
    first = next((report for report in hand.reports if report.state != State.ACTIVE), hand.newest)
    late_us = (first.t_us - due() + (1 << 31)) % (1 << 32) - (1 << 31)
    because = StopCause(first.stop_cause)
    still = hand.until(hand.standing)
    hand.rest()
    passed = turned > STILL and stopped and -MARGIN_MS <= late_us / 1000 <= MARGIN_MS and because is cause and still
    how = f"{late_us / 1000:+.1f} ms, {because.name.lower()}" if stopped else "not stopped"
    found = f"{how}{'' if still else ', STILL TURNING'}{'' if turned > STILL else ', but nothing had turned'}"
    return Check(name, passed, found, f"within {MARGIN_MS} ms of its end, by itself")


def _check_wheels(device: Device) -> None:
    """Raises UserError where a test would be no test, or would hurt."""
    for axis in device.session.axes:
        if axis.mode != Mode.VELOCITY:
            raise UserError(f"axis {text(axis.name)} on {device.where} is a joint, and only wheels can be tested: leave it out")
    if device.state in (State.ESTOP, State.FAULT):
        raise UserError(f"the board on {device.where} is in {device.state.name}: clear that, or restart it, and try again")
