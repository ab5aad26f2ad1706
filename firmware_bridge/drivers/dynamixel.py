"""Dynamixel X servos on their bus (protocol 2.0). Their bus watchdog is armed at connect: without a host they stop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from firmware_bridge.controller import Axis, BridgeError, Health
from firmware_bridge.drivers import bus_servos
from firmware_bridge.drivers import dynamixel_packets as packets
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.bus_servos import HEADROOM
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.dynamixel_packets import ALERT
from firmware_bridge.drivers.on_bus import OnBus
from firmware_bridge.drivers.roll_call import RollCall, ask_one, missing
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec

KEYS = {
    **bus_servos.KEYS,
    "baud": "1000000 (new servos come with 57600)",
    "watchdog_ms": "200: without a word for so long the servos stop by themselves",
}

DRIVE_MODE, MODE, SPEED_LIMIT, ANGLE_RANGE = 10, 11, 44, 48
TORQUE, GOAL_SPEED, PROFILE = 64, 104, 108  # the profile: acceleration, speed, and behind them the goal position
WATCHDOG, WATCHDOG_TICK_MS, TRIPPED = 98, 20, 0xFF
PRESENT, PRESENT_SIZE = 126, 21  # current, speed, position, two of the trajectory, voltage, temperature
SETUP, SETUP_SIZE = 64, 35  # from the torque to the watchdog
WHEEL_MODE, POSITION_MODES = 1, (3, 4, 5)
TIME_BASED = 0x04
RATE = 0.229 * 2 * math.pi / 60
"""rad/s of one unit of speed."""
AMPERES = {1190: 1e-3, 1200: 1e-3, 1210: 1e-3, 1220: 1e-3, 1230: 1e-3, 1240: 1e-3, 1060: 0.0, 1070: 0.0, 1080: 0.0, 1090: 0.0}
"""Per unit of current, by model: XL330 and XC330; 0 for those that only estimate a load. All others 2.69 mA."""
FAULTS = {0: "voltage out of range", 2: "too hot", 3: "encoder", 4: "electric shock or too little power", 5: "overload"}
REBOOT_S = 1.5


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be."""
    device = Dynamixel(spec, axes)
    return ServoLoop(device, spec, asked=spec.asked(), rate_hz=spec.number("rate", 50, 5, 200))


