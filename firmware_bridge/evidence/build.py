"""Compiles the C core together with one of the drivers in this folder."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import tempfile
import threading
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
DRIVERS = {
    "corrupted": ("corrupted.c",),
    "sequences": ("sequences.c", "sequence.c"),
    "fuzz": ("fuzz.c", "sequence.c"),
}
"""Their sources, which lie beside this file."""
BOARDS = {"rover": ROVER, "arm": ARM, "mixed": MIXED}


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
    found = shutil.which(compiler)
    if found is None:
        raise BridgeError(f"there is no C compiler ({compiler}) on this machine: install one")
    (folder / "board.h").write_text(board_header(board))
    places = (folder, firmware, HERE)
    headers = b"".join(each.read_bytes() for place in places for each in sorted(place.glob("*.h")))
    command = [found, "-std=c99", "-g", *options, *(part for place in places for part in ("-I", str(place)))]
    sources = [*(HERE / name for name in DRIVERS[driver]), *(firmware / name for name in CORE_SOURCES)]
    known = hashlib.sha256(" ".join((found, *options)).encode() + headers).digest()
    objects = []
    for source in sources:
        object_file = Path(_objects().name) / f"{hashlib.sha256(known + source.read_bytes()).hexdigest()}.o"
        objects.append(str(object_file))
        if not object_file.exists():
            fresh = object_file.with_suffix(f".{threading.get_ident()}")
            _run([*command, "-c", str(source), "-o", str(fresh)], folder, driver, firmware)
            fresh.replace(object_file)
    program = folder / driver
    _run([*command, *objects, "-o", str(program)], folder, driver, firmware)
    return program


def _run(command: Sequence[str], folder: Path, driver: str, firmware: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise BridgeError(f"{driver}.c could not be compiled with the core in {firmware}: {said[0]}")


@functools.cache
def _objects() -> tempfile.TemporaryDirectory[str]:
    """What this process has compiled: a mutant differs from the core in one file of many."""
    return tempfile.TemporaryDirectory()
