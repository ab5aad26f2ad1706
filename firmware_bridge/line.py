"""Bytes in and out of an open port: with one system call for each where the port has a file descriptor."""

from __future__ import annotations

import io
import os
import select
import time
from typing import Protocol

import serial

READ_TIMEOUT_S = 0.01
WRITE_TIMEOUT_S = 0.005
_MOST = 4096


class Line(Protocol):
    """What a link needs of a port. Both raise OSError, or TypeError after it was closed, when the port is gone."""

    def read(self, timeout_s: float) -> tuple[bytes, int]:
        """What is there, and when it was, monotonic ns; waits for the first byte."""

    def write(self, data: bytes) -> bool:
        """False if the line's buffer did not take all of it within 5 ms."""

    def close(self) -> None:
        """Use the port no more. Not while another thread writes."""


class DescriptorLine:
    """A port of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._readable = select.poll()
        self._readable.register(descriptor, select.POLLIN)

    def read(self, timeout_s: float) -> tuple[bytes, int]:
        came = self._readable.poll(max(0.0, timeout_s * 1e3))
        arrived_ns = time.monotonic_ns()
        if not came and self._descriptor >= 0:
            return b"", arrived_ns
        try:
            data = os.read(self._descriptor, _MOST)
        except BlockingIOError:  # another thread was faster
            return b"", arrived_ns
        if not data:
            raise OSError("the device is gone")
        return data, arrived_ns

    def write(self, data: bytes) -> bool:
        deadline_ns = 0
        while True:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                pass
            if not data:
                return True
            now_ns = time.monotonic_ns()
            deadline_ns = deadline_ns or now_ns + int(WRITE_TIMEOUT_S * 1e9)
            writable = select.poll()
            writable.register(self._descriptor, select.POLLOUT)
            if now_ns >= deadline_ns or not writable.poll((deadline_ns - now_ns) / 1e6):
                return False

    def close(self) -> None:
        self._descriptor = -1  # its number may soon be that of another file


class PortLine:
    """A port that exists in pyserial only, such as ``rfc2217://`` and ``loop://``. Reading waits ``READ_TIMEOUT_S`` at most,
    whatever was asked for: setting a timeout anew renegotiates the whole port with some of them."""

    def __init__(self, port: serial.SerialBase) -> None:
        self._port = port

    def read(self, timeout_s: float) -> tuple[bytes, int]:
        data = bytes(self._port.read(1))
        arrived_ns = time.monotonic_ns()
        waiting = self._port.in_waiting if data else 0
        if waiting:
            data += self._port.read(waiting)
        return data, arrived_ns

    def write(self, data: bytes) -> bool:
        try:
            self._port.write(data)
        except serial.SerialTimeoutException:
            return False
        return True

    def close(self) -> None: ...


def line_of(port: serial.SerialBase) -> Line:
    """The better of the two for this port."""
    try:
        return DescriptorLine(port.fileno())
    except (AttributeError, io.UnsupportedOperation):
        return PortLine(port)
