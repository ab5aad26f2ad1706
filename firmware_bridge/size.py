"""How large the C core is on a Cortex-M0 and an AVR: ``python -m firmware_bridge.size`` builds it and prints a table."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from firmware_bridge.board import BOARDS, Board
from firmware_bridge.generate import board_header
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE

COMPILERS = ("clang-14", "clang")
AVR_COMPILER = "avr-gcc"
FLAGS = ("-Os", "-ffreestanding", "-fno-common", "-std=c99", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, slots=True)
class Processor:
    """flags: for its compiler. constants_in_ram: an AVR reads ordinary constants from RAM only."""

    name: str
    flags: tuple[str, ...]
    constants_in_ram: bool = False


CORTEX_M0 = Processor("Cortex-M0", ("--target=thumbv6m-none-eabi", "-mcpu=cortex-m0", "-fno-unwind-tables"))
AVRS = tuple(Processor(name, (f"-mmcu={name}",), constants_in_ram=True) for name in ("atmega328p", "atmega2560"))


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes. flash: code and constants of all files, without the compiler's own library. ram: of one fb_core, and of the
    constants where the processor needs them there; the stack comes on top."""

    flash: int
    ram: int


def compiler() -> str | None:
    """A clang that can build for ARM; None if there is none."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def measure(board: Board, with_compiler: str, processor: Processor = CORTEX_M0) -> Size:
    """Build the core for a board, warnings being errors. Raises subprocess.CalledProcessError if it does not compile."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "board.h").write_text(board_header(board))
        (here / "ram.c").write_text('#include "core.h"\nfb_core core;\n')
        sections: dict[str, int] = {}
        for source in (*(FIRMWARE / name for name in CORE_SOURCES), here / "ram.c"):
            built = here / "out.o"
            command = [with_compiler, *processor.flags, *FLAGS, "-I", str(FIRMWARE), "-I", folder]
            command += ["-c", str(source), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True)
            for name, size in _allocated(built.read_bytes()):
                sections[name] = sections.get(name, 0) + size
    sections.pop(".ARM.exidx", None)  # for C++ exceptions; linker scripts of firmware leave it out
    ram = sections.pop(".bss", 0) + sections.pop(".data", 0)
    if processor.constants_in_ram:
        ram += sum(size for name, size in sections.items() if name.startswith(".rodata"))
    return Size(sum(sections.values()), ram)


def _allocated(elf: bytes) -> list[tuple[str, int]]:
    """Names and sizes of the sections of a 32-bit little-endian ELF file that end up in memory."""
    at, each, count, names = (int.from_bytes(elf[i : i + n], "little") for i, n in ((32, 4), (46, 2), (48, 2), (50, 2)))
    headers = [[int.from_bytes(elf[at + each * k + 4 * j :][:4], "little") for j in range(6)] for k in range(count)]
    text = headers[names][4]
    found = []
    for name, _, flags, _, _, size in headers:
        if flags & 2:  # SHF_ALLOC
            end = elf.index(b"\0", text + name)
            found.append((elf[text + name : end].decode(), size))
    return found


def table() -> str:
    """The sizes of all boards, each with and without a trajectory buffer, as Markdown; AVR where there is a compiler."""
    clang, avr = compiler(), shutil.which(AVR_COMPILER)
    if clang is None:
        raise SystemExit("there is no clang on this machine: install clang-14")
    built = [(CORTEX_M0, clang)] + [(processor, avr) for processor in AVRS if avr is not None]
    lines = ["| processor | board | axes | points of a trajectory | flash | RAM |", "|---|---|---|---|---|---|"]
    for processor, with_compiler in built:
        for name, board in BOARDS.items():
            for points in sorted({0, board.trajectory_points}):
                size = measure(replace(board, trajectory_points=points), with_compiler, processor)
                row = (processor.name, name, len(board.parts), points, f"{size.flash} B", f"{size.ram} B")
                lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
