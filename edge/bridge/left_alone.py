"""What a motor controller does when the computer dies: seen by letting a process drive, and killing it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time

from edge.bridge.by_contract import ByContract
from edge.bridge.checks import slowly
from edge.bridge.hand import MOVED
from edge.bridge.proof import ALONE, Check
from firmware_bridge.controller import BridgeError
from firmware_bridge.drivers.registry import make_controller

START_S = 30.0
WAIT_S = 4.0
"""For so long the motors are left alone. What goes on for half of that counts as not stopped."""
BEFORE_S = 0.4
"""For so long they have come up to speed when it is looked at; as long again, and the process is killed."""
NOT_SEEN = "it was not seen to move, so it was not seen to stop"
WANTED = f"within {WAIT_S / 2:g} s, by itself"


def left_alone(spec: str, unprovable: str) -> Check:
    """The port must be free. Afterwards the motors are at rest, however it ends. Raises BridgeError."""
    if unprovable:
        return Check(ALONE, "not proved", unprovable, WANTED)
    try:
        said = _killed(spec)
        time.sleep(WAIT_S)
    finally:
        motors = make_controller(spec)  # connecting brings to a stand whatever still moves
        try:
            motors.connect()
            at = motors.telemetry().position
        finally:
            motors.close()
    (began_s, begin), (ended_s, end) = said[0], said[-1]
    gone = [abs(now - then) for now, then in zip(at, end, strict=True)]
    moved = [abs(there - here) > MOVED for here, there in zip(begin, end, strict=True)]
    speeds = [abs(there - here) / (ended_s - began_s) for here, there in zip(begin, end, strict=True)]
    within = [far <= MOVED + speed * WAIT_S / 2 for far, speed in zip(gone, speeds, strict=True)]
    found = ", ".join(f"{far:.3f}" for far in gone) + " further"
    if not all(within):
        return Check(ALONE, "failed", f"{found}: IT GOES ON WITHOUT THE COMPUTER", WANTED)
    return Check(ALONE, "proved" if all(moved) else "not proved", found if all(moved) else NOT_SEEN, WANTED)


def _killed(spec: str) -> list[tuple[float, list[float]]]:
    """Let a process drive and kill it in full motion. Times in s, and where the motors were then, from when they had come up to
    speed to the last word. Raises BridgeError."""
    words = [sys.executable, "-m", "edge.bridge.left_alone", spec]
    heard: list[tuple[float, list[float]]] = []
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            end = time.monotonic() + START_S
            while True:
                ready = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]
                line = process.stdout.readline() if ready else ""
                if not line:
                    raise BridgeError("the process that was to drive the motors did not begin: try again")
                said = json.loads(line)
                if "refused" in said:
                    raise BridgeError(said["refused"])
                heard.append((said["at_s"], said["position"]))
                if heard[-1][0] - heard[0][0] >= 2 * BEFORE_S:
                    break
        finally:
            process.kill()
    return [each for each in heard if each[0] - heard[0][0] >= BEFORE_S]


def drive(spec: str) -> None:
    """Slowly, until killed; a line of JSON on standard output at every turn. Ends by itself when nobody reads it, or after 30 s."""
    motors = make_controller(spec)
    try:
        motors.connect()
        hand = ByContract(motors, spec)
        hand.begin(slowly(hand, 1))
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            hand.turn()
            print(json.dumps({"at_s": hand.newest.at / 1e9, "position": hand.newest.position}), flush=True)
    except BridgeError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
    finally:
        with contextlib.suppress(BridgeError):
            motors.close()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        try:
            drive(sys.argv[1])
        except (BrokenPipeError, KeyboardInterrupt):
            os._exit(1)
