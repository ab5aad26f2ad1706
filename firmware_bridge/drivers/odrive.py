"""ODrive over its ASCII protocol, with checksums. The watchdog of each axis is switched on and read back at connect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

from firmware_bridge.controller import BridgeError, Health
from firmware_bridge.drivers import wheels
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.on_bus import OnBus
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec

KEYS = {
    **wheels.KEYS,
    "baud": "115200",
    "motors": "0, or 0,1: the axes of the ODrive, in the order of those of the robot",
    "gear": "turns of the motor for one of the wheel, 1",
    "watchdog_ms": "200: without a word for so long the axis stops by itself",
}
IDLE, CLOSED_LOOP, VELOCITY_CONTROL, PASS_THROUGH = 1, 8, 2, 1
LEAST_V = 8.0
_TRUE = ("1", "true", "True")


def line(text: str) -> bytes:
    """``text *checksum``: the checksum is the exclusive or of all bytes before the star."""
    body = f"{text} ".encode("ascii")
    return body + b"*%d\n" % reduce(lambda a, b: a ^ b, body)


def next_reply(heard: bytearray) -> str | None:
    """Take the next line with a right checksum out of what was heard, and what lies before it; None when there is none yet."""
    while (end := heard.find(b"\n")) >= 0:
        body, star, checksum = bytes(heard[:end]).rpartition(b"*")
        del heard[: end + 1]
        if star and checksum.strip() == b"%d" % reduce(lambda a, b: a ^ b, body, 0):
            return body.decode("ascii", "replace").strip()
    return None


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be."""
    return ServoLoop(Odrive(spec, axes), spec, rate_hz=spec.number("rate", 50, 5, 100))


class Odrive(OnBus):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        super().__init__(spec.port, spec.integer("baud", 115_200, 9600, 1_000_000))
        self._motors = spec.integers("motors", (0,), 0, 1)
        n = len(self._motors)
        self.axes = wheels.of(spec, axes, n)
        gear = spec.numbers("gear", n, 1, 0.001, 1000)
        self._turns = tuple(sign * each / (2 * math.pi) for sign, each in zip(spec.signs(n), gear, strict=True))
        self._watchdog_s = spec.integer("watchdog_ms", 200, 50, 2000) / 1000
        self._error = "error"

    def open(self, timeout_s: float) -> str:
        self._open_line()
        try:
            self._number("vbus_voltage")
        except NoAnswer:
            raise BridgeError(
                f"no ODrive answers on {self._port} at {self._baud} baud: see to its power, the key baud, and that ASCII is its "
                "protocol there"
            ) from None
        version = ".".join(self._ask(f"r fw_version_{part}") for part in ("major", "minor", "revision"))
        serial = self._ask("r serial_number")
        self.uid = f"{int(serial):x}" if serial.isascii() and serial.isdigit() else ""  # some print nothing for 64 bits
        self._error = "active_errors" if version.startswith("0.6") else "error"
        self.rest()
        for motor in self._motors:
            self._arm_watchdog(motor)
        return f"ODrive {version}"

    def read(self) -> Reading:
        position, velocity, faults, states = [], [], [], []
        for motor, turns in zip(self._motors, self._turns, strict=True):
            words = self._ask(f"f {motor}").split()
            try:
                at, speed = map(float, words)
            except ValueError:
                raise NoAnswer(f"'{' '.join(words)}' is no feedback") from None
            if not (math.isfinite(at) and math.isfinite(speed)):
                faults.append(f"axis {motor}: its encoder")
                at = speed = 0.0
            position.append(at / turns)
            velocity.append(speed / turns)
            if error := int(self._number(f"axis{motor}.{self._error}")):
                faults.append(f"axis {motor}: error 0x{error:x}")
            states.append(int(self._number(f"axis{motor}.current_state")))
            if all(state == IDLE for state in states):
                self._line.write(line(f"u {motor}"))  # also at rest it counts an unfed watchdog as an error
        supply_v = self._number("vbus_voltage")
        if supply_v < LEAST_V:
            faults.append("under-voltage")
        energised = all(state == CLOSED_LOOP for state in states)
        return Reading(tuple(position), tuple(velocity), (), energised, tuple(faults), Health(supply_v))

    def enable(self, reading: Reading) -> None:
        for motor in self._motors:
            self._set(f"axis{motor}.controller.config.control_mode", VELOCITY_CONTROL)
            self._set(f"axis{motor}.controller.config.input_mode", PASS_THROUGH)
        self.command((0.0,) * len(self._motors))
        for motor in self._motors:
            self._set(f"axis{motor}.requested_state", CLOSED_LOOP)
            if self._number(f"axis{motor}.current_state") != CLOSED_LOOP:
                raise BridgeError(f"axis {motor} of the ODrive does not enter closed loop: calibrate it first")

    def command(self, values: Sequence[float]) -> None:
        for motor, turns, value in zip(self._motors, self._turns, values, strict=True):
            self._line.write(line(f"v {motor} {turns * value:.5f} 0"))

    def rest(self) -> None:
        self.command((0.0,) * len(self._motors))
        self.cut()

    def cut(self) -> None:
        for motor in self._motors:
            self._set(f"axis{motor}.requested_state", IDLE)

    def clear(self) -> None:
        self._line.write(line("sc"))
        for motor in self._motors:
            self._arm_watchdog(motor)

    # -- small parts -------------------------------------------------------------------------------------------------

    def _arm_watchdog(self, motor: int) -> None:
        """Fed first, or it would run out while it is switched on."""
        self._set(f"axis{motor}.config.watchdog_timeout", self._watchdog_s)
        self._line.write(line(f"u {motor}"))
        self._set(f"axis{motor}.config.enable_watchdog", 1)
        taken = self._number(f"axis{motor}.config.watchdog_timeout")
        if abs(taken - self._watchdog_s) > 1e-3 or self._ask(f"r axis{motor}.config.enable_watchdog") not in _TRUE:
            raise BridgeError(
                f"axis {motor} of the ODrive on {self._port} does not take its watchdog: update its firmware, for without it "
                "it would go on when this computer dies"
            )

    def _set(self, name: str, value: float) -> None:
        self._line.write(line(f"w {name} {value:g}"))

    def _number(self, name: str) -> float:
        text = self._ask(f"r {name}")
        try:
            return float(text)
        except ValueError:
            raise NoAnswer(f"{name} is '{text}'") from None

    def _ask(self, question: str) -> str:
        return self._line.ask(line(question), next_reply, timeout_s=0.05)
