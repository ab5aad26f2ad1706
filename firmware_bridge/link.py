"""Frames over one open serial port, with the counts of what went over it."""

from __future__ import annotations

import threading
import time

import serial

from firmware_bridge import framing, messages
from firmware_bridge.framing import Decoder, Frame
from firmware_bridge.line import line_of
from firmware_bridge.messages import Message, Ping

REMEMBERED_NS = 1_500_000_000
"""So long the device may remember a question, with margin."""


class LinkLost(Exception):
    """The port is gone. The message says how it was noticed."""


class Link:
    """One open port. ``send`` may be called from any thread, ``receive`` from one."""

    def __init__(self, port: serial.SerialBase) -> None:
        self._port = port
        self._line = line_of(port)
        self._decoder = Decoder(messages.SCHEMA_ID)
        self._sending = threading.Lock()
        self._seq = 0
        self._remembered_until_ns: dict[int, int] = {}
        self._heard: int | None = None
        self._in_step = False
        self.sent = 0
        self.received = 0
        self.bytes_received = 0
        self.missed = 0
        self.unsent = 0

    @property
    def crc_errors(self) -> int:
        """Everything that arrived and was no frame."""
        d = self._decoder
        return d.crc_errors + d.cobs_errors + d.overruns + d.unknown

    def send(self, message: Message, session: int, flags: int = 0, seq: int | None = None) -> int:
        """Put one frame on the line and return its seq; blocks for 5 ms at most.

        seq: that of an earlier frame, to repeat it. A frame that does not fit into the line's buffer is lost and
        counted in ``unsent``. Raises LinkLost.
        """
        payload = message.pack()
        with self._sending:
            if seq is None:
                if flags & framing.ACK_REQ and not isinstance(message, Ping):
                    self._pass_over_remembered()
                seq, self._seq = self._seq, (self._seq + 1) & 0xFF
            wire = framing.encode(Frame(message.TYPE, seq, session, payload, flags), messages.SCHEMA_ID)
            try:
                if self._line.write(wire):
                    self.sent += 1
                else:
                    self.unsent += 1
            except (OSError, TypeError) as error:  # TypeError: pyserial's answer to a port closed meanwhile
                raise LinkLost(f"writing failed ({error})") from None
        return seq

    def _pass_over_remembered(self) -> None:
        """The device answers a question with the seq of one that it remembers without acting on it: two questions within a
        second must differ, however many other frames went between them. Who asks 256 in that time gets the next number."""
        now_ns = time.monotonic_ns()
        for _ in range(256):
            if now_ns >= self._remembered_until_ns.get(self._seq, 0):
                break
            self._seq = (self._seq + 1) & 0xFF
        self._remembered_until_ns[self._seq] = now_ns + REMEMBERED_NS

    def receive(self, timeout_s: float = 0.02) -> list[tuple[Frame, int]]:
        """The frames that came in, with their arrival in monotonic ns; waits so long for the first byte. Raises LinkLost."""
        try:
            data, arrived_ns = self._line.read(timeout_s)
        except (OSError, TypeError) as error:
            raise LinkLost(f"reading failed ({error})") from None
        self.bytes_received += len(data)
        if not self._in_step:  # the line may be opened in the middle of a frame, which is nobody's error
            data = data[at:] if (at := data.find(0)) >= 0 else b""
            self._in_step = bool(data)
        frames = []
        for frame in self._decoder.feed(data):
            if frame.type < 0x80:
                continue  # our own words, echoed by the line
            self.received += 1
            if self._heard is not None:
                self.missed += (frame.seq - self._heard - 1) & 0xFF
            self._heard = frame.seq
            frames.append((frame, arrived_ns))
        return frames

    def close(self) -> None:
        with self._sending:
            self._line.close()
        try:
            self._port.close()
        except OSError:
            pass  # it was gone already
