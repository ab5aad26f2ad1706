"""One request at a time over a line that both ends share, such that a late answer never passes for that of another question."""

from __future__ import annotations

import io
import os
import select
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import serial

from firmware_bridge.controller import BridgeError, LinkCounts

T = TypeVar("T")

SLICE_S = 0.005
"""An interrupted wait ends after this long."""
SETTLE_S = (0.03, 0.12)
"""How long the line must be quiet after a question without an answer; doubled with each further one. The least is beyond the
16 ms for which an FTDI adapter may hold a byte back."""
UNREAD = 4096


class NoAnswer(BridgeError):
    """Nothing usable came back in time."""


class PortLost(BridgeError):
    """The port is gone. The message says how it was noticed."""


class Bus:
    """One open port of a device that speaks when asked. Not thread-safe.

    Protocols without sequence numbers cannot tell a late answer from a prompt one. So after every question that was not
    answered in full the line is listened to until it has been quiet for a while, and whatever comes is thrown away; throwing away
    only what lies in the buffer already would miss the answer that is just arriving.
    """

    def __init__(
        self,
        port: serial.SerialBase,
        urgent: threading.Event,
        *,
        timeout_s: float = 0.02,
        settle_s: tuple[float, float] = SETTLE_S,
    ) -> None:
        """urgent: set it to end a wait for an answer at once; whoever sets it writes next. settle_s: least and most. An answer
        that comes later than time-out and settling together can only be told by what the protocol says in it."""
        self._port = port
        self._urgent = urgent
        self._timeout_s = timeout_s
        self._settle_s, self._most_settle_s = settle_s
        self._least_settle_s = self._settle_s
        self._owed = False
        self._heard = bytearray()
        try:
            self._fd: int | None = port.fileno()
        except (AttributeError, io.UnsupportedOperation):
            self._fd = None
        self.sent = self.answered = self.unanswered = self.garbage = 0

    def write(self, data: bytes) -> None:
        """Put bytes on the line; nothing is expected back. Raises PortLost."""
        try:
            self._port.write(data)
            self.sent += 1
        except serial.SerialTimeoutException:
            self.unanswered += 1
        except (OSError, TypeError) as error:  # TypeError: pyserial's answer to a port closed meanwhile
            raise PortLost(f"writing failed ({error})") from None

    def ask(self, request: bytes, take: Callable[[bytearray], T | None], *, tries: int = 2, timeout_s: float = 0.0) -> T:
        """Send a request and return what ``take`` makes of the answer.

        take: gets all bytes heard since the request, removes those it is done with, and returns the answer or None for "not
        yet". tries: how often it is sent; more than once only where asking twice does the same as asking once. An adapter that
        echoes the request is seen through. Raises NoAnswer, PortLost.
        """
        for _ in range(tries):
            self._settle()
            self._heard.clear()
            self.write(request)
            answer = self._await(request, take, timeout_s or self._timeout_s)
            if answer is not None:
                self._settle_s = self._least_settle_s
                self.answered += 1
                return answer
            self.unanswered += 1
            if self._urgent.is_set():
                break
        raise NoAnswer("no answer")

    def heard(self, timeout_s: float) -> bytes:
        """What came in by itself; waits so long for the first byte. Raises PortLost."""
        return self._read(timeout_s)

    def counts(self) -> LinkCounts:
        """As the contract has them: garbage is counted in bytes, dropped are questions without an answer."""
        return LinkCounts(self.sent, self.answered, self.answered, self.garbage, self.unanswered)

    def owe(self) -> None:
        """Say that answers may still be under way, though ``ask`` got what it wanted."""
        self._owed = True

    def close(self) -> None:
        try:
            self._port.close()
        except OSError:
            pass  # it was gone already

    def _await(self, request: bytes, take: Callable[[bytearray], T | None], timeout_s: float) -> T | None:
        end = time.monotonic() + timeout_s
        self._owed = True
        while (left := end - time.monotonic()) > 0 and not self._urgent.is_set():
            data = self._read(min(left, SLICE_S))
            if not data:
                continue
            self._heard += data
            if (at := self._heard.find(request)) >= 0:
                del self._heard[: at + len(request)]
            answer = take(self._heard)
            if answer is not None:
                self._owed = False
                return answer
        self.garbage += len(self._heard)
        return None

    def _settle(self) -> None:
        if not self._owed:
            self.garbage += len(self._read(0.0))
            return
        end = time.monotonic() + 2 * self._settle_s
        quiet_by = time.monotonic() + self._settle_s
        while (now := time.monotonic()) < min(end, quiet_by) and not self._urgent.is_set():
            data = self._read(min(quiet_by - now, SLICE_S))
            if data:
                self.garbage += len(data)
                quiet_by = time.monotonic() + self._settle_s
        self._owed = False
        self._settle_s = min(2 * self._settle_s, self._most_settle_s)

    def _read(self, timeout_s: float) -> bytes:
        try:
            if self._fd is None:
                data = bytes(self._port.read(1))
                waiting = self._port.in_waiting if data else 0
                return data + bytes(self._port.read(waiting)) if waiting else data
            if not select.select([self._fd], [], [], timeout_s)[0]:
                return b""
            data = os.read(self._fd, UNREAD)
        except (OSError, TypeError, ValueError) as error:
            raise PortLost(f"reading failed ({error})") from None
        if not data:
            raise PortLost("the device is gone: it was unplugged or lost its power")
        return data
