"""``bridge selftest``: does this very controller stop when it has to? Asked with motors that move."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Protocol

from edge.bridge import proof
from edge.bridge.by_contract import ByContract
from edge.bridge.by_hand import ByHand
from edge.bridge.checks import examine
from edge.bridge.consent import RISK, WORD, accepts, permit
from edge.bridge.identity import Board, board_of, identity_of, talking_to
from edge.bridge.left_alone import left_alone
from edge.bridge.proof import Check
from edge.errors import UserError
from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState, Identity
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.servo_loop import ServoLoop

_EXAMPLES = f"""examples:
  latentloop bridge selftest /dev/ttyACM0
  latentloop bridge selftest usb:2e8a:000a --json
  latentloop bridge selftest 'feetech:/dev/ttyACM0?ids=1,2,3,4,5,6'     as the port stands in the robot file

WHEELS MUST BE OFF THE GROUND: they turn for some seconds, and once at full speed. JOINTS NEED ROOM: each goes slowly to the nearer
end of its range, and AN ARM FALLS when the emergency stop cuts its power, so support it. Nothing moves before you have typed
{WORD}. Ctrl-C stops the motors. If all goes well, a proof for this device, firmware and limits is kept in the state folder; if not,
an older one is removed. What the device cannot do, and what was not seen to move, is not proved: type {RISK} to have the robot
armed nevertheless. That is kept with your name.
exit codes: 0 proved, or taken upon yourself; 1 it is not; 2 bad input or no answer; 130 ended by Ctrl-C
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge selftest``."""
    parser = subparsers.add_parser(
        "selftest",
        help="prove on the real device that it stops when it has to",
        description="Prove emergency stop, lease, command expiry and limits on a motor controller. Without it, it is not armed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="port of a board, or KIND:PORT?KEY=VALUE, as docs/drivers.md says")
    parser.add_argument("--yes", action="store_true", help="do not ask; for simulated motors only")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    log = logging.getLogger("firmware_bridge")
    level = log.level
    log.setLevel(logging.ERROR)  # it would warn of every stop that is asked for here
    try:
        board = board_of(args.spec)
        subject: _Subject = _Firmware(board) if board is not None else _Driver(args.spec)
        return _prove(subject, args)
    finally:
        log.setLevel(level)


def _prove(subject: _Subject, args: argparse.Namespace) -> int:
    who, axes = subject.look()
    proof.check_writable()
    if not subject.untestable:
        permit(who, *_announced(who, axes), absent=args.yes)
    checks = []
    try:
        for check in subject.examine(who) if not subject.untestable else _left_out(subject.untestable):
            checks.append(check)
            if not args.json:
                word = "FAILED" if check.result == "failed" else check.result
                print(f"{word:12}{check.name:18}{check.found}; wanted: {check.wanted}", flush=True)
    except BridgeError:
        proof.forget(who)  # it may not have come to rest
        raise
    failed = any(check.result == "failed" for check in checks)
    unproved = [check for check in checks if check.result == "not proved"]
    accepted = not failed and bool(unproved) and not args.yes and accepts(who, unproved)
    if failed or (unproved and not accepted):
        proof.forget(who)
        kept = ""
    else:
        kept = str(proof.store(who, checks, accepted))
    if args.json:
        report = {**{name: getattr(who, name) for name in proof.FIELDS}, "passed": bool(kept), "accepted": accepted}
        print(json.dumps({**report, "proof": kept, "checks": [asdict(check) for check in checks]}, indent=2))
    elif kept:
        all_of_it = "taken upon yourself where it is not proved, else proved," if accepted else "all is proved"
        print(f"{all_of_it} for {who.firmware}, {who.uid}: {kept}")
    elif failed:
        print("do not arm this: see what has failed, and mend it or flash the firmware of this release", file=sys.stderr)
    else:
        print("not proved, and not taken upon yourself: it will not be armed", file=sys.stderr)
    return 0 if kept else 1


def _announced(who: Identity, axes: tuple[Axis, ...]) -> tuple[str, str]:
    """What will happen, and the warning."""
    names = ", ".join(axis.name for axis in axes)
    joints = [axis.mode is AxisMode.POSITION for axis in axes]
    will = f"The axes {names} of {who.firmware} will move for some seconds"
    warnings = []
    if not all(joints):
        will += ", wheels once at full speed"
        warnings.append("THE WHEELS MUST BE OFF THE GROUND")
    if any(joints):
        will += ", joints one by one to the nearer end of their range and beyond it, if nothing stops them"
        warnings.append("THE JOINTS NEED ROOM, AND THE ARM FALLS AT THE EMERGENCY STOP: SUPPORT IT")
    if who.kind not in ("", "latentloop"):
        will += ". At last the process that drives them is killed while they move"
    return f"{will}.", ". ".join(warnings)


def _left_out(why: str) -> Iterator[Check]:
    for name in sorted(proof.NEEDED | {proof.ALONE}):
        yield Check(name, "not proved", why, "a test, which nobody may make here")


class _Subject(Protocol):
    """What is examined. untestable: why it is not moved at all, known after look; empty where it may be."""

    untestable: str

    def look(self) -> tuple[Identity, tuple[Axis, ...]]:
        """Without moving anything. Raises UserError where a test would be no test, and BridgeError."""

    def examine(self, who: Identity) -> Iterator[Check]:
        """Raises UserError where it is not that device any more, and BridgeError."""


class _Firmware:
    """A board with latentloop's firmware, on the wire itself."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.untestable = ""

    def look(self) -> tuple[Identity, tuple[Axis, ...]]:
        with talking_to(self._board) as device:
            _check_state(FirmwareState(device.state.name.lower()), self._board.port)
            return identity_of(device, self._board), device.describe()

    def examine(self, who: Identity) -> Iterator[Check]:
        with talking_to(self._board) as device:  # a new session: nobody listened while the person was asked
            _check_same(identity_of(device, self._board), who)
            yield from examine(ByHand(device))


class _Driver:
    """Another make, through the contract."""

    def __init__(self, spec: str) -> None:
        self._spec, self._plain = spec, _as_positions(spec)
        self.untestable = ""

    def look(self) -> tuple[Identity, tuple[Axis, ...]]:
        motors = make_controller(self._plain)
        try:
            motors.connect()
            _check_state(motors.telemetry().state, self._spec)
            self.untestable = motors.untestable if isinstance(motors, ServoLoop) else ""
            return replace(motors.identity(), spec=self._spec), motors.describe()
        finally:
            motors.close()

    def examine(self, who: Identity) -> Iterator[Check]:
        motors = make_controller(self._plain)
        try:
            motors.connect()
            _check_same(replace(motors.identity(), spec=self._spec), who)
            yield from examine(ByContract(motors, self._spec))
            unprovable = motors.unprovable if isinstance(motors, ServoLoop) else ""
        finally:
            motors.close()
        yield left_alone(self._plain, unprovable)


def _as_positions(spec: str) -> str:
    """Joints that take velocities are examined by their positions, of which the ranges are."""
    return re.sub(r"(?<=[?&])command=velocity", "command=position", spec)


def _check_same(now: Identity, who: Identity) -> None:
    if now != who:
        raise UserError("another device answers than a moment ago: see what is plugged in, and start again")


def _check_state(state: FirmwareState, where: str) -> None:
    if state in (FirmwareState.ESTOP, FirmwareState.FAULT):
        raise UserError(f"the controller on {where} is in {state.name}: clear that, or restart it, and try again")
