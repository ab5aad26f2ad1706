"""Feetech STS servos on their bus, simulated from their control table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from firmware_bridge.drivers.simulated.motor import Motor

TICKS = 4096 / (2 * math.pi)
TABLE = 80
_TORQUE, _GOAL, _SPEED, _MODE = 40, 42, 46, 33
_LEAST_V = 6.0
VOLATILE = range(40, 56)


class FeetechBus:
    """Every servo in the middle of its range, switched off."""

    def __init__(self, ids: Sequence[int] = (1, 2)) -> None:
        self.ids = list(ids)
        self.motors = [Motor() for _ in ids]
        self.supply_v = 12.0
        self.wrong_id = False
        self._tables = {servo: _fresh(servo) for servo in ids}
        self._heard = bytearray()

    def table(self, servo: int) -> bytearray:
        return self._tables[servo]

    def reset(self) -> None:
        for servo, motor in zip(self.ids, self.motors, strict=True):
            motor.cut()
            for address in VOLATILE:
                self._tables[servo][address] = 0

    def remove(self, motor: int) -> None:
        self._tables.pop(self.ids[motor], None)

    def advance(self, elapsed_s: float) -> list[bytes]:
        for servo, motor in zip(self.ids, self.motors, strict=True):
            table = self._tables.get(servo)
            if table is None:
                motor.cut()
                continue
            motor.energised = table[_TORQUE] == 1 and self.supply_v >= _LEAST_V
            if table[_MODE] == 1:
                motor.to, motor.turning = None, _signed(table, _SPEED) / TICKS
            else:
                motor.to = (_signed(table, _GOAL) - 2048) / TICKS
                motor.top_speed = _signed(table, _SPEED) / TICKS or 20.0
            motor.advance(elapsed_s)
            _put(table, 56, round(motor.position * TICKS) + 2048)
            _put(table, 58, round(motor.velocity * TICKS))
            table[62], table[63] = round(self.supply_v * 10), 31
            _put(table, 69, 20 if motor.energised else 0)
        return []

    def receive(self, data: bytes) -> list[bytes]:
        self._heard += data
        answers = []
        while (at := self._heard.find(b"\xff\xff")) >= 0:
            del self._heard[:at]
            if len(self._heard) < 4:
                break
            size = self._heard[3] + 4
            if self._heard[2] == 0xFF or size < 6:
                del self._heard[:1]
                continue
            if len(self._heard) < size:
                break
            body = bytes(self._heard[2:size])
            if sum(body) & 0xFF != 0xFF:
                del self._heard[:1]
                continue
            del self._heard[:size]
            answers += self._obey(body[0], body[2], body[3:-1])
        return answers

    def _obey(self, servo: int, instruction: int, data: bytes) -> list[bytes]:
        to_all = servo == 0xFE
        targets = list(self._tables) if to_all else [servo] if servo in self._tables else []
        if instruction == 0x82 and to_all and len(data) > 2:
            return [self._status(each, self._read(each, data[0], data[1])) for each in data[2:] if each in self._tables]
        if instruction == 0x83 and to_all and len(data) > 2:
            step = data[1] + 1
            for i in range(2, len(data), step):
                if data[i] in self._tables:
                    self._write(data[i], data[0], data[i + 1 : i + step])
            return []
        if instruction == 0x01:
            return [self._status(each) for each in targets]
        if instruction == 0x02 and len(data) == 2:
            return [self._status(each, self._read(each, data[0], data[1])) for each in targets if not to_all]
        if instruction == 0x03 and data:
            for each in targets:
                self._write(each, data[0], data[1:])
            return [self._status(each) for each in targets if not to_all]
        return []

    def _read(self, servo: int, address: int, size: int) -> bytes:
        return bytes(self._tables[servo][address : address + size])

    def _write(self, servo: int, address: int, data: bytes) -> None:
        end = min(TABLE, address + len(data))
        self._tables[servo][address:end] = data[: end - address]

    def _status(self, servo: int, data: bytes = b"") -> bytes:
        error = 0 if self.supply_v >= _LEAST_V else 1
        body = bytes(((servo + 100) % 250 if self.wrong_id else servo, len(data) + 2, error)) + data
        return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


def _fresh(servo: int) -> bytearray:
    table = bytearray(TABLE)
    table[0:2] = 3, 10
    table[3:5] = (777).to_bytes(2, "little")
    table[5] = servo
    table[11:13] = (4095).to_bytes(2, "little")
    _put(table, _GOAL, 3000)  # left over from before: must not be gone to
    _put(table, 56, 2048)
    return table


def _signed(table: bytearray, address: int) -> int:
    value = int.from_bytes(table[address : address + 2], "little")
    return -(value & 0x7FFF) if value & 0x8000 else value


def _put(table: bytearray, address: int, value: int) -> None:
    table[address : address + 2] = (abs(value) | (0x8000 if value < 0 else 0)).to_bytes(2, "little")
