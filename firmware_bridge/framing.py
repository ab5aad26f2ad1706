"""Frames on a serial line: COBS between zero bytes, with a CRC-32 that covers everything.

After garbage the decoder is in step again at the next zero byte; there is no length to trust and nothing to time out.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import NamedTuple

MAX_BODY = 128
"""Longest frame body in bytes, CRC included."""
MAX_ENCODED = MAX_BODY + 1
HEADER_BYTES = 4
CRC_BYTES = 4

ACK_REQ = 0x01
REPLY = 0x02
_MAJOR = 0x10


class Frame(NamedTuple):
    """One frame whose CRC was right. flags: ACK_REQ, REPLY. session: 0 outside a session."""

    type: int
    seq: int
    session: int
    payload: bytes
    flags: int = 0


def cobs_encode(data: bytes) -> bytes:
    """Consistent overhead byte stuffing (Cheshire and Baker 1999) of at most 253 bytes: no zero bytes, one byte more."""
    out = bytearray()
    for block in data.split(b"\0"):
        out.append(len(block) + 1)
        out += block
    return bytes(out)


def cobs_decode(data: bytes) -> bytes | None:
    """The inverse; None if the data is not an encoding of anything. Each code byte gives way to the zero before its block."""
    out = bytearray(data)
    at = 0
    while at < len(out) and (code := out[at]):
        out[at] = 0
        at += code
    return bytes(out[1:]) if at == len(out) else None


def checksum(body: bytes, session: int, schema_id: int) -> int:
    """CRC-32/ISO-HDLC over the schema id (inside a session only) and the body without its CRC."""
    return zlib.crc32(body, _schema_crc(schema_id) if session else 0)


@cache  # of the one or two schemas there are; asked for with every frame
def _schema_crc(schema_id: int) -> int:
    return zlib.crc32(schema_id.to_bytes(4, "little"))


def encode(frame: Frame, schema_id: int) -> bytes:
    """The bytes for the wire, with a zero before and after. Raises ValueError if the payload is too long."""
    type_, seq, session, payload, flags = frame
    body = bytes((_MAJOR | flags, type_, seq, session)) + payload
    if len(body) + CRC_BYTES > MAX_BODY:
        raise ValueError(f"a payload of {len(payload)} bytes does not fit a frame of {MAX_BODY}")
    body += checksum(body, session, schema_id).to_bytes(4, "little")
    return b"\0" + cobs_encode(body) + b"\0"


class Decoder:
    """Bytes in, frames out. The four counters say what was thrown away."""

    def __init__(self, schema_id: int) -> None:
        self._schema_id = schema_id
        self._begun = b""
        self.crc_errors = 0
        self.cobs_errors = 0
        self.overruns = 0
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take in bytes; gives the frames whose closing zero is in."""
        *ended, begun = (self._begun + data).split(b"\0")
        self._begun = begun[: MAX_ENCODED + 1]  # enough to see that it is too long
        return [frame for encoded in ended if encoded and (frame := self._frame(encoded))]

    def _frame(self, encoded: bytes) -> Frame | None:
        if len(encoded) > MAX_ENCODED:
            self.overruns += 1
            return None
        body = cobs_decode(encoded)
        if body is None or len(body) < HEADER_BYTES + CRC_BYTES:
            self.cobs_errors += 1
            return None
        head = body[:-CRC_BYTES]
        first, type_, seq, session = head[:HEADER_BYTES]
        if checksum(head, session, self._schema_id) != int.from_bytes(body[-CRC_BYTES:], "little"):
            self.crc_errors += 1
            return None
        if first & ~(ACK_REQ | REPLY) != _MAJOR:
            self.unknown += 1
            return None
        return Frame(type_, seq, session, head[HEADER_BYTES:], first & 0x0F)
