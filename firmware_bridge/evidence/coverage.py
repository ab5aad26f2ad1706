"""Figure: which lines of the C core are run by what holds it: recorded lives, fault sequences and the tests."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.build import BOARDS, DRIVERS, HERE, compile_all, link
from firmware_bridge.evidence.lockstep import record
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE

ROOT = Path(__file__).parents[2]
FOLDER_OF_TESTS = ROOT / "tests" / "firmware_bridge"
TESTS = ("test_framing.py", "test_safety.py", "test_motion.py", "test_lockstep.py")
OPTIONS = ("-O0", "-fPIC", "--coverage")
LIVES = {"full": 200, "rover": 100}
SEQUENCES = 1000


@dataclass(frozen=True, slots=True)
class File:
    """lines: how many hold code. uncovered: the numbers of those that never ran, counted from 1."""

    lines: int
    uncovered: tuple[int, ...]

    @property
    def covered(self) -> float:
        """0 to 1."""
        return 1.0 - len(self.uncovered) / self.lines


def measure(tests: Sequence[str] = TESTS, firmware: Path = FIRMWARE) -> dict[str, File]:
    """Build the core so that it counts its lines, run everything, and say what was run, by file.

    tests: files of tests/firmware_bridge to run too. Raises BridgeError without gcc and gcov, or if something fails.
    """
    if shutil.which("gcov") is None:
        raise BridgeError("there is no gcov on this machine, which counts lines: install gcc")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for board, drivers in {"full": ("replay",), "rover": ("replay",), "mixed": ("sequences",)}.items():
            (here / board).mkdir()
            sources = [firmware / name for name in CORE_SOURCES]
            core = compile_all(sources, here / board, BOARDS[board], firmware, OPTIONS, "gcc")
            for driver in drivers:
                own = here / board / driver
                own.mkdir()
                parts = compile_all([HERE / name for name in DRIVERS[driver]], own, BOARDS[board], firmware, compiler="gcc")
                program = link([*core, *parts], own / driver, OPTIONS, "gcc")
                _run(program, *_given(driver, board, here))
            if tests and board in LIVES:
                shim = compile_all([FOLDER_OF_TESTS / "shim.c"], here / board, BOARDS[board], firmware, ("-fPIC",), "gcc")
                link([*core, *shim], here / f"{board}.so", (*OPTIONS, "-shared"), "gcc")
        if tests:
            environment = {**os.environ, "LATENTLOOP_CORE_LIBRARIES": folder, "PYTHONPATH": str(ROOT)}
            options = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
            _run(Path(sys.executable), *options, *(str(FOLDER_OF_TESTS / name) for name in tests), environment=environment)
        return _read(here)


def _given(driver: str, board: str, folder: Path) -> tuple[str, ...]:
    if driver == "sequences":
        return str(SEQUENCES), "1"
    recorded = folder / f"{board}.record"
    recorded.write_bytes(record(LIVES[board], BOARDS[board]))
    return (str(recorded),)


def _run(program: Path, *given: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(program), *given], capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise BridgeError(f"{program.name} fails, make it pass before asking what it covers:\n{said}")


def _read(folder: Path) -> dict[str, File]:
    """What gcov makes of the counts: a line has run if it has on any board."""
    ran: dict[str, dict[int, bool]] = {name: {} for name in CORE_SOURCES}
    counts = [str(path) for path in folder.rglob("*.gcda")]
    command = ["gcov", "--json-format", "--stdout", *counts]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        raise BridgeError(f"gcov cannot read what this gcc counts: {done.stderr.strip()}")
    for text in filter(None, done.stdout.splitlines()):
        for file in json.loads(text)["files"]:
            lines = ran.get(Path(file["file"]).name, {})
            for line in file["lines"]:
                number = line["line_number"]
                lines[number] = lines.get(number, False) or line["count"] > 0
    return {
        name: File(len(lines), tuple(sorted(number for number, did in lines.items() if not did))) for name, lines in ran.items()
    }


def main() -> int:
    """Prints a table by file, with the numbers of the lines that never ran; exit code 0 only at 100 %."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.evidence.coverage", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args()
    try:
        files = measure()
    except BridgeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if given.json:
        sys.stdout.write(json.dumps({name: asdict(file) for name, file in files.items()}, indent=2) + "\n")
    else:
        for name, file in files.items():
            missing = " ".join(map(str, file.uncovered))
            sys.stdout.write(f"{name:14} {file.lines:4} lines  {file.covered:7.1%}  {missing}".rstrip() + "\n")
        lines, missed = sum(f.lines for f in files.values()), sum(len(f.uncovered) for f in files.values())
        sys.stdout.write(f"{'all':14} {lines:4} lines  {1 - missed / lines:7.1%}\n")
    return 1 if any(file.uncovered for file in files.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
