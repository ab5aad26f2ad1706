"""Dynamixel protocol 2.0: packets with byte stuffing and CRC, and finding them in whatever comes in.

``FF FF FD 00 id length(2) instruction parameters crc(2)``, low bytes first; https://emanual.robotis.com/docs/en/dxl/protocol2/.
Wherever ``FF FF FD`` occurs from the instruction on, an ``FD`` is put behind it, so that a head occurs nowhere else; length and
CRC (polynomial 0x8005, start 0, not reflected, over everything before it) are those of the stuffed packet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from firmware_bridge.drivers.roll_call import Status

BROADCAST = 0xFE
PING, READ, WRITE, REBOOT, STATUS, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x08, 0x55, 0x82, 0x83
LAST_ID = 252
ALERT = 0x80
"""A bit of the error in a status: the servo has a hardware error."""
LONGEST = 1024
_HEAD = b"\xff\xff\xfd\x00"
_ESCAPED, _ESCAPE = b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x8005 if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return tuple(table)


_TABLE = _table()


def crc16(data: bytes | bytearray) -> int:
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _TABLE[crc >> 8 ^ byte]
    return crc


def packet(servo: int, instruction: int, parameters: bytes = b"") -> bytes:
    stuffed = (bytes((instruction,)) + parameters).replace(_ESCAPED, _ESCAPE)
    body = _HEAD + bytes((servo,)) + (len(stuffed) + 2).to_bytes(2, "little") + stuffed
    return body + crc16(body).to_bytes(2, "little")


def read(servo: int, address: int, size: int) -> bytes:
    return packet(servo, READ, _words(address, size))


def write(servo: int, address: int, data: bytes) -> bytes:
    return packet(servo, WRITE, _words(address) + data)


def sync_read(servos: Sequence[int], address: int, size: int) -> bytes:
    return packet(BROADCAST, SYNC_READ, _words(address, size) + bytes(servos))


def sync_write(address: int, data: Mapping[int, bytes]) -> bytes:
    """data: by servo, all of one size."""
    size = len(next(iter(data.values())))
    return packet(BROADCAST, SYNC_WRITE, _words(address, size) + b"".join(bytes((i,)) + each for i, each in data.items()))


def next_status(heard: bytearray) -> Status | None:
    """Take the next status out of what was heard, and what lies before it; None when there is none (yet)."""
    while (at := heard.find(_HEAD)) >= 0:
        del heard[:at]
        if len(heard) < 7:
            return None
        length = int.from_bytes(heard[5:7], "little")
        if heard[4] > LAST_ID or not 4 <= length <= LONGEST:
            del heard[:4]
            continue
        if len(heard) < length + 7:
            if (again := heard.find(_HEAD, 4)) < 0:
                return None
            del heard[:again]  # stuffing keeps heads out of packets: this one was cut short
            continue
        if crc16(heard[: length + 5]) != int.from_bytes(heard[length + 5 : length + 7], "little") or heard[7] != STATUS:
            del heard[:4]
            continue
        body = bytes(heard[8 : length + 5]).replace(_ESCAPE, _ESCAPED)
        status = Status(heard[4], body[0], body[1:])
        del heard[: length + 7]
        return status
    keep = next((n for n in (3, 2, 1) if heard.endswith(_HEAD[:n])), 0)
    del heard[: len(heard) - keep]
    return None


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in values)
