"""Rovers with ArduPilot, over MAVLink: speed and turning rate in GUIDED mode. Needs the package pymavlink (extra mavlink).

The failsafe of the autopilot must be on; it is read at connect, and changing it is left to a person.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from firmware_bridge.controller import Axis, AxisMode, BridgeError, Health, LinkCounts
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.on_bus import OnBus
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec

KEYS = {
    "baud": "115200",
    "system": "1: the id of the vehicle",
    "speed": "largest speed, 0.5 m/s, and largest turning rate, 1 rad/s: speed=0.5,1",
    "acceleration": "1 m/s^2 and 4 rad/s^2: acceleration=1,4",
    "signs": "-1 where an axis counts the other way",
    "rate": "turns per second, 20",
}
GROUND_STATION, ARDUPILOT, ROVER_TYPES, ARMED, DANGER = 6, 3, (10, 11), 128, (5, 6)
ARM_DISARM, SET_MODE, SET_INTERVAL, REQUEST, FORCE = 400, 176, 511, 512, 21196
VERSION = 148
GUIDED, HOLD = 15, 4
BODY_FRAME, VELOCITIES = 8, 0x05C7
STREAMS = {30: 50_000, 32: 50_000, 1: 200_000}
"""ATTITUDE, LOCAL_POSITION_NED and SYS_STATUS: microseconds between two."""
SAFE = {"FS_GCS_ENABLE": (1, 2), "FS_ACTION": (1, 5), "FS_TIMEOUT": (0.1, 5)}
"""What the failsafe must be: without a heartbeat of ours for FS_TIMEOUT seconds the rover does FS_ACTION."""
FRESH_S, HEARTBEAT_S, BELIEVED_S, LEAST_V = 0.3, 1.0, 1.6, 6.5


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be, or without pymavlink."""
    return ServoLoop(Mavlink(spec, axes), spec, rate_hz=spec.number("rate", 20, 5, 50))


def dialect() -> Any:
    """ArduPilot's messages. Raises BridgeError."""
    try:
        from pymavlink.dialects.v20 import ardupilotmega
    except ImportError:
        raise BridgeError("MAVLink needs the package pymavlink: pip install 'latentloop[mavlink]'") from None
    return ardupilotmega


