"""Waveshare's UGV boards (ESP32, lines of JSON): two sides of a rover, told in m/s.

No checksum, no emergency stop of wheels, and a heartbeat that is set at connect but cannot be read back: see docs/drivers.md.
Facts from Waveshare's firmwares ugv_base_ros and ugv_base_general (json_cmd.h, movtion_module.h, ugv_advance.h).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any

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
    "radius": "of the wheels, m: targets are then rad/s; without it they are m/s",
    "watchdog_ms": "300: without a command for so long the board stops by itself",
}
SPEEDS, HEARTBEAT, FEEDBACK, IS_FEEDBACK = 1, 136, 130, 1001
HEARTBEAT_EVERY = 50
"""Turns after which the heartbeat is set again, because a board that has restarted has forgotten it."""
FASTEST = 2.0
"""m/s. The board passes over a command beyond this, goes on with the one before, and takes it for a sign of life."""
LEAST_V = 8.0
LONGEST = 2048


def line(**fields: float) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def next_feedback(heard: bytearray) -> dict[str, Any] | None:
    """Take the next feedback with finite speeds out of what was heard, and what lies before it; None when there is none yet."""
    while (end := heard.find(b"\n")) >= 0:
        text = bytes(heard[:end])
        del heard[: end + 1]
        try:
            found = json.loads(text[text.find(b"{") :] if b"{" in text else text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("T") == IS_FEEDBACK and _finite(found.get("L")) and _finite(found.get("R")):
            return found
    del heard[: max(0, len(heard) - LONGEST)]
    return None


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be."""
    return ServoLoop(Waveshare(spec, axes), spec, rate_hz=spec.number("rate", 50, 5, 50))


class Waveshare(OnBus):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        super().__init__(spec.port, spec.integer("baud", 115_200, 9600, 1_000_000))
        radius = spec.number("radius", 1, 0.001, 10)
        self.axes = wheels.of(spec, axes, 2, "rad/s" if "radius" in spec.options else "m/s")
        self._metres = tuple(sign * radius for sign in spec.signs(2))
        if any(axis.max_speed * radius > FASTEST for axis in self.axes):
            raise BridgeError(
                f"{spec.text} allows {max(axis.max_speed for axis in self.axes) * radius:g} m/s, and the board heeds nothing "
                f"beyond {FASTEST:g}: set the key speed (times the radius, where there is one) to less"
            )
        self._watchdog_ms = spec.integer("watchdog_ms", 300, 100, 3000)
        self._turn = 0
        self._way = [0.0, 0.0]
        self._read_s = 0.0

    def open(self, timeout_s: float) -> str:
        self._open_line()
        self._turn, self._way, self._read_s = 0, [0.0, 0.0], time.monotonic()
        self.cut()
        try:
            self._feedback()
        except NoAnswer:
            raise BridgeError(
                f"no Waveshare board answers on {self._port} at {self._baud} baud: see to its power switch and the key baud"
            ) from None
        return "Waveshare UGV"

    def read(self) -> Reading:
        if self._turn % HEARTBEAT_EVERY == 0:
            self._line.write(line(T=HEARTBEAT, cmd=self._watchdog_ms))
        self._turn += 1
        found = self._feedback()
        speeds = float(found["L"]), float(found["R"])
        self._advance(found, speeds)
        faults = []
        volts: Any = found.get("v")
        supply = (volts / 100 if volts > 100 else float(volts)) if _finite(volts) else None  # some boards count hundredths
        if supply is not None and supply < LEAST_V:
            faults.append("under-voltage")
        if max(map(abs, speeds)) > 3 * FASTEST:
            faults.append(f"it reports {max(map(abs, speeds)):g} m/s: a product without speed control, which is not driven")
        return Reading(
            position=tuple(way / metres for way, metres in zip(self._way, self._metres, strict=True)),
            velocity=tuple(speed / metres for speed, metres in zip(speeds, self._metres, strict=True)),
            faults=tuple(faults),
            health=Health(supply),
        )

    def enable(self, reading: Reading) -> None:
        self.command((0.0, 0.0))

    def command(self, values: Sequence[float]) -> None:
        left, right = (float(round(value * metres, 4)) for value, metres in zip(values, self._metres, strict=True))
        self._line.write(line(T=SPEEDS, L=left, R=right))

    def rest(self) -> None:
        self.cut()

    def cut(self) -> None:
        self._line.write(b"\n" + line(T=SPEEDS, L=0.0, R=0.0))

    def clear(self) -> None:
        pass  # the board latches nothing

    def _advance(self, found: dict[str, Any], speeds: tuple[float, float]) -> None:
        """ugv_base_ros counts the way, in cm; ugv_base_general does not, and it comes of the speeds."""
        now_s = time.monotonic()
        for i, (key, speed) in enumerate(zip(("odl", "odr"), speeds, strict=True)):
            counted: Any = found.get(key)
            self._way[i] = counted / 100 if _finite(counted) else self._way[i] + speed * (now_s - self._read_s)
        self._read_s = now_s

    def _feedback(self) -> dict[str, Any]:
        return self._line.ask(line(T=FEEDBACK), next_feedback, timeout_s=0.05)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
