"""A copter that hovers, with ArduPilot or PX4, as far as MAVLink shows one: its motors are forward, right, down and turning."""

from __future__ import annotations

import math
import struct
from typing import Any

from firmware_bridge.drivers.mavlink_link import ARM_DISARM, FORCE, SET_MODE
from firmware_bridge.drivers.simulated.vehicle import Vehicle

YAW = 2.5
"""Its heading; turning does not change it here."""
_LOW_V = 10.5
_ARDUPILOT = {"FS_GCS_ENABLE": 1.0, "FS_GCS_TIMEOUT": 5.0, "GUID_TIMEOUT": 1.0, "FS_THR_ENABLE": 1.0, "FS_OPTIONS": 16.0}
_PX4 = {"COM_OF_LOSS_T": 1.0, "COM_OBL_RC_ACT": 0, "NAV_RCL_ACT": 2, "COM_RCL_EXCEPT": 0}


class Copter(Vehicle):
    """A motor counts as energised while the copter obeys velocities. mode: as in its heartbeat; set it to take over as its
    pilot. fallen: the motors were switched off in the air."""

    LOITER, GUIDED, RTL, LAND = 5, 4, 6, 9

    def __init__(self, beat_s: float = 0.05) -> None:
        super().__init__(4, dict(_ARDUPILOT), beat_s)
        self.mode = self.LOITER
        self.armed, self.in_air, self.fallen = True, True, False
        self.orders: list[tuple[int, float, float, float]] = []
        """Every command that came: its number and the first three parameters."""
        self._without_s = self._flowing_s = 0.0

    def reset(self) -> None:
        """The autopilot restarts, and what flew falls."""
        self.mode, self.armed, self.fallen = self.LOITER, False, self.in_air
        self._flowing_s = 0.0
        self._stop()

    def _live(self, elapsed_s: float) -> None:
        self._without_s += elapsed_s
        self._flowing_s = self._flowing_s + elapsed_s if self._without_s < 0.5 else 0.0
        self._failsafes()
        for motor in self.motors:
            motor.energised = self.armed and self.mode == self.GUIDED
            if not motor.energised:
                motor.turning = 0.0
            motor.advance(elapsed_s)

    def _aim(self, message: Any) -> None:
        self._flowing_s = 0.0 if self._without_s >= 0.5 else self._flowing_s
        self._without_s = 0.0
        if self.mode == self.GUIDED:
            for motor, speed in zip(self.motors, self._velocities(message), strict=True):
                motor.turning = speed

    # -- what differs with PX4 ---------------------------------------------------------------------------------------

    def _failsafes(self) -> None:
        if self.supply_v < _LOW_V and self.mode == self.GUIDED:
            self.mode = self.LAND
        if self._silent_s > self.parameters["FS_GCS_TIMEOUT"] and self.mode == self.GUIDED:
            self.mode = self.RTL
        if self._without_s > self.parameters["GUID_TIMEOUT"]:
            self._stop()

    def _mode_of(self, message: Any) -> int | None:
        """None for one that is refused now."""
        return int(message.param2)

    def _velocities(self, message: Any) -> tuple[float, float, float, float]:
        assert message.coordinate_frame == 8 and message.type_mask == 0x05C7
        return message.vx, message.vy, message.vz, message.yaw_rate

    def _heartbeat(self) -> Any:
        status = 5 if self.supply_v < _LOW_V else 4
        return self._mouth.heartbeat_encode(2, 3, 1 | (128 if self.armed else 0), self.mode, status)

    # -- small parts -------------------------------------------------------------------------------------------------

    def _obey(self, message: Any) -> int:
        self.orders.append((message.command, message.param1, message.param2, message.param3))
        if message.command == ARM_DISARM:
            if message.param1:
                return 4  # nobody may count on that
            if message.param2 != FORCE and self.in_air:
                return 4
            self.armed, self.fallen = False, self.in_air
            self._stop()
        elif message.command == SET_MODE:
            mode = self._mode_of(message)
            if mode is None:
                return 1
            self.mode = mode
        return 0

    def _stop(self) -> None:
        for motor in self.motors:
            motor.turning = 0.0

    def _report(self) -> list[Any]:
        ahead, right, down, turning = (motor.velocity for motor in self.motors)
        north, east = ahead * math.cos(YAW) - right * math.sin(YAW), ahead * math.sin(YAW) + right * math.cos(YAW)
        return [
            self._mouth.attitude_encode(0, 0.1, -0.2, YAW, 0.0, 0.0, turning),
            self._mouth.local_position_ned_encode(0, 0.0, 0.0, -5.0, north, east, down),
            self._mouth.extended_sys_state_encode(0, 2 if self.in_air else 1),
            self._supply(),
        ]


class Px4Copter(Copter):
    """Its modes are OFFBOARD in place of GUIDED and Position in place of LOITER. flowing_s: for how long it wants setpoints
    first."""

    LOITER, GUIDED, RTL, LAND = 3 << 16, 6 << 16, 4 << 16 | 5 << 24, 4 << 16 | 6 << 24

    def __init__(self, beat_s: float = 0.05, flowing_s: float = 1.0) -> None:
        super().__init__(beat_s)
        self._wants_s = flowing_s
        self.parameters = dict(_PX4)

    def _failsafes(self) -> None:
        if self.supply_v < _LOW_V and self.mode == self.GUIDED:
            self.mode = self.LAND
        if self._without_s > self.parameters["COM_OF_LOSS_T"] and self.mode == self.GUIDED:
            self.mode = self.LOITER

    def _mode_of(self, message: Any) -> int | None:
        mode = int(message.param2) << 16 | int(message.param3) << 24
        return None if mode == self.GUIDED and self._flowing_s < self._wants_s else mode

    def _velocities(self, message: Any) -> tuple[float, float, float, float]:
        assert message.coordinate_frame == 1 and message.type_mask == 0x05C7
        cos, sin = math.cos(YAW), math.sin(YAW)
        return message.vx * cos + message.vy * sin, message.vy * cos - message.vx * sin, message.vz, message.yaw_rate

    def _encoded(self, name: str) -> tuple[float, int]:
        value = self.parameters[name]
        return (value, 9) if isinstance(value, float) else (struct.unpack("<f", struct.pack("<i", value))[0], 6)

    def _heartbeat(self) -> Any:
        status = 5 if self.supply_v < _LOW_V else 4
        return self._mouth.heartbeat_encode(2, 12, 1 | (128 if self.armed else 0), self.mode, status)
