"""Puts a sketch for the Arduino tools together: ``python -m firmware_bridge.sketch FOLDER --board rover``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from firmware_bridge.board import BOARDS
from firmware_bridge.controller import BridgeError
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE

PORT = FIRMWARE / "ports" / "arduino"


def assemble(folder: Path, board: str) -> Path:
    """Write the sketch into folder/latentloop, which must not be there yet, and return its path.

    board: a key of :data:`~firmware_bridge.board.BOARDS`. Raises BridgeError.
    """
    sketch = folder / "latentloop"
    if board not in BOARDS:
        raise BridgeError(f"there is no board {board}: take one of {', '.join(BOARDS)}")
    files = [FIRMWARE / name for name in CORE_SOURCES]
    files += sorted(FIRMWARE.glob("*.h")) + sorted(path for path in PORT.iterdir() if path.is_file())
    try:
        sketch.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, sketch / file.name)
        shutil.copyfile(FIRMWARE / "boards" / board / "board.h", sketch / "board.h")
        shutil.copyfile(PORT / "pins" / f"{board}.h", sketch / "pins.h")
    except FileExistsError:
        raise BridgeError(f"{sketch} is there already: remove it or name another folder") from None
    except OSError as error:
        raise BridgeError(f"the sketch could not be written to {sketch}: {error.strerror}") from None
    return sketch


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge.sketch",
        description="Put the sketch for one board together.",
        epilog="example: python -m firmware_bridge.sketch build --board rover",
    )
    parser.add_argument("folder", type=Path, help="where the folder latentloop is made")
    parser.add_argument("--board", default="rover", help=f"what is driven: {', '.join(BOARDS)} (default: rover)")
    arguments = parser.parse_args()
    try:
        sketch = assemble(arguments.folder, arguments.board)
    except BridgeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{sketch}: edit pins.h, then see docs/flashing.md\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
