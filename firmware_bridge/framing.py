"""Frames on a serial line: COBS between zero bytes, with a CRC-32 that covers everything.

After garbage the decoder is in step again at the next zero byte; there is no length to trust and nothing to time out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

MAX_BODY = 128
"""Longest frame body in bytes, CRC included."""
MAX_ENCODED = MAX_BODY + 1
HEADER_BYTES = 4
CRC_BYTES = 4

ACK_REQ = 0x01
REPLY = 0x02
_MAJOR = 0x10
_UNDERSTOOD = 0xF0 | ACK_REQ | REPLY


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose CRC was right. flags: ACK_REQ, REPLY. session: 0 outside a session."""

    type: int
    seq: int
    session: int
    payload: bytes
    flags: int = 0


def cobs_encode(data: bytes) -> bytes:
    """Consistent overhead byte stuffing (Cheshire and Baker 1999): no zero bytes, one byte more up to 253."""
    out = bytearray()
    for block in data.split(b"\0"):
        while len(block) >= 254:
            out += b"\xff" + block[:254]
            block = block[254:]
        out.append(len(block) + 1)
        out += block
    return bytes(out)


def cobs_decode(data: bytes) -> bytes | None:
    """The inverse; None if the data is not an encoding of anything."""
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        if code == 0 or at + code > len(data):
            return None
        out += data[at + 1 : at + code]
        at += code
        if code < 0xFF and at < len(data):
            out.append(0)
    return bytes(out)


def checksum(body: bytes, session: int, schema_id: int) -> int:
    """CRC-32/ISO-HDLC over the schema id (inside a session only) and the body without its CRC."""
    return zlib.crc32(body, _schema_crc(schema_id) if session else 0)


@cache  # of the one or two schemas there are; asked for with every frame
def _schema_crc(schema_id: int) -> int:
    return zlib.crc32(schema_id.to_bytes(4, "little"))


def encode(frame: Frame, schema_id: int) -> bytes:
    """The bytes for the wire, with a zero before and after. Raises ValueError if the payload is too long."""
    body = bytes([_MAJOR | frame.flags, frame.type, frame.seq, frame.session]) + frame.payload
    if len(body) + CRC_BYTES > MAX_BODY:
        raise ValueError(f"a payload of {len(frame.payload)} bytes does not fit a frame of {MAX_BODY}")
    body += checksum(body, frame.session, schema_id).to_bytes(4, "little")
    return b"\0" + cobs_encode(body) + b"\0"


class Decoder:
    """Bytes in, frames out. The four counters say what was thrown away."""

    def __init__(self, schema_id: int) -> None:
        self._schema_id = schema_id
        self._buffer = bytearray()
        self._too_long = False
        self.crc_errors = 0
        self.cobs_errors = 0
        self.overruns = 0
        self.unknown = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take in bytes; yields each frame as soon as its closing zero is in."""
        pieces = data.split(b"\0")
        for piece in pieces[:-1]:
            self._collect(piece)
            frame = self._finish()
            if frame is not None:
                yield frame
        self._collect(pieces[-1])

    def reset(self) -> None:
        """Forget a half-received frame."""
        self._buffer.clear()
        self._too_long = False

    def _collect(self, piece: bytes) -> None:
        room = MAX_ENCODED - len(self._buffer)
        self._too_long = self._too_long or len(piece) > room
        self._buffer += piece[:room]

    def _finish(self) -> Frame | None:
        encoded, too_long = bytes(self._buffer), self._too_long
        self.reset()
        if too_long:
            self.overruns += 1
            return None
        if not encoded:
            return None
        body = cobs_decode(encoded)
        if body is None or len(body) < HEADER_BYTES + CRC_BYTES:
            self.cobs_errors += 1
            return None
        head, crc = body[:-CRC_BYTES], int.from_bytes(body[-CRC_BYTES:], "little")
        if checksum(head, head[3], self._schema_id) != crc:
            self.crc_errors += 1
            return None
        if head[0] & 0xF0 != _MAJOR or head[0] & ~_UNDERSTOOD:
            self.unknown += 1
            return None
        return Frame(head[1], head[2], head[3], head[HEADER_BYTES:], head[0] & 0x0F)
