"""Starts the firmware as a process on this machine: compiled from C where there is a compiler, in Python elsewhere."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from firmware_bridge import reference_process
from firmware_bridge.board import BOARDS
from firmware_bridge.controller import BridgeError

log = logging.getLogger(__name__)

FIRMWARE = Path(__file__).parent / "firmware"
Kind = Literal["c", "python"]
CORE_SOURCES = (
    "core.c", "faults.c", "frame.c", "handlers.c", "layout.c", "link.c", "motion.c", "settings.c", "trajectory.c",
)  # fmt: skip
"""The portable part, for every board and port."""
SOURCES = (*CORE_SOURCES, "ports/host/main.c")
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra")
START_TIMEOUT_S = 10.0


class HostFirmware:
    """A running firmware process.

    port: path of its serial line. kind: "c" or "python". firmware: name and version. pid: of the process.
    """

    def __init__(self, process: subprocess.Popen[str], port: str, kind: Kind, firmware: str) -> None:
        self._process = process
        self.port = port
        self.kind = kind
        self.firmware = firmware
        self.pid = process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, as pulling its plug would. Safe to call twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def start(
    plant: Path | None = None,
    link: Path | None = None,
    with_parent: bool = True,
    prefer: Kind = "c",
    board: str = "rover",
) -> HostFirmware:
    """Start a firmware and wait until its port is there.

    plant: socket to connect to (see :mod:`firmware_bridge.plant`), None for ideal encoders. link: a symbolic link to
    put to the port. with_parent: it ends when this process ends. prefer: "c" or "python"; without a working C compiler
    it is Python in any case. board: a key of :data:`~firmware_bridge.board.BOARDS`.
    Blocks: up to some seconds when the C firmware has to be compiled. Raises BridgeError.
    """
    command, kind = _command(prefer, plant, link, os.getpid() if with_parent else None, board)
    environment = dict(os.environ)
    root = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C ends the host; the firmware goes on and stops the motors, as a board would
    )
    firmware = HostFirmware(process, "", kind, "")
    assert process.stdout is not None and process.stderr is not None
    ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        said = process.stderr.read().strip().splitlines()
        firmware.close()
        raise BridgeError(f"the host firmware did not start: {said[-1] if said else 'it said nothing'}")
    hello = json.loads(line)
    firmware.port, firmware.firmware = hello["port"], hello["firmware"]
    return firmware


def build(board: str = "rover") -> Path:
    """The compiled firmware, from the cache if its sources are unchanged.

    Raises BridgeError, with the reason, where there is no compiler or it fails.
    """
    digest = hashlib.sha256(" ".join((board, *FLAGS)).encode())
    for file in sorted(FIRMWARE.rglob("*.[ch]")):
        digest.update(file.relative_to(FIRMWARE).as_posix().encode() + b"\0" + file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentloop"
    binary = cache / f"firmware-{digest.hexdigest()[:16]}" / "firmware"
    if binary.exists():
        return binary
    compiler = shutil.which("cc")
    if compiler is None:
        raise BridgeError("there is no C compiler (cc) on this machine: install one to run the C firmware")
    fresh = binary.with_name(f"firmware.{os.getpid()}.{time.monotonic_ns()}")
    includes = ("-I", str(FIRMWARE), "-I", str(FIRMWARE / "boards" / board))
    try:
        binary.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [compiler, *FLAGS, *includes, *(str(FIRMWARE / source) for source in SOURCES), "-o", str(fresh)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["no reason given"]
            raise BridgeError(f"the C firmware could not be compiled by {compiler}: {said[0]}")
        fresh.replace(binary)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BridgeError(f"the C firmware could not be compiled into {binary.parent}: {error}") from None
    return binary


def _command(
    prefer: Kind, plant: Path | None, link: Path | None, parent: int | None, board: str
) -> tuple[list[str], Kind]:
    options = ["--id", os.urandom(4).hex()]
    for name, value in (("--plant", plant), ("--link", link), ("--with-parent", parent)):
        if value is not None:
            options += [name, str(value)]
    if prefer == "c":
        try:
            return [str(build(board)), *options], "c"
        except BridgeError as error:
            log.warning("%s; the Python reference firmware stands in", error)
    return [sys.executable, "-m", "firmware_bridge.host_firmware", "--python", "--board", board, *options], "python"


def main() -> None:
    """``python -m firmware_bridge.host_firmware``: be a firmware, until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.host_firmware", description=main.__doc__)
    parser.add_argument("--python", action="store_true", help="the Python reference instead of the C firmware")
    parser.add_argument("--id", metavar="HEX8", default=os.urandom(4).hex(), help="boot id (default: random)")
    parser.add_argument("--link", type=Path, help="put a symbolic link to the port here")
    parser.add_argument("--plant", type=Path, help="socket of the simulated motors")
    parser.add_argument("--with-parent", type=int, metavar="PID", help="end when this parent process ends")
    parser.add_argument("--board", choices=sorted(BOARDS), default="rover", help="which axes (default: rover)")
    given = parser.parse_args()
    if given.python:
        reference_process.run(int(given.id, 16), given.link, given.plant, given.with_parent, given.board)
        return
    command, _ = _command("c", given.plant, given.link, given.with_parent, given.board)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