class Mavlink(OnBus):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        self._messages = dialect()
        super().__init__(spec.port, spec.integer("baud", 115_200, 9600, 3_000_000))
        self._system = spec.integer("system", 1, 1, 255)
        speed, turning = spec.numbers("speed", 2, None, 0.01, 50) if "speed" in spec.options else (0.5, 1.0)
        faster, harder = spec.numbers("acceleration", 2, None, 0.01, 500) if "acceleration" in spec.options else (1.0, 4.0)
        names = spec.names(axes, 2) if axes else ("forward", "turn")
        self.axes: tuple[Axis, ...] = (
            Axis(names[0], AxisMode.VELOCITY, "m/s", -speed, speed, speed, faster),
            Axis(names[1], AxisMode.VELOCITY, "rad/s", -turning, turning, turning, harder),
        )
        self._signs = spec.signs(2)
        self.unprovable = "how far the rover goes is not known then; its failsafe was only read, and may let it drive on for 5 s"
        self._start()

    def _start(self) -> None:
        self._mav: Any = self._messages.MAVLink(None, srcSystem=255, srcComponent=190)
        self._mav.robust_parsing = True
        self._newest: dict[str, Any] = {}
        self._way = [0.0, 0.0]
        self._heard_s = self._beat_s = self._enabled_s = 0.0
        self._armed: bool | None = None

    def open(self, timeout_s: float) -> str:
        self._open_line()
        self._start()
        self._beat()
        heartbeat = self._wait("HEARTBEAT", lambda message: message.type != GROUND_STATION, max(timeout_s, 1.5))
        if heartbeat is None:
            raise BridgeError(
                f"no MAVLink vehicle {self._system} is heard on {self._port} at {self._baud} baud: see to its power and the keys "
                "baud and system"
            )
        if heartbeat.autopilot != ARDUPILOT or heartbeat.type not in ROVER_TYPES:
            raise BridgeError(
                f"vehicle {self._system} on {self._port} is no rover with ArduPilot (autopilot {heartbeat.autopilot}, type "
                f"{heartbeat.type}): others are not driven yet"
            )
        for name, (low, high) in SAFE.items():
            self._check(name, low, high)
        self.rest()
        for message, interval_us in STREAMS.items():
            self._tell(SET_INTERVAL, message, interval_us)
        if self._wait("ATTITUDE", lambda _: True, 1.0) is None:
            raise BridgeError(f"vehicle {self._system} on {self._port} sends no ATTITUDE: see to its sensors")
        return f"ArduPilot rover {self._system}, firmware {self._version()}"

    def read(self) -> Reading:
        before_s = self._heard_s
        self._beat()
        self._listen(0.02)
        if time.monotonic() - self._heard_s > FRESH_S:
            raise NoAnswer("no attitude")
        attitude: Any = self._newest["ATTITUDE"]
        local, status = self._newest.get("LOCAL_POSITION_NED"), self._newest.get("SYS_STATUS")
        ahead = 0.0 if local is None else local.vx * math.cos(attitude.yaw) + local.vy * math.sin(attitude.yaw)
        speeds = [sign * each for sign, each in zip(self._signs, (ahead, attitude.yawspeed), strict=True)]
        for i, speed in enumerate(speeds):
            self._way[i] += speed * (self._heard_s - before_s)
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

    def counts(self) -> LinkCounts:
        counts = super().counts()
        return LinkCounts(counts.sent, counts.acked, int(self._mav.total_packets_received), int(self._mav.total_receive_errors))

    # -- small parts -------------------------------------------------------------------------------------------------

    def _version(self) -> str:
        """Of the autopilot; its serial number goes to ``uid``, where it tells one."""
        self._send(self._order(REQUEST, VERSION))
        found = self._wait("AUTOPILOT_VERSION", lambda _: True, 0.5)
        if found is None:
            self.uid = ""
            return "of unknown version"
        long = bytes(getattr(found, "uid2", ()))
        self.uid = long.hex() if any(long) else f"{found.uid:x}" if found.uid else ""
        return ".".join(str(found.flight_sw_version >> shift & 0xFF) for shift in (24, 16, 8))

    def _check(self, name: str, low: float, high: float) -> None:
        self._send(self._mav.param_request_read_encode(self._system, 1, name.encode("ascii"), -1))
        found = self._wait("PARAM_VALUE", lambda message: message.param_id == name, 0.5)
        if found is None:
            raise BridgeError(f"vehicle {self._system} on {self._port} does not tell its parameter {name}: update its firmware")
        if not low <= found.param_value <= high:
            raise BridgeError(
                f"the failsafe of the rover on {self._port} is not on ({name} is {found.param_value:g}): set it to {low:g} up to "
                f"{high:g}, for without it the rover would go on when this computer dies"
            )

    def _beat(self) -> None:
        """Ours, which feeds the failsafe; the loop that sends it is the one that stops the rover."""
        if time.monotonic() - self._beat_s >= HEARTBEAT_S:
            self._beat_s = time.monotonic()
            self._send(self._mav.heartbeat_encode(GROUND_STATION, 8, 0, 0, 4))

    def _tell(self, command: int, *values: float) -> None:
        """Raises NoAnswer without an acknowledgement, BridgeError with a refusal."""
        self._send(self._order(command, *values))
        answer = self._wait("COMMAND_ACK", lambda message: message.command == command, 0.15)
        if answer is None:
            raise NoAnswer(f"command {command} was not acknowledged")
        if answer.result != 0:
            raise BridgeError(f"the rover refuses command {command} (result {answer.result}): look at its messages")

    def _order(self, command: int, *values: float) -> Any:
        return self._mav.command_long_encode(self._system, 1, command, 0, *values, *(0.0,) * (7 - len(values)))

    def _send(self, message: Any) -> None:
        self._line.write(message.pack(self._mav))
        self._mav.seq = (self._mav.seq + 1) % 256

    def _wait(self, name: str, fits: Callable[[Any], bool], timeout_s: float) -> Any:
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0 and not self.urgent.is_set():
            for message in self._listen(min(left, 0.005)):
                if message.get_type() == name and fits(message):
                    return message
        return None

    def _listen(self, timeout_s: float) -> list[Any]:
        data = self._line.heard(timeout_s)
        found = []
        for message in (self._mav.parse_buffer(data) or []) if data else []:
            if message.get_type() == "BAD_DATA" or message.get_srcSystem() != self._system:
                continue
            found.append(message)
            self._newest[message.get_type()] = message
            if message.get_type() == "ATTITUDE":
                self._heard_s = time.monotonic()
            elif message.get_type() == "HEARTBEAT":
                armed = bool(message.base_mode & ARMED)
                if armed or time.monotonic() - self._enabled_s > BELIEVED_S:  # an older one may still be under way
                    self._armed = armed
        return found
