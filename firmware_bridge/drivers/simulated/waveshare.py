"""A Waveshare UGV board: lines of JSON, two sides, a heartbeat. As in its own firmware, what is too fast is not heeded."""

from __future__ import annotations

import json

from firmware_bridge.drivers.simulated.motor import Motor

_LEAST_V, _FASTEST = 6.0, 2.0


class Waveshare:
    """general: with the firmware ugv_base_general, which counts no way and tells volts. share: what it tells as a speed for
    1 m/s; hundreds for a product without speed control."""

    def __init__(self, general: bool = False, share: float = 1.0) -> None:
        self.general, self.share = general, share
        self.motors = [Motor(), Motor()]
        self.supply_v = 12.0
        self.wrong_id = False  # answers carry no name
        self.heartbeat_ms = 3000
        self._silent_s = 0.0
        self._heard = bytearray()

    def reset(self) -> None:
        self.heartbeat_ms = 3000
        for motor in self.motors:
            motor.cut()

    def remove(self, motor: int) -> None:
        self.motors[motor].cut()  # and nothing tells

    def advance(self, elapsed_s: float) -> list[bytes]:
        self._silent_s += elapsed_s
        for motor in self.motors:
            if self._silent_s * 1000 > self.heartbeat_ms or self.supply_v < _LEAST_V:
                motor.cut()
            motor.advance(elapsed_s)
        return []

    def receive(self, data: bytes) -> list[bytes]:
        self._heard += data
        answers = []
        while (end := self._heard.find(b"\n")) >= 0:
            text = bytes(self._heard[:end])
            del self._heard[: end + 1]
            try:
                asked = json.loads(text)
                answers += self._obey(asked)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return answers

    def _obey(self, asked: dict[str, float]) -> list[bytes]:
        left, right = self.motors
        if asked["T"] == 1:
            self._silent_s = 0.0
            if max(abs(asked["L"]), abs(asked["R"])) > _FASTEST:
                return []
            for motor, speed in ((left, asked["L"]), (right, asked["R"])):
                motor.turning, motor.energised = float(speed), speed != 0 and self.supply_v >= _LEAST_V
        elif asked["T"] == 136:
            self.heartbeat_ms = int(asked["cmd"])
        elif asked["T"] == 130:
            said = {"T": 1001, "L": self._told(left), "R": self._told(right), "r": 0.1, "p": 0.2, "y": 0.3}
            if self.general:
                said["v"] = self.supply_v
            else:
                said |= {"odl": round(left.position * 100), "odr": round(right.position * 100)}
                said["v"] = round(self.supply_v * 100)
            return [json.dumps(said, separators=(",", ":")).encode("ascii") + b"\r\n"]
        return []

    def _told(self, motor: Motor) -> float:
        return round(self.share * motor.velocity, 4)
