"""VESC's serial protocol: ``02 length payload crc 03``, or ``03`` and two bytes of length; CRC-16/XMODEM over the payload.

Facts from VESC's own firmware (vedderb/bldc: comm/packet.c, comm/commands.c, datatypes.h).
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

FW_VERSION, GET_VALUES, SET_CURRENT, SET_RPM, GET_APPCONF, FORWARD_CAN = 0, 4, 6, 8, 17, 34
LONGEST = 1024
_VALUES = struct.Struct(">hhiiiihihiiiiiiBiB")
_STATUS_AT = 1 + _VALUES.size + 3 * 2 + 2 * 4
"""Of a byte behind three temperatures and two voltages, in newer firmware: bit 1 is its kill switch."""


@dataclass(frozen=True, slots=True)
class Values:
    """Of GET_VALUES. temperature: of the transistors, degrees Celsius. current: A in the motor. steps: six to each electrical
    turn. travelled: the same without sign, which only a restart lets shrink. killed: its kill switch is active; False where it
does not say."""

    id: int
    temperature: float
    current: float
    erpm: int
    supply_v: float
    steps: int
    travelled: int
    fault: int
    killed: bool


def frame(payload: bytes) -> bytes:
    head = bytes((2, len(payload))) if len(payload) < 256 else b"\x03" + len(payload).to_bytes(2, "big")
    return head + payload + binascii.crc_hqx(payload, 0).to_bytes(2, "big") + b"\x03"


def command(number: int, value: int | None = None, can: int | None = None) -> bytes:
    """can: of the controller behind this one, None for this one."""
    payload = bytes((number,)) + (b"" if value is None else value.to_bytes(4, "big", signed=True))
    return frame(payload if can is None else bytes((FORWARD_CAN, can)) + payload)


def next_payload(heard: bytearray) -> bytes | None:
    """Take the next payload out of what was heard, and what lies before it; None when there is none (yet)."""
    while heard:
        wide = heard[0] == 3
        if heard[0] not in (2, 3):
            del heard[:1]
            continue
        start = 3 if wide else 2
        if len(heard) < start:
            return None
        size = int.from_bytes(heard[1:start], "big")
        if not 0 < size <= LONGEST:
            del heard[:1]
            continue
        if len(heard) < start + size + 3:
            return None
        payload = bytes(heard[start : start + size])
        crc = int.from_bytes(heard[start + size : start + size + 2], "big")
        if heard[start + size + 2] != 3 or binascii.crc_hqx(payload, 0) != crc:
            del heard[:1]
            continue
        del heard[: start + size + 3]
        return payload
    return None


def values_of(payload: bytes) -> Values | None:
    """None for a payload that is something else."""
    if not payload or payload[0] != GET_VALUES or len(payload) < 1 + _VALUES.size:
        return None
    fields = _VALUES.unpack_from(payload, 1)
    killed = len(payload) > _STATUS_AT and bool(payload[_STATUS_AT] & 2)
    steps, travelled, fault = fields[13:16]
    return Values(fields[17], fields[0] / 10, fields[2] / 100, fields[7], fields[8] / 10, steps, travelled, fault, killed)


@dataclass(frozen=True, slots=True)
class Version:
    """Of FW_VERSION. firmware: version and name of the hardware. uid: of its chip, hexadecimal; empty before firmware 3."""

    firmware: str
    uid: str


def version_of(payload: bytes) -> Version | None:
    """None for another payload. ``00 major minor``, then the name with a zero behind it and the 12 bytes of the chip's number;
    what follows differs."""
    if len(payload) < 3 or payload[0] != FW_VERSION:
        return None
    name, _, rest = payload[3:].partition(b"\0")
    uid = rest[:12] if len(rest) >= 12 else b""
    return Version(f"{payload[1]}.{payload[2]:02} {name.decode('ascii', 'replace')}".strip(), uid.hex() if any(uid) else "")


def timeout_of(payload: bytes) -> tuple[int, int] | None:
    """The id and the time-out in ms out of an application configuration; None for another payload. Both stand right behind the
    signature in every firmware since 3; what follows differs."""
    if len(payload) < 10 or payload[0] != GET_APPCONF:
        return None
    return payload[5], int.from_bytes(payload[6:10], "big")
