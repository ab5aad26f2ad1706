"""An ODrive with two axes that speaks ASCII, with the watchdog of each axis."""

from __future__ import annotations

import math
from functools import reduce

from firmware_bridge.drivers.simulated.motor import Motor

TURN = 2 * math.pi
_LEAST_V = 8.0


class Odrive:
    def __init__(self) -> None:
        self.motors = [Motor(), Motor()]
        self.supply_v = 24.0
        self.wrong_id = False  # answers carry no name
        self.serial = 0x2082357B4D53
        self._heard = bytearray()
        self._values: dict[str, float] = {}
        self._silent_s = [0.0, 0.0]
        self.reset()

    def reset(self) -> None:
        self._values = {"fw_version_major": 0, "fw_version_minor": 5, "fw_version_revision": 6}
        self._values["serial_number"] = self.serial
        for i, motor in enumerate(self.motors):
            motor.cut()
            self._values |= {f"axis{i}.current_state": 1, f"axis{i}.error": 0}
            self._values |= {f"axis{i}.config.watchdog_timeout": 0, f"axis{i}.config.enable_watchdog": 0}

    def remove(self, motor: int) -> None:
        self._fail(motor, 0x40)

    def advance(self, elapsed_s: float) -> list[bytes]:
        self._values["vbus_voltage"] = self.supply_v
        for i, motor in enumerate(self.motors):
            self._silent_s[i] += elapsed_s
            if self.supply_v < _LEAST_V:
                self._fail(i, 0x2)
            watched = self._values[f"axis{i}.config.enable_watchdog"]
            if watched and self._silent_s[i] > self._values[f"axis{i}.config.watchdog_timeout"]:
                self._fail(i, 0x800)
            motor.energised = self._values[f"axis{i}.current_state"] == 8
            motor.advance(elapsed_s)
        return []

    def receive(self, data: bytes) -> list[bytes]:
        self._heard += data
        answers = []
        while (end := self._heard.find(b"\n")) >= 0:
            body, star, checksum = bytes(self._heard[:end]).rpartition(b"*")
            del self._heard[: end + 1]
            if star and checksum == b"%d" % reduce(lambda a, b: a ^ b, body, 0):
                answers += self._obey(body.decode("ascii", "replace").split())
        return answers

    def _obey(self, words: list[str]) -> list[bytes]:
        try:
            return self._do(words)
        except (ValueError, IndexError):
            return [_reply("unknown command")]

    def _do(self, words: list[str]) -> list[bytes]:
        verb = words[0]
        if verb == "v":
            motor, speed = int(words[1]), float(words[2])
            self._silent_s[motor] = 0.0
            self.motors[motor].turning = speed * TURN
        elif verb == "u":
            self._silent_s[int(words[1])] = 0.0
        elif verb == "f":
            motor = int(words[1])
            return [_reply(f"{self.motors[motor].position / TURN:.5f} {self.motors[motor].velocity / TURN:.5f}")]
        elif verb == "sc":
            for i in (0, 1):
                self._values[f"axis{i}.error"] = 0
                self._silent_s[i] = 0.0
        elif verb == "r":
            return [_reply(f"{self._values[words[1]]:.15g}" if words[1] in self._values else "invalid property")]
        elif verb == "w":
            name, value = words[1], float(words[2])
            if name.endswith(".requested_state"):
                failed = self._values[f"{name[:5]}.error"]
                self._values[f"{name[:5]}.current_state"] = 1 if failed else value
                self.motors[int(name[4])].energised = value == 8 and not failed
            else:
                self._values[name] = value
        return []

    def _fail(self, motor: int, error: int) -> None:
        self._values[f"axis{motor}.error"] = int(self._values[f"axis{motor}.error"]) | error
        self._values[f"axis{motor}.current_state"] = 1


def _reply(text: str) -> bytes:
    body = text.encode("ascii")
    return body + b"*%d\r\n" % reduce(lambda a, b: a ^ b, body)
