"""Copters that are in the air already: velocities in GUIDED mode of ArduPilot, or in OFFBOARD mode of PX4.

A copter must never fall, and it has a pilot. So this driver neither arms nor disarms nor takes off; it takes over from a pilot
who flies, gives back by holding in place, and takes its hands off as soon as the mode is no longer the one it asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firmware_bridge.controller import Axis, AxisMode, BridgeError, Health
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.mavlink_link import (
    ARDUPILOT,
    ARM_DISARM,
    ARMED,
    DANGER,
    FORCE,
    FRESH_S,
    PX4,
    SET_MODE,
    VELOCITIES,
    Allowed,
    MavlinkLink,
    Without,
)
from firmware_bridge.drivers.spec import Spec

TYPES = (2, 3, 4, 13, 14, 15, 29, 35)
"""Of a heartbeat: what lifts itself with rotors and stands in the air."""
STREAMS = {30: 50_000, 32: 50_000, 245: 200_000, 1: 200_000}
"""ATTITUDE, LOCAL_POSITION_NED, EXTENDED_SYS_STATE and SYS_STATUS: microseconds between two."""
ON_GROUND, IN_AIR = 1, 2
LOCAL_FRAME, BODY_FRAME = 1, 8
BELIEVED_S = 1.0
"""For so long after a change of mode a heartbeat with the old one may still be under way."""
SILENT_S = UNSURE_S = 3.0
FLOWING_S, GAP_S = 1.0, 0.4
"""PX4 wants setpoints for a second, faster than two each second, before it goes to OFFBOARD."""
STILL = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Autopilot:
    """ours, hold, land: modes, as the parameters of MAV_CMD_DO_SET_MODE behind the first. flows: setpoints must flow before it
    goes to our mode. safe: what its failsafes must be."""

    name: str
    number: int
    ours: tuple[int, ...]
    hold: tuple[int, ...]
    land: tuple[int, ...]
    flows: bool
    safe: dict[str, Allowed]

    def mode_of(self, custom: int) -> tuple[int, ...]:
        """Of a heartbeat."""
        return (custom >> 16 & 0xFF, custom >> 24 & 0xFF) if self.number == PX4 else (custom,)


AUTOPILOTS = {
    # GUIDED, BRAKE and LAND. GUID_TIMEOUT ends a velocity, FS_GCS_TIMEOUT is how long our heartbeat may be away, FS_THR_ENABLE
    # is the failsafe of the pilot's radio, without which nobody could take over; FS_OPTIONS could except GUIDED from it.
    "copter": Autopilot(
        "ArduPilot copter",
        ARDUPILOT,
        (4,),
        (17,),
        (9,),
        False,
        {
            "FS_GCS_ENABLE": (1, 7),
            "FS_GCS_TIMEOUT": (0.1, 10),
            "GUID_TIMEOUT": (0.1, 3),
            "FS_THR_ENABLE": (1, 7),
            "FS_OPTIONS": Without(4),
        },
    ),
    # OFFBOARD, Hold and Land. Of the answers to lost setpoints Position, Return, Land and Hold are safe; Altitude and
    # Stabilized drift, Terminate and Disarm fall. COM_RCL_EXCEPT could except OFFBOARD from the failsafe of the pilot's radio.
    "px4": Autopilot(
        "PX4 copter",
        PX4,
        (6, 0),
        (4, 3),
        (4, 6),
        True,
        {
            "COM_OF_LOSS_T": (0.1, 2),
            "COM_OBL_RC_ACT": frozenset((0, 3, 4, 5)),
            "NAV_RCL_ACT": frozenset((1, 2, 3)),
            "COM_RCL_EXCEPT": Without(4),
        },
    ),
}


class Copter(MavlinkLink):
    """A :class:`~firmware_bridge.drivers.device.Device`. Its axes are those of MAVLink's body frame: forward, right, down, and
    turning clockwise as seen from above."""

    def __init__(self, spec: Spec, axes: Sequence[str], kind: str) -> None:
        super().__init__(
            spec.port, spec.integer("baud", 115_200, 9600, 3_000_000), spec.integer("system", 1, 1, 255), "copter"
        )
        self._pilot = AUTOPILOTS[kind]
        self._estop = spec.choice("estop", ("brake", "land", "kill"))
        speed = spec.numbers("speed", 4, None, 0.01, 20) if "speed" in spec.options else (1.0, 1.0, 0.5, 0.5)
        faster = spec.numbers("acceleration", 4, None, 0.01, 50) if "acceleration" in spec.options else (1.0, 1.0, 0.5, 1.0)
        names = spec.names(axes, 4) if axes else ("forward", "right", "down", "turn")
        units = ("m/s", "m/s", "m/s", "rad/s")
        self.axes: tuple[Axis, ...] = tuple(
            Axis(name, AxisMode.VELOCITY, unit, -v, v, v, a)
            for name, unit, v, a in zip(names, units, speed, faster, strict=True)
        )
        self._signs = spec.signs(4)
        self.untestable = "a copter is in the hands of its pilot, and is flown by nobody for a test; its failsafes were only read"
        self._ours = False
        """Whether we asked for our mode and have not given it back."""

    def _start(self) -> None:
        super()._start()
        self._way = [0.0] * 4
        self._enabled_s = 0.0
        self._confirmed = False
        self._braking_s = 0.0
        self._flowing_s = self._pointed_s = 0.0
        self._unsure_s = -UNSURE_S
        """When our mode was asked for last without an acknowledgement."""

    def open(self, timeout_s: float) -> str:
        """Changes nothing on a vehicle that may be flying, unless this driver flew it when the link was lost."""
        self._meet(timeout_s, self._pilot.number, TYPES, self._pilot.name)
        self._check(self._pilot.safe, self._pilot.number)
        self._stream(STREAMS)
        version = self._version()
        for message in ("ATTITUDE", "LOCAL_POSITION_NED", "EXTENDED_SYS_STATE"):
            if message not in self._newest and self._wait(message, lambda _: True, 1.0) is None:
                raise BridgeError(
                    f"vehicle {self._system} on {self._port} sends no {message}: see to its sensors and its position estimate"
                )
        while self._pilot.flows and not self._flows() and not self.urgent.is_set():
            self._point(STILL)
            self._listen(0.05)
        return f"{self._pilot.name} {self._system}, firmware {version}"

    def read(self) -> Reading:
        before_s = self._heard_s["ATTITUDE"]
        self._beat()
        self._listen(0.02)
        if self._age_s("ATTITUDE") > FRESH_S or self._age_s("LOCAL_POSITION_NED") > FRESH_S:
            raise NoAnswer("no attitude or no position")
        if self._pilot.flows and not self._ours:
            self._point(STILL)  # outside of OFFBOARD nobody heeds it; without it OFFBOARD would be refused
        if time.monotonic() - self._unsure_s < UNSURE_S and self._mode() == self._pilot.ours:
            self._unsure_s = -UNSURE_S  # only the acknowledgement was lost: it is given back, for nobody is armed
            self._send(self._order(SET_MODE, 1, *self._pilot.hold))
        attitude, local = self._newest["ATTITUDE"], self._newest["LOCAL_POSITION_NED"]
        speeds = [sign * each for sign, each in zip(self._signs, _body(attitude, local), strict=True)]
        for i, speed in enumerate(speeds):
            self._way[i] += speed * (self._heard_s["ATTITUDE"] - before_s)
        status = self._newest.get("SYS_STATUS")
        supply_v = None if status is None or status.voltage_battery in (0, 65535) else status.voltage_battery / 1000
        return Reading(tuple(self._way), tuple(speeds), (), None, tuple(self._faults()), Health(supply_v))

    def enable(self, reading: Reading) -> None:
        if not self._flying():
            raise BridgeError(
                "the copter does not fly: its pilot arms it, takes off and holds it in the air; this driver never does either"
            )
        if self._pilot.flows and not self._flows():
            raise BridgeError("setpoints have not reached the copter for a second yet: try again")
        self._point(STILL)
        try:
            self._tell(SET_MODE, 1, *self._pilot.ours)
        except NoAnswer:
            self._unsure_s = time.monotonic()
            raise
        self._ours, self._confirmed, self._enabled_s = True, False, time.monotonic()
        self._braking_s, self._unsure_s = 0.0, -UNSURE_S

    def command(self, values: Sequence[float]) -> None:
        self._point(values)

    def rest(self) -> None:
        """Hold in place. Not a word to a copter that somebody else flies."""
        if self._let_go():
            return
        self._point(STILL)
        self._tell(SET_MODE, 1, *self._pilot.hold)
        self._ours = False

    def cut(self) -> None:
        """Brake, land or, where that was asked for in so many words, fall. Until the copter has confirmed it; then the pilot's
        switch must count again."""
        if self._estop == "kill":
            self._send(self._order(ARM_DISARM, 0, FORCE))
            return
        if self._let_go():
            return
        self._braking_s = self._braking_s or time.monotonic()
        self._point(STILL)
        self._send(self._order(SET_MODE, 1, *(self._pilot.hold if self._estop == "brake" else self._pilot.land)))

    def clear(self) -> None:
        pass  # the autopilot ends its emergencies by itself

    # -- small parts -------------------------------------------------------------------------------------------------

    def _faults(self) -> list[str]:
        heartbeat = self._newest["HEARTBEAT"]
        faults = ["the autopilot reports an emergency"] if heartbeat.system_status in DANGER else []
        if self._age_s("HEARTBEAT") > SILENT_S:
            faults.append("the autopilot sends no heartbeat")
        if not self._ours:
            return faults
        if self._taken_over():
            faults.append(f"the pilot or the autopilot has taken over (mode {'.'.join(map(str, self._mode()))})")
        if not heartbeat.base_mode & ARMED:
            faults.append("the copter was disarmed")
        elif self._newest["EXTENDED_SYS_STATE"].landed_state == ON_GROUND:
            faults.append("the copter is on the ground")
        return faults

    def _flying(self) -> bool:
        armed = bool(self._newest["HEARTBEAT"].base_mode & ARMED) and self._age_s("HEARTBEAT") < SILENT_S
        return armed and self._newest["EXTENDED_SYS_STATE"].landed_state == IN_AIR and self._age_s("EXTENDED_SYS_STATE") < 1.0

    def _mode(self) -> tuple[int, ...]:
        return self._pilot.mode_of(self._newest["HEARTBEAT"].custom_mode)

    def _taken_over(self) -> bool:
        known = self._confirmed or time.monotonic() - self._enabled_s > BELIEVED_S
        return known and self._mode() != self._pilot.ours

    def _let_go(self) -> bool:
        """Whether the copter is not ours to command, or no longer."""
        if self._ours and self._taken_over():
            self._ours = False
        return not self._ours

    def _noted(self, kind: str, message: Any) -> None:
        if kind == "HEARTBEAT" and self._mode() == self._pilot.ours:
            self._confirmed = self._ours
        elif kind == "COMMAND_ACK" and self._braking_s and message.command == SET_MODE and message.result == 0:
            self._ours, self._braking_s = False, 0.0

    def _flows(self) -> bool:
        return time.monotonic() - self._flowing_s >= FLOWING_S and time.monotonic() - self._pointed_s < GAP_S

    def _point(self, values: Sequence[float]) -> None:
        """Velocities in the body's frame, without its tilt. ArduPilot turns them by the heading itself; PX4 has turned them by
        the whole attitude in some versions, so that there they are turned here."""
        now_s = time.monotonic()
        if now_s - self._pointed_s > GAP_S:
            self._flowing_s = now_s
        self._pointed_s = now_s
        ahead, right, down, turning = (sign * value for sign, value in zip(self._signs, values, strict=True))
        frame = BODY_FRAME
        if self._pilot.number == PX4:
            frame, yaw = LOCAL_FRAME, self._newest["ATTITUDE"].yaw
            ahead, right = (
                ahead * math.cos(yaw) - right * math.sin(yaw),
                ahead * math.sin(yaw) + right * math.cos(yaw),
            )
        still = (0.0, 0.0, 0.0)
        self._send(
            self._mav.set_position_target_local_ned_encode(
                0, self._system, 1, frame, VELOCITIES, *still, ahead, right, down, *still, 0.0, turning
            )
        )


def _body(attitude: Any, local: Any) -> tuple[float, float, float, float]:
    """Forward, right and down in m/s, turning in rad/s: the local velocities turned back by the heading."""
    cos, sin = math.cos(attitude.yaw), math.sin(attitude.yaw)
    return local.vx * cos + local.vy * sin, local.vy * cos - local.vx * sin, local.vz, attitude.yawspeed
