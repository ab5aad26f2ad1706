"""Feetech STS servos on their bus: the arms SO-100 and SO-101, and wheels. They have no watchdog of their own."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.controller import Axis, BridgeError, Health
from firmware_bridge.drivers import bus_servos
from firmware_bridge.drivers import feetech_packets as packets
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.bus_servos import HEADROOM
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.on_bus import OnBus
from firmware_bridge.drivers.roll_call import RollCall, ask_one, missing
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec

KEYS = {**bus_servos.KEYS, "baud": "1000000"}

VERSIONS, ANGLE_RANGE, MODE, TORQUE, ACCELERATION, GOAL_SPEED = 0, 9, 33, 40, 41, 46
VERSIONS_SIZE = 5  # firmware, two bytes, and behind one more the model
BLOCK_SIZE = 31  # TORQUE up to the current at 69
POSITION_MODE, WHEEL_MODE = 0, 1
AMPERES = 0.0065
FAULTS = ("voltage out of range", "angle sensor", "too hot", "over-current", "angle", "overload")


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be."""
    device = Feetech(spec, axes)
    return ServoLoop(device, spec, asked=spec.asked(), rate_hz=spec.number("rate", 50, 5, 200))


class Feetech(OnBus):
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        super().__init__(spec.port, spec.integer("baud", 1_000_000, 9600, 1_000_000))
        self._servos = servos = bus_servos.of(spec, axes, 253)
        self._ids, self._scales, self._wheels = servos.ids, servos.scales, servos.wheels
        self.axes = servos.axes
        if self._wheels:  # a joint ends where it was last told to be
            self.unprovable = "these servos have no watchdog: without the computer, wheels go on turning for ever"
        self._roll = RollCall(self._ids, packets.next_status, BLOCK_SIZE)

    def open(self, timeout_s: float) -> str:
        self._open_line()
        found = {}
        for servo in self._ids:
            try:
                major, minor, _, *model = self._ask(servo, VERSIONS, VERSIONS_SIZE)
                found[servo] = f"{int.from_bytes(model, 'little')} with firmware {major}.{minor}"
            except NoAnswer:
                pass
        if len(found) < len(self._ids):
            raise BridgeError(missing("Feetech", self._ids, list(found), self._port, self._baud))
        self._roll = RollCall(self._ids, packets.next_status, BLOCK_SIZE)
        self._settle_modes()
        self._stop_what_moves()
        if not self._wheels:
            self.axes = tuple(map(self._within_range, range(len(self._ids))))
        return f"Feetech, {len(found)} servos, model {', '.join(sorted(set(found.values())))}"

    def read(self) -> Reading:
        self._roll.call(
            self._line,
            packets.sync_read(self._ids, TORQUE, BLOCK_SIZE),
            lambda servo: packets.read(servo, TORQUE, BLOCK_SIZE),
        )
        return self._reading()

    def enable(self, reading: Reading) -> None:
        if self._wheels:
            self.command((0.0,) * len(self._ids))
        else:
            self.command(reading.position)
        self._line.write(packets.sync_write(TORQUE, dict.fromkeys(self._ids, b"\x01")))
        self.read()
        if off := [str(servo) for servo in self._ids if not self._roll.newest[servo].parameters[0]]:
            raise BridgeError(f"Feetech servo {', '.join(off)} does not switch on: see to its power and its error light")

    def command(self, values: Sequence[float]) -> None:
        if self._wheels:
            speeds = (round(scale.to_rate(value)) for scale, value in zip(self._scales, values, strict=True))
            data = {servo: b"\0" * 5 + packets.word(speed) for servo, speed in zip(self._ids, speeds, strict=True)}
        else:
            data = {}
            for servo, scale, axis, value in zip(self._ids, self._scales, self.axes, values, strict=True):
                cap = max(1, round(axis.max_speed * HEADROOM * scale.ticks_per_rad))
                data[servo] = b"\0" + packets.word(scale.to_ticks(value)) + b"\0\0" + packets.word(cap)
        self._line.write(packets.sync_write(ACCELERATION, data))

    def rest(self) -> None:
        if self._wheels:
            self.command((0.0,) * len(self._ids))
        if not self._servos.hold:
            self.cut()

    def cut(self) -> None:
        for _ in range(2):
            self._line.write(packets.write(packets.BROADCAST, TORQUE, b"\0"))

    def clear(self) -> None:
        pass  # these servos latch nothing that a message could clear

    # -- small parts -------------------------------------------------------------------------------------------------

    def _settle_modes(self) -> None:
        """The mode as asked for. The lock of the memory stays closed: the servo forgets it without power, and none wears out."""
        wanted = WHEEL_MODE if self._wheels else POSITION_MODE
        for servo in self._ids:
            if self._ask(servo, MODE, 1)[0] == wanted:
                continue
            self._tell(servo, TORQUE, b"\0")
            self._tell(servo, GOAL_SPEED, b"\0\0")
            self._tell(servo, MODE, bytes((wanted,)))
            if self._ask(servo, MODE, 1)[0] != wanted:
                raise BridgeError(
                    f"Feetech servo {servo} does not take mode {wanted} ({'wheel' if self._wheels else 'position'}): "
                    "set it with the vendor's tool, or change the key mode"
                )

    def _stop_what_moves(self) -> None:
        """Whoever spoke to them before may have left them under way."""
        if self._wheels:
            self.command((0.0,) * len(self._ids))
            return
        self.read()
        for servo in self._ids:
            block = self._roll.newest[servo].parameters
            if block[0]:
                self._tell(servo, ACCELERATION + 1, block[16:18])

    def _within_range(self, index: int) -> Axis:
        data = self._ask(self._ids[index], ANGLE_RANGE, 4)
        low, high = packets.signed(int.from_bytes(data[:2], "little")), packets.signed(int.from_bytes(data[2:], "little"))
        return self._servos.within(index, low, high) if low < high else self._servos.axes[index]  # the same: turns for ever

    def _reading(self) -> Reading:
        blocks = [self._roll.newest[servo].parameters for servo in self._ids]
        at = [[int.from_bytes(block[i : i + 2], "little") for i in (16, 18, 29)] for block in blocks]
        faults = self._roll.faults()
        for servo in self._ids:
            error = self._roll.newest[servo].error
            faults += [f"servo {servo}: {name}" for bit, name in enumerate(FAULTS) if error >> bit & 1]
        scaled = list(zip(self._scales, at, strict=True))
        return Reading(
            position=tuple(scale.to_rad(packets.signed(words[0])) for scale, words in scaled),
            velocity=tuple(scale.from_rate(packets.signed(words[1])) for scale, words in scaled),
            current=tuple(packets.signed(words[2]) * AMPERES for words in at),
            energised=all(block[0] == 1 for block in blocks),
            faults=tuple(faults),
            health=Health(min(block[22] for block in blocks) / 10, tuple(float(block[23]) for block in blocks)),
        )

    def _ask(self, servo: int, address: int, size: int) -> bytes:
        return ask_one(self._line, packets.next_status, packets.read(servo, address, size), servo, size).parameters

    def _tell(self, servo: int, address: int, data: bytes) -> None:
        ask_one(self._line, packets.next_status, packets.write(servo, address, data), servo, 0)
