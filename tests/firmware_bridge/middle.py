"""A man in the middle of a serial line: a pseudo-terminal for the host, the firmware's behind it, and faults between them."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path

Fault = Callable[[bytes], bytes]


def untouched(data: bytes) -> bytes:
    return data


class Middle:
    """path: what the host opens. to_device, to_host: what becomes of each piece; to be exchanged at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.to_device: Fault = untouched
        self.to_host: Fault = untouched
        self._holding = threading.Event()
        self._held = b""
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._device: int | None = None
        self._host: int | None = None
        self.plug_in()
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    def attach(self, port: str) -> None:
        """Put another firmware behind the line; the host's port stays open."""
        descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        with self._lock:
            if self._device is not None:
                os.close(self._device)
            self._device = descriptor

    def unplug(self) -> None:
        """The host's port vanishes."""
        with self._lock:
            assert self._host is not None
            os.close(self._host)
            os.close(self._other_end)
            self._host = None
        self.path.unlink()

    def plug_in(self) -> None:
        """It is there again, under the same name."""
        host, self._other_end = os.openpty()
        tty.setraw(self._other_end)
        os.set_blocking(host, False)
        self.path.symlink_to(os.ttyname(self._other_end))
        with self._lock:
            self._host = host

    def hold(self) -> None:
        """Keep what the host says, as a stuck USB buffer does."""
        self._holding.set()

    def release(self) -> int:
        """Let it go, all at once; returns how many bytes it was."""
        with self._lock:
            held, self._held = self._held, b""
            self._holding.clear()
            assert self._device is not None
            for at in range(0, len(held), 512):
                _write(self._device, held[at : at + 512])
        return len(held)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        if self._host is not None:
            self.unplug()
        if self._device is not None:
            os.close(self._device)

    def _relay(self) -> None:
        while not self._ending.is_set():
            with self._lock:
                ends = [end for end in (self._host, self._device) if end is not None]
            ready = select.select(ends, [], [], 0.01)[0]
            with self._lock:
                for end in ready:
                    self._pass_on(end)

    def _pass_on(self, end: int) -> None:
        if end not in (self._host, self._device):
            return  # unplugged meanwhile
        try:
            data = os.read(end, 4096)
        except OSError:
            if end == self._device:  # the firmware is gone: silence
                os.close(end)
                self._device = None
            return
        if end == self._host and self._holding.is_set():
            self._held += data
        elif end == self._host and self._device is not None:
            _write(self._device, self.to_device(data))
        elif end == self._device and self._host is not None:
            _write(self._host, self.to_host(data))


def _write(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    except OSError:
        pass  # nobody there, or too much: lost, as on a wire
