"""Compiles the C core together with one of the drivers in this folder."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from firmware_bridge.board import ARM, ROVER, AxisLimits, Board, BoardAxis
from firmware_bridge.controller import BridgeError
from firmware_bridge.generate import board_header
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE
from firmware_bridge.messages import Mode, StopPolicy

HERE = Path(__file__).parent
TRAPPED = ("-fsanitize=undefined,bounds", "-fsanitize-undefined-trap-on-error", "-fno-sanitize-recover=all")
MIXED = Board(
    (
        BoardAxis("pan", Mode.POSITION, AxisLimits(3_000, 9_000, -1_500, 1_500), StopPolicy.HOLD),
        BoardAxis("belt", Mode.VELOCITY, AxisLimits(5_000, 50_000), StopPolicy.COAST),
    ),
    trajectory_points=6,
)
"""Both kinds of axis and a small trajectory buffer, which is soon full."""
FULL = Board(
    (
        BoardAxis("pan", Mode.POSITION, AxisLimits(3_000, 9_000, -1_500, 1_500), StopPolicy.HOLD),
        BoardAxis("belt", Mode.VELOCITY, AxisLimits(5_000, 50_000), StopPolicy.COAST, over_current_ma=2_000),
        BoardAxis("tilt", Mode.POSITION, AxisLimits(2_000, 30_000, -200, 900), StopPolicy.RELEASE, 300, 0, 400),
    ),
    trajectory_points=6,
    under_voltage_mv=6_000,
)
"""Two joints and a belt, with every measured fault compiled in."""
DRIVERS = {
    "corrupted": ("corrupted.c",),
    "sequences": ("sequences.c", "sequence.c"),
    "fuzz": ("fuzz.c", "sequence.c"),
    "replay": ("replay.c",),
}
"""Their sources, which lie beside this file."""
BOARDS = {"rover": ROVER, "arm": ARM, "mixed": MIXED, "full": FULL}


def build(
    driver: str,
    folder: Path,
    board: Board,
    *,
    firmware: Path = FIRMWARE,
    options: Sequence[str] = ("-O2", *TRAPPED),
    compiler: str = "cc",
) -> Path:
    """The program of one driver. Undefined behaviour ends it, unless options say otherwise. folder: is written to.

    firmware: where the sources of the core are. Raises BridgeError without a compiler or if something does not compile.
    """
    sources = [*(HERE / name for name in DRIVERS[driver]), *(firmware / name for name in CORE_SOURCES)]
    objects = [_object(source, board, firmware, options, compiler) for source in sources]
    return link(objects, folder / driver, options, compiler)


def compile_all(
    sources: Sequence[Path],
    folder: Path,
    board: Board,
    firmware: Path = FIRMWARE,
    options: Sequence[str] = ("-O2", *TRAPPED),
    compiler: str = "cc",
) -> list[Path]:
    """An object of each source, for a board, in folder. firmware: where the headers of the core are. Raises as build."""
    (folder / "board.h").write_text(board_header(board))
    includes = ("-I", str(folder), "-I", str(firmware), "-I", str(HERE))
    command = [found(compiler), "-std=c99", *options, *includes, "-c", *map(str, sources)]
    _run(command, folder, f"{sources[0].name} could not be compiled with the core in {firmware}")
    return [folder / source.with_suffix(".o").name for source in sources]


def link(objects: Sequence[Path], target: Path, options: Sequence[str] = TRAPPED, compiler: str = "cc") -> Path:
    """A program, or with -shared among the options a library. Raises as build."""
    command = [found(compiler), *options, *map(str, objects), "-o", str(target)]
    _run(command, target.parent, f"{target.name} could not be linked")
    return target


def found(tool: str) -> str:
    """Its path. Raises BridgeError where it is missing."""
    path = shutil.which(tool)
    if path is None:
        raise BridgeError(f"there is no C compiler ({tool}) on this machine: install one")
    return path


def _run(command: Sequence[str], folder: Path, failed: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise BridgeError(f"{failed}: {said[0]}")


def _object(source: Path, board: Board, firmware: Path, options: Sequence[str], compiler: str) -> Path:
    """What compile_all makes of one source, or made before in this process: firmwares with a planted bug differ in one of many."""
    headers = [each.read_bytes() for place in (firmware, HERE) for each in sorted(place.glob("*.h"))]
    said = "\0".join((compiler, *options, board_header(board))).encode()
    known = hashlib.sha256(b"\0".join((said, *headers, source.read_bytes()))).hexdigest()
    kept = Path(_objects().name) / f"{known}.o"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=_objects().name) as folder:
            (made,) = compile_all([source], Path(folder), board, firmware, options, compiler)
            made.replace(kept)
    return kept


@functools.cache
def _objects() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
