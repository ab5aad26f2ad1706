"""A rover with ArduPilot, as far as MAVLink shows one: its motors are speed ahead and turning."""

from __future__ import annotations

from typing import Any

from firmware_bridge.drivers.mavlink_link import ARM_DISARM, SET_MODE
from firmware_bridge.drivers.simulated.vehicle import Vehicle

HOLD, GUIDED = 4, 15
_LEAST_V = 6.0


class Rover(Vehicle):
    def __init__(self, beat_s: float = 0.3) -> None:
        super().__init__(2, {"FS_GCS_ENABLE": 1.0, "FS_ACTION": 2.0, "FS_TIMEOUT": 1.5}, beat_s)
        self._mode = HOLD

    def reset(self) -> None:
        self._mode = HOLD
        for motor in self.motors:
            motor.cut()

    def _live(self, elapsed_s: float) -> None:
        if self.supply_v < _LEAST_V or self._silent_s > self.parameters["FS_TIMEOUT"]:
            self.reset()
        for motor in self.motors:
            motor.advance(elapsed_s)

    def _obey(self, message: Any) -> int:
        if message.command == ARM_DISARM:
            for motor in self.motors:
                if message.param1:
                    motor.energised = self.supply_v >= _LEAST_V
                else:
                    motor.cut()
        elif message.command == SET_MODE:
            self._mode = int(message.param2)
        return 0

    def _aim(self, message: Any) -> None:
        if self._mode == GUIDED:
            for motor, speed in zip(self.motors, (message.vx, message.yaw_rate), strict=True):
                motor.turning = speed

    def _heartbeat(self) -> Any:
        armed = any(motor.energised for motor in self.motors)
        return self._mouth.heartbeat_encode(10, 3, 128 if armed else 0, self._mode, 4)

    def _report(self) -> list[Any]:
        ahead, turning = (motor.velocity for motor in self.motors)
        return [
            self._mouth.attitude_encode(0, 0.0, 0.0, 0.0, 0.0, 0.0, turning),
            self._mouth.local_position_ned_encode(0, 0.0, 0.0, 0.0, ahead, 0.0, 0.0),
            self._supply(),
        ]