class Dynamixel(OnBus):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        super().__init__(spec.port, spec.integer("baud", 1_000_000, 9600, 4_500_000))
        watchdog_ms = spec.integer("watchdog_ms", 200, WATCHDOG_TICK_MS, 127 * WATCHDOG_TICK_MS)
        self._watchdog = -(-watchdog_ms // WATCHDOG_TICK_MS)
        self._servos = servos = bus_servos.of(spec, axes, packets.LAST_ID)
        self._ids, self._scales, self._wheels = servos.ids, servos.scales, servos.wheels
        self.axes = servos.axes
        self._models: dict[int, int] = {}
        self._roll = RollCall(self._ids, packets.next_status, PRESENT_SIZE)
        self._setup: dict[int, bytes] = {}
        self._turn = 0
        self._enabled = False

    def open(self, timeout_s: float) -> str:
        self._open_line()
        self._enabled = False
        self._models, self._setup = {}, {}
        versions: dict[int, int] = {}
        self._roll = RollCall(self._ids, packets.next_status, PRESENT_SIZE)
        for servo in self._ids:
            try:
                self._models[servo], versions[servo] = self._ping(servo)
            except NoAnswer:
                pass
        if len(self._models) < len(self._ids):
            raise BridgeError(missing("Dynamixel", self._ids, list(self._models), self._port, self._baud))
        for servo in self._ids:
            self._settle_mode(servo)
            self._arm_watchdog(servo)
            self._setup[servo] = self._ask(servo, SETUP, SETUP_SIZE)
        self._stop_what_moves()
        self.axes = tuple(map(self._within_limits, range(len(self._ids))))
        found = {f"{self._models[servo]} with firmware {versions[servo]}" for servo in self._ids}
        return f"Dynamixel, {len(self._ids)} servos, model {', '.join(sorted(found))}"

    def read(self) -> Reading:
        answered = self._roll.call(
            self._line,
            packets.sync_read(self._ids, PRESENT, PRESENT_SIZE),
            lambda servo: packets.read(servo, PRESENT, PRESENT_SIZE),
        )
        self._turn += 1
        if (servo := self._ids[self._turn % len(self._ids)]) in answered:
            self._setup[servo] = self._ask(servo, SETUP, SETUP_SIZE)
        return self._reading()

    def enable(self, reading: Reading) -> None:
        for servo in self._ids:
            self._arm_watchdog(servo)
        still = (0.0,) * len(self._ids) if self._wheels else reading.position
        self.command(still)
        self._line.write(packets.sync_write(TORQUE, dict.fromkeys(self._ids, b"\x01")))
        self.command(still)
        for servo in self._ids:
            self._setup[servo] = self._ask(servo, SETUP, SETUP_SIZE)
            if not self._setup[servo][0]:
                raise BridgeError(f"Dynamixel servo {servo} does not switch on: see to its power, and clear its hardware error")
        self._enabled = True

    def command(self, values: Sequence[float]) -> None:
        data = {}
        for servo, scale, axis, value in zip(self._ids, self._scales, self.axes, values, strict=True):
            if self._wheels:
                data[servo] = _long(round(scale.sign * value / RATE))
            else:
                cap = max(1, round(axis.max_speed * HEADROOM / RATE))
                data[servo] = _long(0) + _long(cap) + _long(scale.to_ticks(value))
        self._line.write(packets.sync_write(GOAL_SPEED if self._wheels else PROFILE, data))

    def rest(self) -> None:
        self._enabled = False
        if self._wheels:
            self.command((0.0,) * len(self._ids))
        if not self._servos.hold:
            self.cut()

    def cut(self) -> None:
        self._enabled = False
        for _ in range(2):
            self._line.write(packets.write(packets.BROADCAST, TORQUE, b"\0"))

    def clear(self) -> None:
        """A hardware error ends with a restart of the servo, and with that its watchdog is off until armed again."""
        broken = [servo for servo in self._ids if self._setup[servo][70 - SETUP] or self._roll.newest[servo].error & ALERT]
        for servo in broken:
            self._line.write(packets.packet(servo, packets.REBOOT))
            self._line.owe()
        by = time.monotonic() + REBOOT_S
        for servo in broken:
            while True:
                try:
                    self._ping(servo)
                    break
                except NoAnswer:
                    if time.monotonic() > by:
                        raise BridgeError(f"Dynamixel servo {servo} does not come back from its restart: see to it") from None
            self._settle_mode(servo)
            self._arm_watchdog(servo)
            self._setup[servo] = self._ask(servo, SETUP, SETUP_SIZE)

    # -- small parts -------------------------------------------------------------------------------------------------

    def _settle_mode(self, servo: int) -> None:
        drive, mode = self._ask(servo, DRIVE_MODE, 2)
        if drive & TIME_BASED:
            raise BridgeError(
                f"Dynamixel servo {servo} counts its profile in time (drive mode, bit 2), and a limit of speed would be a time: "
                "set it to velocity-based with the Dynamixel Wizard"
            )
        if mode == WHEEL_MODE if self._wheels else mode in POSITION_MODES:
            return
        wanted = WHEEL_MODE if self._wheels else POSITION_MODES[0]
        self._tell(servo, TORQUE, b"\0")
        self._tell(servo, MODE, bytes((wanted,)))
        if self._ask(servo, MODE, 1)[0] != wanted:
            raise BridgeError(
                f"Dynamixel servo {servo} does not take mode {wanted} ({'wheel' if self._wheels else 'position'}): "
                "set it with the Dynamixel Wizard, or change the key mode"
            )

    def _arm_watchdog(self, servo: int) -> None:
        """0 ends a trip, which had locked the goals."""
        self._tell(servo, WATCHDOG, b"\0")
        self._tell(servo, WATCHDOG, bytes((self._watchdog,)))
        if self._ask(servo, WATCHDOG, 1)[0] != self._watchdog:
            raise BridgeError(
                f"Dynamixel servo {servo} does not take its bus watchdog (register {WATCHDOG}): update its firmware, "
                "for without it it would go on moving when this computer dies"
            )

    def _stop_what_moves(self) -> None:
        """Whoever spoke to them before may have left them under way."""
        if self._wheels:
            self.command((0.0,) * len(self._ids))
            return
        self.read()
        for servo in self._ids:
            if self._setup[servo][0]:
                self._tell(servo, PROFILE + 8, self._roll.newest[servo].parameters[6:10])

    def _within_limits(self, index: int) -> Axis:
        servo = self._ids[index]
        speed, highest, lowest = (_int(self._ask(servo, SPEED_LIMIT, 12), at) for at in (0, 4, 8))
        axis = self._servos.axes[index]
        if not self._wheels and self._ask(servo, MODE, 1)[0] == POSITION_MODES[0]:
            axis = self._servos.within(index, lowest, highest)
        top = min(axis.max_speed, speed * RATE) if speed > 0 else axis.max_speed
        return replace(axis, max_speed=top, low=-top, high=top) if self._wheels else replace(axis, max_speed=top)

    def _reading(self) -> Reading:
        blocks = [self._roll.newest[servo].parameters for servo in self._ids]
        factors = [AMPERES.get(self._models[servo], 2.69e-3) for servo in self._ids]
        faults = self._roll.faults()
        for servo in self._ids:
            error = self._setup[servo][70 - SETUP]
            faults += [f"servo {servo}: {name}" for bit, name in FAULTS.items() if error >> bit & 1]
            if not error and self._roll.newest[servo].error & ALERT:
                faults.append(f"servo {servo}: hardware error")
            if self._enabled and self._setup[servo][WATCHDOG - SETUP] == TRIPPED:
                faults.append(f"servo {servo}: its bus watchdog has stopped it")
        return Reading(
            position=tuple(scale.to_rad(_int(block, 6)) for scale, block in zip(self._scales, blocks, strict=True)),
            velocity=tuple(scale.sign * _int(block, 2) * RATE for scale, block in zip(self._scales, blocks, strict=True)),
            current=tuple(
                int.from_bytes(block[:2], "little", signed=True) * factor for block, factor in zip(blocks, factors, strict=True)
            )
            if all(factors)
            else (),
            energised=all(self._setup[servo][0] == 1 for servo in self._ids),
            faults=tuple(faults),
            health=Health(
                min(int.from_bytes(block[18:20], "little") for block in blocks) / 10, tuple(float(block[20]) for block in blocks)
            ),
        )

    def _ping(self, servo: int) -> tuple[int, int]:
        """Its model and the version of its firmware."""
        status = ask_one(self._line, packets.next_status, packets.packet(servo, packets.PING), servo, 3)
        return int.from_bytes(status.parameters[:2], "little"), status.parameters[2]

    def _ask(self, servo: int, address: int, size: int) -> bytes:
        return ask_one(self._line, packets.next_status, packets.read(servo, address, size), servo, size).parameters

    def _tell(self, servo: int, address: int, data: bytes) -> None:
        ask_one(self._line, packets.next_status, packets.write(servo, address, data), servo, 0)


def _long(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


def _int(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little", signed=True)
