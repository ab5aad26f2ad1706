"""The Python reference firmware as a process: what firmware/ports/host/main.c is for the C core.

A pseudo-terminal is its serial line, a socket (see :mod:`firmware_bridge.plant`) its motors.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import tty
from pathlib import Path

from firmware_bridge.board import BOARDS
from firmware_bridge.messages import Drive, Fault, Mode, State
from firmware_bridge.plant import SEND_EVERY_NS, MotorFeedback, MotorOutput
from firmware_bridge.reference import Core, Identity

NAME = "latentloop-host 0.1 (Python reference)"
TICK_S = 0.001
RETRY_NS = 100_000_000


class _Motors:
    """The socket to the plant; without one, ideal encoders."""

    def __init__(self, path: Path | None, axes: int) -> None:
        self._path = path
        self._axes = axes
        self._socket: socket.socket | None = None
        self._tried_ns = 0
        self._sent: tuple[State, tuple[int, ...], tuple[Drive, ...]] | None = None
        self._sent_ns = 0
        self._turned_nrad = [0] * axes
        if path is not None:
            self._connect(time.monotonic_ns())
            if self._socket is None:
                raise SystemExit(f"firmware: nothing listens on {path}")

    def fileno(self) -> int | None:
        return None if self._socket is None else self._socket.fileno()

    def measure(self, core: Core, now_ns: int, elapsed_us: int) -> None:
        """Bring the encoders up to date; a lost plant is a fault."""
        if self._path is None:
            for i, output in enumerate(core.outputs):
                if core.drives[i] is not Drive.ON:
                    core.velocity[i] = 0
                elif core.board.parts[i].mode is Mode.POSITION:
                    core.velocity[i] = core.speeds[i]
                    core.position[i] = output
                else:
                    self._turned_nrad[i] += output * elapsed_us
                    core.position[i] = _wrap_i32(self._turned_nrad[i] // 1_000_000)
                    core.velocity[i] = output
            return
        if self._socket is None and now_ns - self._tried_ns > RETRY_NS:
            self._connect(now_ns)
        while self._socket is not None:
            try:
                packet = self._socket.recv(256)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self._lose()
                break
            try:
                feedback = MotorFeedback.unpack(packet, self._axes)
            except ValueError:
                continue
            core.position[:] = [_wrap_i32(p) for p in feedback.position_mrad]
            core.velocity[:] = feedback.velocity_mrad_s
            core.current[:] = feedback.current_ma
        core.set_faults(0 if self._socket is not None else Fault.DRIVER_LOST)

    def drive(self, core: Core, now_ns: int, lease_ns: int) -> None:
        """Report the outputs if they changed or if the last report is getting old."""
        newest = core.state, core.outputs, tuple(core.drives)
        if self._socket is None or (newest == self._sent and now_ns - self._sent_ns < SEND_EVERY_NS):
            return
        try:
            self._socket.send(MotorOutput(now_ns, lease_ns, *newest).pack())
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        self._sent, self._sent_ns = newest, now_ns

    def _connect(self, now_ns: int) -> None:
        self._tried_ns = now_ns
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            return
        self._socket = connection

    def _lose(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def run(boot_id: int, link: Path | None, plant: Path | None, parent: int | None, board: str = "rover") -> None:
    """Be the firmware until SIGTERM, SIGINT or the end of the parent. board: a key of BOARDS."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    line, other_end = os.openpty()
    tty.setraw(other_end)
    os.set_blocking(line, False)
    port = os.ttyname(other_end)
    motors = _Motors(plant, len(BOARDS[board].parts))
    core = Core(BOARDS[board], Identity(boot_id, NAME), 0)
    core.tick(0)  # out of BOOT before anybody knows the port
    if link is not None:
        fresh = link.with_name(f"{link.name}.{os.getpid()}")
        fresh.symlink_to(port)
        fresh.replace(link)
    print(json.dumps({"port": port, "firmware": NAME}), flush=True)

    started_ns = last_ns = time.monotonic_ns()
    lease_ns = leases = 0
    while not stopping and (parent is None or os.getppid() == parent):
        fd = motors.fileno()
        select.select([line] if fd is None else [line, fd], [], [], TICK_S)
        now_ns = time.monotonic_ns()
        now_us = (now_ns - started_ns) // 1000 & 0xFFFFFFFF
        motors.measure(core, now_ns, (now_ns - last_ns) // 1000)
        _receive(line, core, now_us)
        if core.counters["leases"] != leases:
            leases, lease_ns = core.counters["leases"], now_ns
        core.tick(now_us)
        _transmit(line, core)
        motors.drive(core, now_ns, lease_ns)
        last_ns = now_ns
    if link is not None and link.is_symlink() and os.readlink(link) == port:
        link.unlink()


def _receive(line: int, core: Core, now_us: int) -> None:
    """At most 1024 bytes per turn: a host that floods the line must not hold up the clock."""
    try:
        core.receive(os.read(line, 1024), now_us)
    except BlockingIOError:
        pass


def _transmit(line: int, core: Core) -> None:
    try:
        while core.tx:
            core.sent(os.write(line, core.tx))
    except BlockingIOError:
        pass  # nobody reads: the core drops what does not fit


def _wrap_i32(value: int) -> int:
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000
