"""A pseudo-terminal with a simulated device at its far end, and all the ways in which a line and a device go wrong."""

from __future__ import annotations

import heapq
import os
import select
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from firmware_bridge.drivers.simulated.motor import Motor
from firmware_bridge.simulated_port import Announcement

TURN_S = 0.002


class SimulatedDevice(Protocol):
    """What is plugged in. Called from the line's thread, except for what tests set."""

    motors: list[Motor]
    supply_v: float
    """Lower it for a brown-out."""
    wrong_id: bool
    """Answers in somebody else's name, where the protocol has names."""

    def receive(self, data: bytes) -> list[bytes]:
        """Whole answers to whatever of the bytes could be understood."""

    def advance(self, elapsed_s: float) -> list[bytes]:
        """Time passes; what the device says by itself."""

    def reset(self) -> None:
        """Lose the power and start again: everything volatile is gone."""

    def remove(self, motor: int) -> None:
        """This motor's cable comes off."""


class Line:
    """Runs a device until closed; ``port`` is what a driver opens. link: a path to have the port under, too."""

    def __init__(self, device: SimulatedDevice, link: Path | None = None) -> None:
        self.device = device
        self.spoil: Callable[[bytes], bytes] = bytes
        """What becomes of each answer on its way."""
        self.spoil_heard: Callable[[bytes], bytes] = bytes
        """What becomes of what the host says."""
        self.late_s = 0.0
        self.noise: Callable[[], bytes] = bytes
        """What comes in at every turn, from nobody."""
        self.reset_wanted = False
        self.slowest_turn_s = 0.0
        """How long the machine did not run this at most; to be set back by whoever looks."""
        self.heard = bytearray()
        """All that the host has said."""
        self._line, self._other_end = os.openpty()
        tty.setraw(self._other_end)
        self.port = os.ttyname(self._other_end)
        self._announcement = Announcement(self.port)
        if link is not None:
            fresh = link.with_name(f"{link.name}.{os.getpid()}")
            fresh.symlink_to(self.port)
            fresh.replace(link)
        self._due: list[tuple[float, int, bytes]] = []
        self._said = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """The cable comes off; the device goes on without a host."""
        if self._line >= 0:
            self._announcement.close()
            line, self._line = self._line, -1
            time.sleep(2 * TURN_S)
            os.close(line)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self.unplug()
        os.close(self._other_end)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ending.is_set():
            line = self._line
            if line < 0:
                data = b""
                time.sleep(TURN_S)
            else:
                data = os.read(line, 4096) if select.select([line], [], [], TURN_S)[0] else b""
            if self.reset_wanted:
                self.device.reset()
                self.reset_wanted = False
            now = time.monotonic()
            self.slowest_turn_s = max(self.slowest_turn_s, now - last)
            answers = self.device.advance(now - last)
            last = now
            if data:
                self.heard += data
                answers += self.device.receive(self.spoil_heard(data))
            for answer in answers:
                self._said += 1
                heapq.heappush(self._due, (now + self.late_s, self._said, self.spoil(answer)))
            out = self.noise()
            while self._due and self._due[0][0] <= now:
                out += heapq.heappop(self._due)[2]
            if out and self._line >= 0:
                os.write(line, out)
