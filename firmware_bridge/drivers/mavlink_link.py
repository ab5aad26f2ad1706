"""What every vehicle on a MAVLink line has in common: its messages, orders that are acknowledged, and its failsafes."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from firmware_bridge.controller import BridgeError, LinkCounts
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.on_bus import OnBus

GROUND_STATION, ARDUPILOT, PX4 = 6, 3, 12
ARMED, DANGER = 128, (5, 6)
"""Of a heartbeat: a bit of its base mode; its states that are critical and an emergency."""
ARM_DISARM, SET_MODE, SET_INTERVAL, REQUEST, FORCE = 400, 176, 511, 512, 21196
VERSION = 148
VELOCITIES = 0x05C7
"""Which fields of a position target count: the velocities and the turning rate."""
WHOLE_NUMBERS = {1: "<Bxxx", 2: "<bxxx", 3: "<Hxx", 4: "<hxx", 5: "<I", 6: "<i"}
"""Types of a parameter that PX4 sends as bytes in the place of a float; ArduPilot converts them to one."""
HEARTBEAT_S, FRESH_S = 1.0, 0.3
LISTEN_S = 1.5
"""How long to listen for a vehicle, which beats once a second."""


@dataclass(frozen=True, slots=True)
class Without:
    """Any whole number in which none of these bits is set."""

    bits: int


Allowed = tuple[float, float] | frozenset[int] | Without
"""What a parameter may be: from, to; one of these; or that."""


def dialect() -> Any:
    """ArduPilot's messages, which include all common ones. Raises BridgeError."""
    try:
        from pymavlink.dialects.v20 import ardupilotmega
    except ImportError:
        raise BridgeError("MAVLink needs the package pymavlink: pip install 'latentloop[mavlink]'") from None
    return ardupilotmega


