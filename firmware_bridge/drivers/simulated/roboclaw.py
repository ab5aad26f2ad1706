"""A RoboClaw with two motors of 1000 counts per turn, with its serial time-out."""

from __future__ import annotations

import binascii
import math
import struct

from firmware_bridge.drivers.simulated.motor import Motor

TICKS = 1000 / (2 * math.pi)
_SIZES = {14: 1, 34: 4, 37: 8}
VERSION = b"USB Roboclaw 2x15a v4.1.34\n\0"
_LEAST_V = 6.0


class Roboclaw:
    def __init__(self) -> None:
        self.motors = [Motor(), Motor()]
        self.supply_v = 12.0
        self.wrong_id = False  # answers carry no name
        self.timeout = 0
        self._silent_s = 0.0
        self._heard = bytearray()

    def reset(self) -> None:
        self.timeout = 0
        for motor in self.motors:
            motor.cut()

    def remove(self, motor: int) -> None:
        self.motors[motor].cut()  # and nothing tells

    def advance(self, elapsed_s: float) -> list[bytes]:
        self._silent_s += elapsed_s
        if self._silent_s > 0.01:
            self._heard.clear()  # a pause ends a packet
        for motor in self.motors:
            if self.supply_v < _LEAST_V or (self.timeout and self._silent_s > self.timeout / 10):
                motor.cut()
            motor.advance(elapsed_s)
        return []

    def receive(self, data: bytes) -> list[bytes]:
        self._heard += data
        answers = []
        while len(self._heard) >= 2:
            command = self._heard[1]
            size = 2 + (_SIZES[command] + 2 if command in _SIZES else 0)
            if self._heard[0] != 0x80:
                del self._heard[:1]
                continue
            if len(self._heard) < size:
                break
            packet = bytes(self._heard[:size])
            if size > 2 and binascii.crc_hqx(packet[:-2], 0) != int.from_bytes(packet[-2:], "big"):
                del self._heard[:1]
                continue
            del self._heard[:size]
            self._silent_s = 0.0
            answers += self._obey(command, packet)
        return answers

    def _obey(self, command: int, packet: bytes) -> list[bytes]:
        data = packet[2:-2]
        if command == 14:
            self.timeout = data[0]
        elif command == 34 and not any(data):
            for motor in self.motors:
                motor.cut()
        elif command == 37:
            for motor, speed in zip(self.motors, struct.unpack(">ii", data), strict=True):
                if self.supply_v >= _LEAST_V:
                    motor.energised, motor.turning = True, speed / TICKS
        if command in _SIZES:
            return [b"\xff"]
        first, second = self.motors
        answer = {
            15: lambda: bytes((self.timeout,)),
            18: lambda: struct.pack(">IB", abs(round(first.velocity * TICKS)), first.velocity < 0),
            19: lambda: struct.pack(">IB", abs(round(second.velocity * TICKS)), second.velocity < 0),
            21: lambda: VERSION,
            24: lambda: round(self.supply_v * 10).to_bytes(2, "big"),
            49: lambda: struct.pack(">hh", 150, -20),
            78: lambda: struct.pack(">ii", round(first.position * TICKS), round(second.position * TICKS)),
            90: lambda: bytes(4),
        }.get(command)
        if answer is None:
            return []
        body = answer()
        return [body + binascii.crc_hqx(packet + body, 0).to_bytes(2, "big")]
