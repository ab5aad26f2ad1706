"""Dynamixel X servos on their bus, simulated from their control table, with the bus watchdog and hardware errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from firmware_bridge.drivers.dynamixel_packets import packet
from firmware_bridge.drivers.simulated.motor import Motor

TICKS = 4096 / (2 * math.pi)
RATE = 0.229 * 2 * math.pi / 60
MODEL = 1020
TABLE = 150
_LEAST_V = 6.0
_VOLATILE = range(64, 147)
_GOALS = range(100, 120)


class DynamixelBus:
    """Every servo in the middle of its range, switched off, its watchdog off as it comes."""

    def __init__(self, ids: Sequence[int] = (1, 2)) -> None:
        self.ids = list(ids)
        self.motors = [Motor() for _ in ids]
        self.supply_v = 12.0
        self.wrong_id = False
        self._tables = {servo: _fresh() for servo in ids}
        self._heard = bytearray()
        self._silent_s = 0.0

    def table(self, servo: int) -> bytearray:
        return self._tables[servo]

    def reset(self) -> None:
        for servo in list(self._tables):
            self._restart(servo)

    def remove(self, motor: int) -> None:
        self._tables.pop(self.ids[motor], None)

    def advance(self, elapsed_s: float) -> list[bytes]:
        self._silent_s += elapsed_s
        for servo, motor in zip(self.ids, self.motors, strict=True):
            table = self._tables.get(servo)
            if table is None:
                motor.cut()
                continue
            if self.supply_v < _LEAST_V:
                table[70] |= 1
                table[64] = 0
            if 0 < table[98] < 0x80 and self._silent_s > table[98] * 0.02:
                table[98] = 0xFF
            motor.energised = table[64] == 1
            tripped = table[98] == 0xFF
            if table[11] == 1:
                motor.to, motor.turning = None, 0.0 if tripped else _long(table, 104) * RATE
            else:
                motor.to = motor.position if tripped else (_long(table, 116) - 2048) / TICKS
                motor.top_speed = _long(table, 112) * RATE or 20.0
            motor.advance(elapsed_s)
            table[126:128] = (30 if motor.energised else 0).to_bytes(2, "little")
            table[128:132] = round(motor.velocity / RATE).to_bytes(4, "little", signed=True)
            table[132:136] = (round(motor.position * TICKS) + 2048).to_bytes(4, "little", signed=True)
            table[144:146] = round(self.supply_v * 10).to_bytes(2, "little")
            table[146] = 33
        return []

    def receive(self, data: bytes) -> list[bytes]:
        self._heard += data
        answers = []
        while (at := self._heard.find(b"\xff\xff\xfd\x00")) >= 0:
            del self._heard[:at]
            size = int.from_bytes(self._heard[5:7], "little") + 7
            if len(self._heard) < 7 or len(self._heard) < size <= 300:
                break
            wire = bytes(self._heard[:size])
            body = wire[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            if size < 10 or packet(wire[4], body[0], body[1:]) != wire:
                del self._heard[:4]
                continue
            del self._heard[:size]
            self._silent_s = 0.0
            answers += self._obey(wire[4], body[0], body[1:])
        return answers

    def _obey(self, servo: int, instruction: int, data: bytes) -> list[bytes]:
        address = int.from_bytes(data[:2], "little")
        if instruction == 0x82 and len(data) > 4:
            size = int.from_bytes(data[2:4], "little")
            return [self._status(each, self._tables[each][address : address + size]) for each in data[4:] if each in self._tables]
        if instruction == 0x83 and len(data) > 4:
            step = int.from_bytes(data[2:4], "little") + 1
            for i in range(4, len(data), step):
                if data[i] in self._tables:
                    self._write(data[i], address, data[i + 1 : i + step])
            return []
        if servo == 0xFE:
            if instruction == 0x03:
                for each in self._tables:
                    self._write(each, address, data[2:])
            return []
        if servo not in self._tables:
            return []
        if instruction == 0x01:
            return [self._status(servo, MODEL.to_bytes(2, "little") + b"\x2a")]
        if instruction == 0x02 and len(data) == 4:
            return [self._status(servo, self._tables[servo][address : address + int.from_bytes(data[2:4], "little")])]
        if instruction == 0x03 and len(data) > 2:
            return [self._status(servo, b"", self._write(servo, address, data[2:]))]
        if instruction == 0x08:
            self._restart(servo)
            return [self._status(servo)]
        return []

    def _write(self, servo: int, address: int, data: bytes) -> int:
        """The number of the error, 0 for none."""
        table = self._tables[servo]
        locked = (address < 64 and table[64]) or (table[98] == 0xFF and address in _GOALS and any(data))
        if locked or (address == 64 and any(data) and table[70]):
            return 7
        end = min(TABLE, address + len(data))
        table[address:end] = data[: end - address]
        if address == 64 and any(data):  # switched on, it starts from where it is
            table[104:108] = bytes(4)
            table[116:120] = table[132:136]
        return 0

    def _restart(self, servo: int) -> None:
        self.motors[self.ids.index(servo)].cut()
        for address in _VOLATILE:
            self._tables[servo][address] = 0

    def _status(self, servo: int, data: bytes | bytearray = b"", error: int = 0) -> bytes:
        alert = 0x80 if self._tables[servo][70] else 0
        name = (servo + 100) % 250 if self.wrong_id else servo
        return packet(name, 0x55, bytes((error | alert,)) + bytes(data))


def _fresh() -> bytearray:
    table = bytearray(TABLE)
    table[11] = 3
    table[44:48] = (1000).to_bytes(4, "little")
    table[48:52] = (4095).to_bytes(4, "little")
    table[116:120] = (3000).to_bytes(4, "little")  # left over from before: must not be gone to
    return table


def _long(table: bytearray, address: int) -> int:
    return int.from_bytes(table[address : address + 4], "little", signed=True)
