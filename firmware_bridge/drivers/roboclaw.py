"""RoboClaw: two motors with encoders on one port. Its serial time-out is set and read back at connect.

Facts from the user manual (commands 14 and 15: page 67 of 5.7) and Basicmicro's own library for Arduino.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Sequence

from firmware_bridge.controller import BridgeError, Health
from firmware_bridge.drivers import wheels
from firmware_bridge.drivers.bus import Bus, NoAnswer
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.on_bus import OnBus
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec

KEYS = {
    **wheels.KEYS,
    "baud": "115200",
    "address": "128, to 135",
    "ticks": "counts of the encoder for one turn of the wheel",
    "watchdog_ms": "200, in steps of 100: without a word for so long it stops by itself",
}
SET_TIMEOUT, GET_TIMEOUT, SPEED_1, SPEED_2, VERSION, BATTERY = 14, 15, 18, 19, 21, 24
DUTIES, SPEEDS, CURRENTS, ENCODERS, STATUS = 34, 37, 49, 78, 90
FAULTS = {
    0: "emergency stop",
    1: "too hot",
    2: "second sensor too hot",
    3: "main battery over-voltage",
    4: "logic over-voltage",
    5: "logic under-voltage",
    6: "driver 1",
    7: "driver 2",
    8: "speed of motor 1",
    9: "speed of motor 2",
    10: "position of motor 1",
    11: "position of motor 2",
    12: "over-current of motor 1",
    13: "over-current of motor 2",
}
"""Bits of the 32-bit status of firmware 4.1.20 and later, the errors: those above are warnings. Of an older one only the
emergency stop is read."""
OLD_ESTOP = 0x04
LEAST_V = 6.0


def request(address: int, command: int, data: bytes = b"") -> bytes:
    """Commands that change something end with a CRC, questions do not."""
    body = bytes((address, command)) + data
    return body + binascii.crc_hqx(body, 0).to_bytes(2, "big")


def speed_of(data: bytes) -> int:
    """Counts per second. The manual has a size and a byte for the direction; the vendor's library for Python reads the size as
    a number with a sign. Backwards it is by either."""
    speed, back = struct.unpack(">iB", data)
    return -abs(int(speed)) if back else int(speed)


def read(bus: Bus, address: int, command: int, size: int, tries: int = 2) -> bytes:
    """Ask for so many bytes. The answer's CRC covers the question, so that no late answer to another one passes. Raises NoAnswer,
    PortLost."""
    question = bytes((address, command))

    def take(heard: bytearray) -> bytes | None:
        while len(heard) >= size + 2:
            data = bytes(heard[:size])
            if binascii.crc_hqx(question + data, 0) == int.from_bytes(heard[size : size + 2], "big"):
                return data
            del heard[:1]
        return None

    return bus.ask(question, take, tries=tries)


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be."""
    return ServoLoop(Roboclaw(spec, axes), spec, rate_hz=spec.number("rate", 50, 5, 200))


class Roboclaw(OnBus):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        super().__init__(spec.port, spec.integer("baud", 115_200, 2400, 1_000_000))
        self._address = spec.integer("address", 128, 128, 135)
        self.axes = wheels.of(spec, axes, 2)
        ticks = spec.numbers("ticks", 2, None, 1, 1e7)
        self._ticks = tuple(sign * each / (2 * math.pi) for sign, each in zip(spec.signs(2), ticks, strict=True))
        self._watchdog = -(-spec.integer("watchdog_ms", 200, 100, 2000) // 100)
        self._status_size = 4

    def open(self, timeout_s: float) -> str:
        self._open_line()
        try:
            self._tell(SET_TIMEOUT, bytes((self._watchdog,)))
            taken = self._ask(GET_TIMEOUT, 1)[0]
        except NoAnswer:
            raise BridgeError(
                f"no RoboClaw answers on {self._port} at {self._baud} baud as {self._address}: see to its power, its mode "
                "(packet serial) and the keys baud and address"
            ) from None
        if taken != self._watchdog:
            raise BridgeError(
                f"the RoboClaw on {self._port} does not take its serial time-out: update its firmware, for without it it would "
                "go on when this computer dies"
            )
        self.rest()
        try:
            self._status_size = 4
            self._ask(STATUS, 4)
        except NoAnswer:
            self._status_size = 2
            self._ask(STATUS, 2)
        return f"RoboClaw {self._address}, {self._version()}"

    def read(self) -> Reading:
        position = struct.unpack(">ii", self._ask(ENCODERS, 8))
        speeds = [speed_of(self._ask(command, 5)) for command in (SPEED_1, SPEED_2)]
        currents = struct.unpack(">hh", self._ask(CURRENTS, 4))
        supply_v = int.from_bytes(self._ask(BATTERY, 2), "big") / 10
        status = int.from_bytes(self._ask(STATUS, self._status_size), "big")
        if self._status_size == 4:
            faults = [name for bit, name in FAULTS.items() if status >> bit & 1]
        else:
            faults = ["emergency stop"] if status & OLD_ESTOP else []
        if supply_v < LEAST_V:
            faults.append("main battery under-voltage")
        if self._ask(GET_TIMEOUT, 1)[0] != self._watchdog:
            faults.append("it has restarted")
        return Reading(
            position=tuple(each / ticks for each, ticks in zip(position, self._ticks, strict=True)),
            velocity=tuple(speed / ticks for speed, ticks in zip(speeds, self._ticks, strict=True)),
            current=tuple(each / 100 for each in currents),
            faults=tuple(faults),
            health=Health(supply_v),
        )

    def enable(self, reading: Reading) -> None:
        self.command((0.0, 0.0))

    def command(self, values: Sequence[float]) -> None:
        self._tell(SPEEDS, struct.pack(">ii", *(round(v * ticks) for v, ticks in zip(values, self._ticks, strict=True))))

    def rest(self) -> None:
        self._tell(DUTIES, bytes(4))

    def cut(self) -> None:
        for _ in range(2):
            self._line.write(request(self._address, DUTIES, bytes(4)))
        self._line.owe()

    def clear(self) -> None:
        self._tell(SET_TIMEOUT, bytes((self._watchdog,)))

    def _ask(self, command: int, size: int) -> bytes:
        return read(self._line, self._address, command, size)

    def _version(self) -> str:
        """Its name and the version of its firmware, which end with a line feed and a zero."""
        question = bytes((self._address, VERSION))

        def take(heard: bytearray) -> str | None:
            text, end, behind = bytes(heard).partition(b"\n\0")
            if len(behind) < 2 or binascii.crc_hqx(question + text + end, 0) != int.from_bytes(behind[:2], "big"):
                return None
            return text.decode("ascii", "replace")

        try:
            return self._line.ask(question, take)
        except NoAnswer:
            return "of unknown version"

    def _tell(self, command: int, data: bytes) -> None:
        self._line.ask(request(self._address, command, data), lambda heard: True if 0xFF in heard else None)
