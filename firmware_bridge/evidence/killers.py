"""What may kill a mutant of the C core, the cheapest first: recorded lives, fault sequences, then the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.build import BOARDS, DRIVERS, HERE, TRAPPED, compile_all, link
from firmware_bridge.evidence.lockstep import record
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE

ROOT = Path(__file__).parents[2]
FOLDER_OF_TESTS = ROOT / "tests" / "firmware_bridge"
TESTS = ("test_safety.py", "test_motion.py", "test_framing.py")
SHIM = FOLDER_OF_TESTS / "shim.c"
OPTIONS = ("-O1", "-fPIC", *TRAPPED)
KILLERS = {"full": "replay", "rover": "replay", "mixed": "sequences"}
"""Boards that are compiled, and what they are given to do: between them they compile every line."""
LIVES = {"full": 600, "rover": 300}
SEQUENCES = 1000
CPU_S = {"program": 15, "tests": 120}
"""More processor time than a killer needs: a mutant that takes longer does not end."""
PLUGIN = """
from hypothesis import Phase, settings
settings.register_profile("mutants", database=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
def pytest_configure(config):
    settings.load_profile("mutants")
"""
"""No random inputs, and none made smaller: which test fails is enough."""


@dataclass(frozen=True, slots=True)
class Fate:
    """of: "killed", "survived", "same" or "invalid". by: who killed it.

    same: the compiler made the same machine code of it as of the original, so that nothing can tell them apart.
    invalid: does not compile.
    """

    of: str
    by: str = ""

    @property
    def needs_tests(self) -> bool:
        """Whether the tests had a say in it."""
        return self.of == "survived" or self.by == "tests"


class Killers:
    """Everything that does not depend on the mutant, made once. folder: is written to. Raises BridgeError without cc.

    lives: how many are replayed on each board.
    """

    def __init__(self, folder: Path, lives: Mapping[str, int] = LIVES) -> None:
        self._folder = folder
        self._objects: dict[str, dict[str, Path]] = {}
        for board, driver in KILLERS.items():
            here = folder / board
            here.mkdir()
            sources = [*(FIRMWARE / name for name in CORE_SOURCES), *(HERE / name for name in DRIVERS[driver])]
            if board in LIVES:
                sources.append(SHIM)
                (folder / f"{board}.record").write_bytes(record(lives[board], BOARDS[board]))
            made = compile_all(sources, here, BOARDS[board], FIRMWARE, OPTIONS)
            self._objects[board] = {source.name: object for source, object in zip(sources, made, strict=True)}
        (folder / "unhurried.py").write_text(PLUGIN)

    def fate(self, file: str, source: str) -> Fate:
        """What becomes of the core if a file of it reads like this."""
        with tempfile.TemporaryDirectory(dir=self._folder) as own:
            try:
                return self._fate(Path(own), file, source)
            except BridgeError:
                return Fate("invalid")

    def _fate(self, own: Path, file: str, source: str) -> Fate:
        same = source != (FIRMWARE / file).read_text()
        for board, driver in KILLERS.items():
            (own / board).mkdir()
            changed = own / board / file
            changed.write_text(source)
            (made,) = compile_all([changed], own / board, BOARDS[board], FIRMWARE, OPTIONS)
            same = same and made.read_bytes() == self._objects[board][file].read_bytes()
            program = link(self._parts(own, file, board, DRIVERS[driver]), own / board / driver)
            if not same and _fails(program, *self._given(board)):
                return Fate("killed", f"{driver} on {board}")
        if same:
            return Fate("same")
        for board in LIVES:
            link(self._parts(own, file, board, ("shim.c",)), own / f"{board}.so", (*TRAPPED, "-shared"))
        return Fate("survived") if tests_pass(own, self._folder) else Fate("killed", "tests")

    def _given(self, board: str) -> tuple[str, ...]:
        return (str(self._folder / f"{board}.record"),) if board in LIVES else (str(SEQUENCES), "1")

    def _parts(self, own: Path, file: str, board: str, more: Sequence[str]) -> list[Path]:
        objects = self._objects[board]
        changed = own / board / Path(file).with_suffix(".o").name
        return [changed if name == file else objects[name] for name in (*CORE_SOURCES, *more)]


def tests_pass(libraries: Path, plugins: Path) -> bool:
    """Run the tests of the C core with ready-made libraries. plugins: a folder with unhurried.py."""
    places = os.pathsep.join(filter(None, (str(ROOT), str(plugins), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "LATENTLOOP_CORE_LIBRARIES": str(libraries), "PYTHONPATH": places}
    tests = [str(FOLDER_OF_TESTS / name) for name in TESTS]
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "unhurried", "-p", "no:xdist", "-k", "not python"]
    return not _fails(Path(sys.executable), "-m", "pytest", *options, *tests, kind="tests", environment=environment)


def _fails(program: Path, *given: str, kind: str = "program", environment: dict[str, str] | None = None) -> bool:
    limited = ["sh", "-c", f'ulimit -t {CPU_S[kind]}; exec "$0" "$@"', str(program), *given]
    return subprocess.run(limited, capture_output=True, cwd=ROOT, env=environment).returncode != 0


def fingerprint(tests: bool) -> str:
    """Of the core and of what decides over a mutant, with the tests or without: so long results are of use."""
    names = ["build.py", "killers.py", "life.py", "lockstep.py", "random.h", "replay.c", "sequence.c", "sequence.h", "sequences.c"]
    paths = [*FIRMWARE.glob("*.[ch]"), *(ROOT / "firmware_bridge").glob("*.py"), *(HERE / name for name in names)]
    if tests:
        paths += [SHIM, *(FOLDER_OF_TESTS / name for name in (*TESTS, "conftest.py", "cores.py"))]
    digest = sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
