"""Feetech's serial bus protocol (that of Dynamixel 1.0): packets, and finding them in whatever comes in.

``FF FF id length instruction parameters checksum``; a status has an error byte in place of the instruction. The checksum is the
inverted sum of everything after the head. Nothing is escaped, so a head may occur inside of a packet: a packet that does not
check costs one byte, and the search goes on behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from firmware_bridge.drivers.roll_call import Status

BROADCAST = 0xFE
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
_HEAD = b"\xff\xff"


def packet(servo: int, instruction: int, parameters: bytes = b"") -> bytes:
    """Also makes a status, with the error in place of the instruction."""
    body = bytes((servo, len(parameters) + 2, instruction)) + parameters
    return _HEAD + body + bytes((~sum(body) & 0xFF,))


def read(servo: int, address: int, size: int) -> bytes:
    return packet(servo, READ, bytes((address, size)))


def write(servo: int, address: int, data: bytes) -> bytes:
    return packet(servo, WRITE, bytes((address,)) + data)


def sync_read(servos: Sequence[int], address: int, size: int) -> bytes:
    return packet(BROADCAST, SYNC_READ, bytes((address, size, *servos)))


def sync_write(address: int, data: Mapping[int, bytes]) -> bytes:
    """data: by servo, all of one size."""
    size = len(next(iter(data.values())))
    return packet(BROADCAST, SYNC_WRITE, bytes((address, size)) + b"".join(bytes((i,)) + each for i, each in data.items()))


def next_status(heard: bytearray) -> Status | None:
    """Take the next status out of what was heard, and what lies before it; None when there is none (yet)."""
    while (at := heard.find(_HEAD)) >= 0:
        del heard[:at]
        if len(heard) < 4:
            return None
        servo, length = heard[2], heard[3]
        if servo >= BROADCAST or length < 2:
            del heard[:1]
            continue
        if len(heard) < length + 4:
            return None
        if ~sum(heard[2 : length + 3]) & 0xFF != heard[length + 3]:
            del heard[:1]
            continue
        status = Status(servo, heard[4], bytes(heard[5 : length + 3]))
        del heard[: length + 4]
        return status
    del heard[: len(heard) - (heard[-1:] == b"\xff")]
    return None


def signed(word: int, bit: int = 15) -> int:
    """Sign and magnitude, as these servos count."""
    return -(word & ~(1 << bit)) if word >> bit & 1 else word


def word(value: int, bit: int = 15) -> bytes:
    """The inverse of :func:`signed`, low byte first, at its largest where it does not fit."""
    magnitude = min(abs(value), (1 << bit) - 1)
    return (magnitude | (1 << bit if value < 0 else 0)).to_bytes(2, "little")
