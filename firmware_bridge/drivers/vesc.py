"""VESC controllers: one on the port, more behind it on the CAN bus. Their time-out must be on; it is read at connect."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from firmware_bridge.controller import BridgeError, Health
from firmware_bridge.drivers import vesc_packets as packets
from firmware_bridge.drivers import wheels
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.on_bus import OnBus
from firmware_bridge.drivers.roll_call import MISSES
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec
from firmware_bridge.drivers.vesc_packets import Values

T = TypeVar("T")

KEYS = {
    **wheels.KEYS,
    "baud": "115200",
    "can": "ids of further controllers on the CAN bus, in the order of the axes behind the first: can=2",
    "poles": "magnets of the motor, 14",
    "gear": "turns of the motor for one of the wheel, 1",
    "timeout_ms": "1000: a longer time-out of the controller is refused",
}
FAULTS = {1: "over-voltage", 2: "under-voltage", 3: "driver", 4: "over-current", 5: "transistors too hot", 6: "motor too hot"}


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be."""
    return ServoLoop(Vesc(spec, axes), spec, rate_hz=spec.number("rate", 50, 5, 200))


class Vesc(OnBus):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        super().__init__(spec.port, spec.integer("baud", 115_200, 9600, 4_000_000))
        self._can: tuple[int | None, ...] = (None, *spec.integers("can", (), 0, 254))
        n = len(self._can)
        self.axes = wheels.of(spec, axes, n)
        pairs = spec.number("poles", 14, 2, 200) / 2
        turns = spec.numbers("gear", n, 1, 0.01, 1000)
        self._erpm = tuple(s * 60 / (2 * math.pi) * pairs * g for s, g in zip(spec.signs(n), turns, strict=True))
        self._timeout_ms = spec.integer("timeout_ms", 1000, 10, 5000)
        self._ids: list[int] = []
        self._newest: dict[int, Values] = {}
        self._missed: dict[int, int] = {}

    def open(self, timeout_s: float) -> str:
        self._open_line()
        self._newest, self._missed, self._ids = {}, {}, []
        versions = []
        for can in self._can:
            try:
                values = self._values(can, can)
            except NoAnswer:
                which = "VESC" if can is None else f"VESC {can}"
                raise BridgeError(
                    f"{which} does not answer on {self._port}: see to its power, the cable and the keys can and baud"
                ) from None
            self._ids.append(values.id)
            self._check_timeout(can, values.id)
            versions.append(self._version(can))
        self.rest()
        self.uid = " ".join(each.uid for each in versions) if all(each.uid for each in versions) else ""
        firmware = ", ".join(dict.fromkeys(each.firmware for each in versions))
        return f"VESC {firmware}, {len(self._ids)} controllers, ids {', '.join(map(str, self._ids))}"

    def read(self) -> Reading:
        faults = []
        for can, name in zip(self._can, self._ids, strict=True):
            try:
                values = self._values(can, name, tries=1)
            except NoAnswer:
                self._missed[name] = self._missed.get(name, 0) + 1
                continue
            self._missed[name] = 0
            if name in self._newest and values.travelled < self._newest[name].travelled:
                faults.append(f"VESC {name} has restarted")
            self._newest[name] = values
        if all(self._missed[name] for name in self._ids) or len(self._newest) < len(self._ids):
            raise NoAnswer("no answer")
        newest = [self._newest[name] for name in self._ids]
        faults += [f"VESC {name} does not answer" for name, missed in self._missed.items() if missed >= MISSES]
        faults += [f"VESC {each.id}: {FAULTS.get(each.fault, f'fault {each.fault}')}" for each in newest if each.fault]
        faults += [f"VESC {each.id}: kill switch" for each in newest if each.killed]
        scaled = list(zip(newest, self._erpm, strict=True))
        return Reading(
            position=tuple(each.steps / 6 * 60 / erpm for each, erpm in scaled),
            velocity=tuple(each.erpm / erpm for each, erpm in scaled),
            current=tuple(each.current for each in newest),
            faults=tuple(faults),
            health=Health(min(each.supply_v for each in newest), tuple(each.temperature for each in newest)),
        )

    def enable(self, reading: Reading) -> None:
        self.command((0.0,) * len(self._can))

    def command(self, values: Sequence[float]) -> None:
        for can, erpm, value in zip(self._can, self._erpm, values, strict=True):
            self._line.write(packets.command(packets.SET_RPM, round(erpm * value), can))

    def rest(self) -> None:
        self.cut()

    def cut(self) -> None:
        for can in self._can:
            self._line.write(packets.command(packets.SET_CURRENT, 0, can))

    def clear(self) -> None:
        pass  # a VESC ends its faults by itself

    # -- small parts -------------------------------------------------------------------------------------------------

    def _check_timeout(self, can: int | None, name: int) -> None:
        try:
            found, timeout_ms = self._ask(packets.command(packets.GET_APPCONF, None, can), packets.timeout_of)
        except NoAnswer:
            found, timeout_ms = -1, 0
        if found != name:
            raise BridgeError(
                f"VESC {name} does not tell its time-out, and without one it would go on when this computer dies: "
                "update its firmware"
            )
        if not 0 < timeout_ms <= self._timeout_ms:
            raise BridgeError(
                f"VESC {name} has a time-out of {timeout_ms} ms where at most {self._timeout_ms} are safe: set it in VESC Tool "
                "(App Settings, General, Timeout), or allow more with the key timeout_ms"
            )

    def _version(self, can: int | None) -> packets.Version:
        try:
            return self._ask(packets.command(packets.FW_VERSION, None, can), packets.version_of)
        except NoAnswer:
            return packets.Version("of unknown version", "")

    def _values(self, can: int | None, name: int | None, tries: int = 2) -> Values:
        def read(payload: bytes) -> Values | None:
            values = packets.values_of(payload)
            return values if values is not None and name in (None, values.id) else None

        return self._ask(packets.command(packets.GET_VALUES, None, can), read, tries)

    def _ask(self, request: bytes, read: Callable[[bytes], T | None], tries: int = 2) -> T:
        def take(heard: bytearray) -> T | None:
            while (payload := packets.next_payload(heard)) is not None:
                if (answer := read(payload)) is not None:
                    return answer
            return None

        return self._line.ask(request, take, tries=tries, timeout_s=0.05)
