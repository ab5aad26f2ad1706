"""MAVLink's HEARTBEAT found in whatever comes in, without the package pymavlink: enough to tell who is there.

``FE length seq system component id payload crc`` (version 1), ``FD length 2 flags seq system component id(3) payload crc
[signature]`` (version 2); https://mavlink.io/en/guide/serialization.html. The CRC is CRC-16/MCRF4XX over everything between magic
and itself, and a byte for the definition of the message.
"""

from __future__ import annotations

from dataclasses import dataclass

EXTRA = 50
"""For HEARTBEAT, message 0."""
SIZE = 9
_HEADS = {0xFE: 6, 0xFD: 10}


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """system: id of the vehicle. type, autopilot: as MAV_TYPE and MAV_AUTOPILOT number them."""

    system: int
    type: int
    autopilot: int


def crc16(data: bytes | bytearray) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc


def next_heartbeat(heard: bytearray) -> Heartbeat | None:
    """Take the next heartbeat out of what was heard, and what lies before it; None when there is none (yet)."""
    at = 0
    while at < len(heard):
        head = _HEADS.get(heard[at])
        if head is None:
            at += 1
            continue
        if len(heard) < at + head:
            break
        wide, length = head == 10, heard[at + 1]
        message = int.from_bytes(heard[at + 7 : at + 10], "little") if wide else heard[at + 5]
        if message != 0 or not 0 < length <= SIZE:
            at += 1
            continue
        end = at + head + length
        if len(heard) < end + 2:
            break
        if crc16(heard[at + 1 : end] + bytes((EXTRA,))) != int.from_bytes(heard[end : end + 2], "little"):
            at += 1
            continue
        payload = bytes(heard[at + head : end]).ljust(SIZE, b"\0")  # version 2 leaves zeros at the end out
        system = heard[at + (5 if wide else 3)]
        del heard[: end + 2]
        return Heartbeat(system, payload[4], payload[5])
    del heard[:at]
    return None
