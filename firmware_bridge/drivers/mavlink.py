"""Vehicles over MAVLink: rovers here, copters in mavlink_copter. Needs the package pymavlink (extra mavlink)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from firmware_bridge.controller import Axis, AxisMode, BridgeError, Health
from firmware_bridge.drivers import mavlink_copter
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.device import Device, Reading
from firmware_bridge.drivers.mavlink_link import (
    ARDUPILOT,
    ARM_DISARM,
    ARMED,
    DANGER,
    FORCE,
    FRESH_S,
    SET_MODE,
    VELOCITIES,
    Allowed,
    MavlinkLink,
)
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec

KEYS = {
    "baud": "115200",
    "system": "1: the id of the vehicle",
    "vehicle": "rover or copter (both with ArduPilot), or px4 (a multicopter)",
    "speed": "largest speed, 0.5 m/s, and largest turning rate, 1 rad/s: speed=0.5,1; four of them for copters",
    "acceleration": "1 m/s^2 and 4 rad/s^2: acceleration=1,4; four of them for copters",
    "signs": "-1 where an axis counts the other way",
    "estop": "brake, land or kill: what an emergency stop does to a copter; kill lets it fall",
    "rate": "turns per second, 20",
}
ROVER_TYPES = (10, 11)
GUIDED, HOLD = 15, 4
BODY_FRAME = 8
STREAMS = {30: 50_000, 32: 50_000, 1: 200_000}
"""ATTITUDE, LOCAL_POSITION_NED and SYS_STATUS: microseconds between two."""
SAFE: dict[str, Allowed] = {"FS_GCS_ENABLE": (1, 2), "FS_ACTION": (1, 6), "FS_TIMEOUT": (0.1, 5)}
"""What the failsafe must be: without a heartbeat of ours for FS_TIMEOUT seconds the rover does FS_ACTION."""
LEAST_V = 6.5
BELIEVED_S = 1.6
"""From when on after arming a heartbeat that says "not armed" is believed; one comes every second."""


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be, or without pymavlink."""
    vehicle = spec.choice("vehicle", ("rover", *mavlink_copter.AUTOPILOTS))
    if vehicle == "rover" and "estop" in spec.options:
        raise BridgeError(f"{spec.text} has the key 'estop', which is for copters: leave it out, a rover is always disarmed")
    device: Device = Rover(spec, axes) if vehicle == "rover" else mavlink_copter.Copter(spec, axes, vehicle)
    return ServoLoop(device, spec, rate_hz=spec.number("rate", 20, 5, 50))


class Rover(MavlinkLink):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        super().__init__(
            spec.port, spec.integer("baud", 115_200, 9600, 3_000_000), spec.integer("system", 1, 1, 255), "rover"
        )
        speed, turning = spec.numbers("speed", 2, None, 0.01, 50) if "speed" in spec.options else (0.5, 1.0)
        faster, harder = spec.numbers("acceleration", 2, None, 0.01, 500) if "acceleration" in spec.options else (1.0, 4.0)
        names = spec.names(axes, 2) if axes else ("forward", "turn")
        self.axes: tuple[Axis, ...] = (
            Axis(names[0], AxisMode.VELOCITY, "m/s", -speed, speed, speed, faster),
            Axis(names[1], AxisMode.VELOCITY, "rad/s", -turning, turning, turning, harder),
        )
        self._signs = spec.signs(2)
        self.unprovable = "how far the rover goes is not known then; its failsafe was only read, and may let it drive on for 5 s"

    def _start(self) -> None:
        super()._start()
        self._way = [0.0, 0.0]
        self._enabled_s = 0.0
        self._armed: bool | None = None

    def open(self, timeout_s: float) -> str:
        self._meet(timeout_s, ARDUPILOT, ROVER_TYPES, "rover with ArduPilot")
        self._check(SAFE, ARDUPILOT)
        self.rest()
        self._stream(STREAMS)
        if self._wait("ATTITUDE", lambda _: True, 1.0) is None:
            raise BridgeError(f"vehicle {self._system} on {self._port} sends no ATTITUDE: see to its sensors")
        return f"ArduPilot rover {self._system}, firmware {self._version()}"

    def read(self) -> Reading:
        before_s = self._heard_s["ATTITUDE"]
        self._beat()
        self._listen(0.02)
        if self._age_s("ATTITUDE") > FRESH_S:
            raise NoAnswer("no attitude")
        attitude: Any = self._newest["ATTITUDE"]
        local, status = self._newest.get("LOCAL_POSITION_NED"), self._newest.get("SYS_STATUS")
        ahead = 0.0 if local is None else local.vx * math.cos(attitude.yaw) + local.vy * math.sin(attitude.yaw)
        speeds = [sign * each for sign, each in zip(self._signs, (ahead, attitude.yawspeed), strict=True)]
        for i, speed in enumerate(speeds):
            self._way[i] += speed * (self._heard_s["ATTITUDE"] - before_s)
        supply_v = None if status is None or status.voltage_battery == 65535 else status.voltage_battery / 1000
        faults = ["under-voltage"] if supply_v is not None and supply_v < LEAST_V else []
        if self._newest["HEARTBEAT"].system_status in DANGER:
            faults.append("the autopilot reports an emergency")
        return Reading(tuple(self._way), tuple(speeds), (), self._armed, tuple(faults), Health(supply_v))

    def enable(self, reading: Reading) -> None:
        self.command((0.0, 0.0))
        self._tell(SET_MODE, 1, GUIDED)
        self._tell(ARM_DISARM, 1)
        self._armed, self._enabled_s = None, time.monotonic()

    def command(self, values: Sequence[float]) -> None:
        ahead, turning = (sign * value for sign, value in zip(self._signs, values, strict=True))
        still = (0.0, 0.0, 0.0)
        self._send(
            self._mav.set_position_target_local_ned_encode(
                0, self._system, 1, BODY_FRAME, VELOCITIES, *still, ahead, 0.0, 0.0, *still, 0.0, turning
            )
        )

    def rest(self) -> None:
        self.command((0.0, 0.0))
        self._enabled_s = 0.0
        self._tell(ARM_DISARM, 0)
        self._tell(SET_MODE, 1, HOLD)

    def cut(self) -> None:
        self._enabled_s = 0.0
        self._send(self._order(ARM_DISARM, 0, FORCE))

    def clear(self) -> None:
        pass  # the autopilot ends its emergencies by itself

    def _noted(self, kind: str, message: Any) -> None:
        if kind == "HEARTBEAT":
            armed = bool(message.base_mode & ARMED)
            if armed or time.monotonic() - self._enabled_s > BELIEVED_S:  # an older one may still be under way
                self._armed = armed
