"""Figure: over so many steps of recorded lives the C core does what the Python reference did, bit for bit."""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.board import Board
from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.build import BOARDS, build
from firmware_bridge.evidence.life import BOOT, STARTS, AtRandom, Life
from firmware_bridge.host_firmware import FIRMWARE
from firmware_bridge.messages import Stats
from firmware_bridge.reference import Core, Identity

START, RECEIVE, TICK, FAULTS, BUTTON, MEASURE, TAKE, TASK = range(8)
NAME = "latentloop-test 0.1"
STEPS_OF_A_LIFE = 40


class Recorder:
    """A Python reference whose every step is written down, with what could be seen of it afterwards.

    record: the steps, as replay.c reads them.
    """

    def __init__(self, board: Board, now_us: int, reset_cause: int) -> None:
        who = Identity(BOOT, NAME, reset_cause)
        self.reference = Core(board, who, now_us)
        self.record = bytearray()
        self._write(START, struct.pack("<IB12s40s", BOOT, reset_cause, who.uid, NAME.encode()), now_us)

    def receive(self, data: bytes, now_us: int) -> None:
        self.reference.receive(data, now_us)
        self._write(RECEIVE, data, now_us)

    def tick(self, now_us: int) -> None:
        self.reference.tick(now_us)
        self._write(TICK, b"", now_us)

    def set_faults(self, present: int) -> None:
        self.reference.set_faults(present)
        self._write(FAULTS, struct.pack("<I", present))

    def press_estop(self) -> None:
        self.reference.estop()
        self._write(BUTTON)

    def measure(
        self, position: Sequence[int], velocity: Sequence[int], current: Sequence[int], supply_mv: int, temperature_dc: int
    ) -> None:
        core = self.reference
        core.position[:], core.velocity[:], core.current[:] = position, velocity, current
        core.supply_mv, core.temperature_dc = supply_mv, temperature_dc
        axes = zip(position, velocity, current, strict=True)
        self._write(MEASURE, struct.pack("<Hh", supply_mv, temperature_dc) + b"".join(struct.pack("<iih", *a) for a in axes))

    def run_task(self, task: int) -> None:
        self.reference.task_ran(task)
        self._write(TASK, bytes([task]), before=bytes([self.reference.watchdog_due()]))

    def take(self, most: int) -> bytes:
        said = bytes(self.reference.tx[:most])
        if said:
            self.reference.sent(len(said))
            self._write(TAKE, struct.pack("<H", len(said)))
        return said

    def _write(self, kind: int, given: bytes = b"", now_us: int = 0, before: bytes = b"") -> None:
        core = self.reference
        shown = [before, struct.pack("<BI", core.state, core.faults)]
        shown += [struct.pack("<Bii", *axis) for axis in zip(core.drives, core.outputs, core.speeds, strict=True)]
        shown += [Stats(**core.counters).pack(), struct.pack("<H", len(core.tx)), bytes(core.tx)]
        expected = b"".join(shown)
        self.record += struct.pack("<BIH", kind, now_us, len(given)) + given + struct.pack("<H", len(expected)) + expected


def record(lives: int, board: Board, seed: int = 1) -> bytes:
    """So many lives of the reference, for replay.c."""
    written = []
    for number in range(lives):
        choose = AtRandom(seed << 32 | number)
        start = choose.among(STARTS)
        recorder = Recorder(board, start, choose.among([0, 0, 0, 0, 1, 2]))
        life = Life(recorder, board, choose, start)
        for _ in range(choose.integer(1, STEPS_OF_A_LIFE)):
            life.step()
        written.append(bytes(recorder.record))
    return b"".join(written)


@dataclass(frozen=True, slots=True)
class Figure:
    """lives, steps: how many were replayed. differs: what was not the same in the last step, None if all was."""

    lives: int
    steps: int
    differs: str | None


def replay(program: Path, recorded: Path) -> Figure:
    """What the program replay.c makes of a record."""
    done = subprocess.run([str(program), str(recorded)], capture_output=True, text=True)
    if done.returncode < 0:
        return Figure(0, 0, "undefined behaviour")
    return Figure(**json.loads(done.stdout))


def measure(lives: int, seed: int = 1, firmware: Path = FIRMWARE, board: str = "full") -> Figure:
    """Record so many lives of a board and replay them. Raises BridgeError without a C compiler."""
    with tempfile.TemporaryDirectory() as folder:
        program = build("replay", Path(folder), BOARDS[board], firmware=firmware)
        recorded = Path(folder) / "record"
        recorded.write_bytes(record(lives, BOARDS[board], seed))
        return replay(program, recorded)


def main() -> int:
    """Honest and dishonest messages, noise, buttons, faults and measurements, at the times at which something is due."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.evidence.lockstep", description=main.__doc__)
    parser.add_argument("--lives", type=int, default=2_000, help="how many (default: two thousand)")
    parser.add_argument("--board", choices=sorted(BOARDS), default="full", help="which axes (default: full)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    try:
        figure = measure(given.lives, given.seed, board=given.board)
    except BridgeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    said = f"{figure.lives:,} lives, {figure.steps:,} steps"
    sys.stdout.write(f"{given.board}: {said}, differs: {figure.differs or 'nothing'}\n")
    return 0 if figure.differs is None else 1


if __name__ == "__main__":
    sys.exit(main())
