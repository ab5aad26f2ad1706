"""A rover with ArduPilot, as far as MAVLink shows one: its motors are speed ahead and turning."""

from __future__ import annotations

from typing import Any

from firmware_bridge.drivers.mavlink_link import dialect
from firmware_bridge.drivers.simulated.motor import Motor

_LEAST_V = 6.0


class Rover:
    def __init__(self) -> None:
        self._messages = dialect()
        self.motors = [Motor(), Motor()]
        self.supply_v = 12.0
        self.wrong_id = False
        self.beat_every_s = 0.3
        self.parameters = {"FS_GCS_ENABLE": 1.0, "FS_ACTION": 2.0, "FS_TIMEOUT": 1.5}
        self.uid = 0x1D002A
        self._mode = 4
        self._silent_s = 0.0
        self._said_s = {"beat": 0.0, "state": 0.0}
        self._ears: Any = self._messages.MAVLink(None)
        self._ears.robust_parsing = True
        self._mouth: Any = self._messages.MAVLink(None, srcSystem=1, srcComponent=1)

    def reset(self) -> None:
        self._mode = 4
        for motor in self.motors:
            motor.cut()

    def remove(self, motor: int) -> None:
        self.motors[motor].cut()  # and nothing tells

    def advance(self, elapsed_s: float) -> list[bytes]:
        self._silent_s += elapsed_s
        if self.supply_v < _LEAST_V or self._silent_s > self.parameters["FS_TIMEOUT"]:
            self.reset()
        for motor in self.motors:
            motor.advance(elapsed_s)
        said = []
        for what, every_s in (("beat", self.beat_every_s), ("state", 0.02)):
            self._said_s[what] += elapsed_s
            if self._said_s[what] >= every_s:
                self._said_s[what] = 0.0
                said += self._report() if what == "state" else [self._heartbeat()]
        return [self._packed(message) for message in said]

    def receive(self, data: bytes) -> list[bytes]:
        answers = []
        for message in self._ears.parse_buffer(data) or []:
            kind = message.get_type()
            if kind == "HEARTBEAT":
                self._silent_s = 0.0
            elif kind == "PARAM_REQUEST_READ" and message.param_id in self.parameters:
                name = message.param_id
                answers.append(self._mouth.param_value_encode(name.encode(), self.parameters[name], 9, 1, 0))
            elif kind == "COMMAND_LONG":
                answers.append(self._mouth.command_ack_encode(message.command, self._obey(message)))
                if message.command == 512 and message.param1 == 148:
                    answers.append(self._mouth.autopilot_version_encode(0, 0x04050700, 0, 0, 0, *(bytes(8),) * 3, 0, 0, self.uid))
            elif kind == "SET_POSITION_TARGET_LOCAL_NED" and self._mode == 15:
                for motor, speed in zip(self.motors, (message.vx, message.yaw_rate), strict=True):
                    motor.turning = speed
        return [self._packed(answer) for answer in answers]

    def _obey(self, message: Any) -> int:
        if message.command == 400:
            for motor in self.motors:
                if message.param1:
                    motor.energised = self.supply_v >= _LEAST_V
                else:
                    motor.cut()
        elif message.command == 176:
            self._mode = int(message.param2)
        return 0

    def _heartbeat(self) -> Any:
        armed = any(motor.energised for motor in self.motors)
        return self._mouth.heartbeat_encode(10, 3, 128 if armed else 0, self._mode, 4)

    def _report(self) -> list[Any]:
        ahead, turning = (motor.velocity for motor in self.motors)
        return [
            self._mouth.attitude_encode(0, 0.0, 0.0, 0.0, 0.0, 0.0, turning),
            self._mouth.local_position_ned_encode(0, 0.0, 0.0, 0.0, ahead, 0.0, 0.0),
            self._mouth.sys_status_encode(0, 0, 0, 0, round(self.supply_v * 1000), 0, 0, 0, 0, 0, 0, 0, 0),
        ]

    def _packed(self, message: Any) -> bytes:
        self._mouth.srcSystem = 77 if self.wrong_id else 1
        wire = bytes(message.pack(self._mouth))
        self._mouth.seq = (self._mouth.seq + 1) % 256
        return wire
