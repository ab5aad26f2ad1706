"""Figure: no random sequence of faults moves an axis that may not move, or an axis outside its limits."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.build import BOARDS, build
from firmware_bridge.host_firmware import FIRMWARE


@dataclass(frozen=True, slots=True)
class Figure:
    """sequences: how many were run. moved: in so many something moved. stopped: in so many a stop met an armed core.

    broken: the first property that did not hold, None if all did; the last sequence is the one.
    """

    sequences: int
    moved: int
    stopped: int
    broken: str | None


def measure(sequences: int, seed: int = 1, firmware: Path = FIRMWARE, board: str = "mixed") -> Figure:
    """Run so many sequences on a board. Raises BridgeError without a C compiler."""
    with tempfile.TemporaryDirectory() as folder:
        program = build("sequences", Path(folder), BOARDS[board], firmware=firmware)
        done = subprocess.run([str(program), str(sequences), str(seed)], capture_output=True, text=True)
    if done.returncode < 0:
        return Figure(0, 0, 0, "undefined behaviour")
    return Figure(**json.loads(done.stdout))


def main() -> int:
    """Drops, resets, replays, clock jumps, reorderings, bit flips, buttons and faults; the properties hold throughout."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.evidence.sequences", description=main.__doc__)
    parser.add_argument("--sequences", type=int, default=100_000, help="how many (default: a hundred thousand)")
    parser.add_argument("--board", choices=sorted(BOARDS), default="mixed", help="which axes (default: mixed)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    try:
        figure = measure(given.sequences, given.seed, board=given.board)
    except BridgeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    said = f"{figure.sequences:,} sequences, {figure.moved:,} moved, {figure.stopped:,} stopped"
    sys.stdout.write(f"{given.board}: {said}, broken: {figure.broken or 'none'}\n")
    return 0 if figure.broken is None else 1


if __name__ == "__main__":
    sys.exit(main())