class MavlinkLink(OnBus):
    """The part of a :class:`~firmware_bridge.drivers.device.Device` that is the same for all vehicles.

    vehicle: what messages call it. system: the id whose messages count.
    """

    def __init__(self, port: str, baud: int, system: int, vehicle: str) -> None:
        self._messages = dialect()
        super().__init__(port, baud)
        self._system, self._vehicle = system, vehicle
        self._start()

    def counts(self) -> LinkCounts:
        counts = super().counts()
        received, errors = int(self._mav.total_packets_received), int(self._mav.total_receive_errors)
        return LinkCounts(counts.sent, counts.acked, received, errors)

    def _start(self) -> None:
        self._mav: Any = self._messages.MAVLink(None, srcSystem=255, srcComponent=190)
        self._mav.robust_parsing = True
        self._newest: dict[str, Any] = {}
        self._heard_s: dict[str, float] = {}
        self._beat_s = 0.0

    def _meet(self, timeout_s: float, autopilot: int, types: tuple[int, ...], named: str) -> Any:
        """The first heartbeat of the vehicle. Raises BridgeError when there is none, or it is of something else."""
        self._open_line()
        self._start()
        self._beat()
        heartbeat = self._wait("HEARTBEAT", lambda message: message.type != GROUND_STATION, max(timeout_s, LISTEN_S))
        if heartbeat is None:
            raise BridgeError(
                f"no MAVLink vehicle {self._system} is heard on {self._port} at {self._baud} baud: see to its power and the "
                "keys baud and system"
            )
        if heartbeat.autopilot != autopilot or heartbeat.type not in types:
            raise BridgeError(
                f"vehicle {self._system} on {self._port} is no {named} (autopilot {heartbeat.autopilot}, type "
                f"{heartbeat.type}): see to the key vehicle; others are not driven yet"
            )
        return heartbeat

    def _stream(self, intervals_us: Mapping[int, int]) -> None:
        for message, interval_us in intervals_us.items():
            self._tell(SET_INTERVAL, message, interval_us)

    def _check(self, safe: Mapping[str, Allowed], autopilot: int) -> None:
        """Raises BridgeError unless every failsafe is on. They are read only: changing them is left to a person."""
        for name, allowed in safe.items():
            found = self._parameter(name)
            if found is None:
                raise BridgeError(
                    f"vehicle {self._system} on {self._port} does not tell its parameter {name}: update its firmware"
                )
            value = value_of(found, autopilot)
            if not _fits(value, allowed):
                raise BridgeError(
                    f"the failsafe of the {self._vehicle} on {self._port} is not on ({name} is {value:g}): set it to "
                    f"{_words(allowed)}, for without it the {self._vehicle} would go on when this computer dies"
                )

    def _parameter(self, name: str) -> Any:
        """The PARAM_VALUE, asked for three times; None without an answer."""
        for _ in range(3):
            self._send(self._mav.param_request_read_encode(self._system, 1, name.encode("ascii"), -1))
            if (found := self._wait("PARAM_VALUE", _named(name), 0.3)) is not None:
                return found
        return None

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

    def _beat(self) -> None:
        """Ours, which feeds the failsafe; the loop that sends it is the one that stops the vehicle."""
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
            raise BridgeError(f"the {self._vehicle} refuses command {command} (result {answer.result}): look at its messages")

    def _order(self, command: int, *values: float) -> Any:
        return self._mav.command_long_encode(self._system, 1, command, 0, *values, *(0.0,) * (7 - len(values)))

    def _send(self, message: Any) -> None:
        self._line.write(message.pack(self._mav))
        self._mav.seq = (self._mav.seq + 1) % 256

    def _wait(self, name: str, fits: Callable[[Any], bool], timeout_s: float) -> Any:
        """The first that fits. What came while this process did not run is looked at, too, before time is up."""
        left = timeout_s
        end = time.monotonic() + timeout_s
        while left > 0 and not self.urgent.is_set():
            left = end - time.monotonic()
            for message in self._listen(max(0.0, min(left, 0.005))):
                if message.get_type() == name and fits(message):
                    return message
        return None

    def _listen(self, timeout_s: float) -> list[Any]:
        """What the vehicle said; for its heartbeat a gimbal or radio on board is somebody else."""
        data = self._line.heard(timeout_s)
        found = []
        for message in (self._mav.parse_buffer(data) or []) if data else []:
            kind = message.get_type()
            if kind == "BAD_DATA" or message.get_srcSystem() != self._system:
                continue
            if kind == "HEARTBEAT" and message.get_srcComponent() != 1:
                continue
            found.append(message)
            self._newest[kind], self._heard_s[kind] = message, time.monotonic()
            self._noted(kind, message)
        return found

    def _noted(self, kind: str, message: Any) -> None:
        """For a vehicle that must look at each message, not only at the newest."""

    def _age_s(self, kind: str) -> float:
        """Since the newest message of that kind; very long without one."""
        return time.monotonic() - self._heard_s.get(kind, -1e9)


def value_of(message: Any, autopilot: int) -> float:
    """The number in a PARAM_VALUE."""
    if autopilot == PX4 and message.param_type in WHOLE_NUMBERS:
        return float(struct.unpack(WHOLE_NUMBERS[message.param_type], struct.pack("<f", message.param_value))[0])
    return float(message.param_value)


def _named(name: str) -> Callable[[Any], bool]:
    return lambda message: bool(message.param_id == name)


def _fits(value: float, allowed: Allowed) -> bool:
    if isinstance(allowed, Without):
        return value == value // 1 and not int(value) & allowed.bits
    return value in allowed if isinstance(allowed, frozenset) else allowed[0] <= value <= allowed[1]


def _words(allowed: Allowed) -> str:
    if isinstance(allowed, Without):
        return f"a number without the {allowed.bits} in it"
    if isinstance(allowed, frozenset):
        return " or ".join(map(str, sorted(allowed)))
    return f"{allowed[0]:g} up to {allowed[1]:g}"
