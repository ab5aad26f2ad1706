"""Two VESC controllers, the second behind the first on the CAN bus, with their time-out."""

from __future__ import annotations

import math
import struct

from firmware_bridge.drivers.simulated.motor import Motor
from firmware_bridge.drivers.vesc_packets import frame, next_payload

POLES = 14
ERPM = 60 / (2 * math.pi) * POLES / 2
_LEAST_V = 6.0


class VescPair:
    """timeout_ms: 0 switches it off. killed: the kill switch."""

    def __init__(self, timeout_ms: int = 300) -> None:
        self.motors = [Motor(), Motor()]
        self.supply_v = 12.0
        self.wrong_id = False
        self.timeout_ms = timeout_ms
        self.killed = False
        self.ids = [1, 2]
        self.uids = [bytes(range(12)), bytes(range(1, 13))]
        self._gone: set[int] = set()
        self._silent_s = [0.0, 0.0]
        self._from = [(0.0, 0.0), (0.0, 0.0)]  # position and way at the last start
        self._heard = bytearray()

    def reset(self) -> None:
        for i, motor in enumerate(self.motors):
            motor.cut()
            self._from[i] = motor.position, motor.travelled

    def remove(self, motor: int) -> None:
        self._gone.add(motor)
        self.motors[motor].cut()

    def advance(self, elapsed_s: float) -> list[bytes]:
        for i, motor in enumerate(self.motors):
            self._silent_s[i] += elapsed_s
            if self.supply_v < _LEAST_V or (self.timeout_ms and self._silent_s[i] * 1000 > self.timeout_ms):
                motor.cut()
            motor.advance(elapsed_s)
        return []

    def receive(self, data: bytes) -> list[bytes]:
        self._heard += data
        answers = []
        while (payload := next_payload(self._heard)) is not None:
            forwarded = payload[0] == 34 and len(payload) > 2
            which = self.ids.index(payload[1]) if forwarded and payload[1] in self.ids else None if forwarded else 0
            if which is not None and which not in self._gone:
                answers += self._obey(which, payload[2:] if forwarded else payload)
        return answers

    def _obey(self, i: int, payload: bytes) -> list[bytes]:
        motor, name = self.motors[i], self.ids[i] + (100 if self.wrong_id else 0)
        if payload == b"\0":
            return [frame(b"\0\x06\x05" + b"60_MK6\0" + self.uids[i] + bytes(6))]
        if payload[0] in (6, 8) and len(payload) == 5:
            value = int.from_bytes(payload[1:], "big", signed=True)
            self._silent_s[i] = 0.0
            if payload[0] == 6 and value == 0:
                motor.cut()
            elif payload[0] == 8 and self.supply_v >= _LEAST_V:
                motor.energised, motor.turning = True, value / ERPM
        elif payload[0] == 4:
            fault = 2 if self.supply_v < _LEAST_V else 0
            position, way = self._from[i]
            steps = [round((now - then) * ERPM / 10) for now, then in ((motor.position, position), (motor.travelled, way))]
            erpm, supply = round(motor.velocity * ERPM), round(self.supply_v * 10)
            values = (300, 0, 120, 0, 0, 0, 0, erpm, supply, 0, 0, 0, 0, *steps, fault, 0)
            return [frame(b"\x04" + struct.pack(">hhiiiihihiiiiiiBiB", *values, name) + bytes(14) + bytes((2 * self.killed,)))]
        elif payload[0] == 17:
            return [frame(b"\x11" + b"\xc2\x9a\x01\x02" + bytes((name,)) + self.timeout_ms.to_bytes(4, "big") + bytes(400))]
        return []
