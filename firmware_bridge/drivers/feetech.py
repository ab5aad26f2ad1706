"""Feetech STS servos on their bus: the arms SO-100 and SO-101, and wheels. They have no watchdog of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from firmware_bridge.controller import Axis, AxisMode, BridgeError, Health, LinkCounts
from firmware_bridge.drivers import feetech_packets as packets
from firmware_bridge.drivers.bus import Bus, NoAnswer
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.feetech_packets import Status
from firmware_bridge.drivers.scale import Scale, per_turn
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec
from firmware_bridge.serial_port import open_port

KEYS = {
    "ids": "the servos, in the order of the axes: ids=1,2,3,4,5,6",
    "baud": "1000000",
    "mode": "position or wheel",
    "command": "position or velocity: what targets of position servos are",
    "zero": "ticks at 0 rad, 2048",
    "signs": "-1 where a servo counts against its axis",
    "low": "rad, -3.14",
    "high": "rad, 3.14",
    "speed": "largest speed, 2 rad/s",
    "acceleration": "largest acceleration, 10 rad/s^2",
    "rest": "hold or release: what the servos do when disarmed",
    "rate": "turns per second, 50",
}

TICKS_PER_TURN = 4096
MODEL, ANGLE_RANGE, MODE, TORQUE, ACCELERATION, GOAL_SPEED = 3, 9, 33, 40, 41, 46
BLOCK_SIZE = 31  # TORQUE up to the current at 69
POSITION_MODE, WHEEL_MODE = 0, 1
AMPERES = 0.0065
HEADROOM = 1.2
"""The servo's own speed limit, as a share of that of the setpoint: a second line, not a brake on the first."""
MISSES = 3
"""A servo that stays silent for so many turns in a row is a fault."""
FAULTS = ("voltage out of range", "angle sensor", "too hot", "over-current", "angle", "overload")


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be."""
    device = Feetech(spec, axes)
    return ServoLoop(device, spec.port, asked=spec.asked(), rate_hz=spec.number("rate", 50, 5, 200))


class Feetech:
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        self._port, self._baud = spec.port, spec.integer("baud", 1_000_000, 9600, 1_000_000)
        self._ids = ids = spec.integers("ids", None, 0, 253)
        self._wheels = spec.choice("mode", ("position", "wheel")) == "wheel"
        self._hold = spec.choice("rest", ("hold", "release")) == "hold"
        n = len(ids)
        zero = spec.numbers("zero", n, TICKS_PER_TURN / 2, -32767, 32767)
        self._scales: tuple[Scale, ...] = tuple(
            per_turn(TICKS_PER_TURN, 0 if self._wheels else at, sign) for at, sign in zip(zero, spec.signs(n), strict=True)
        )
        low, high = spec.numbers("low", n, -3.14, -50, 50), spec.numbers("high", n, 3.14, -50, 50)
        speed, acceleration = spec.numbers("speed", n, 2, 0.01, 50), spec.numbers("acceleration", n, 10, 0.1, 1000)
        names = spec.names(axes, n)
        if any(bottom >= top for bottom, top in zip(low, high, strict=True)):
            raise BridgeError(f"{spec.text} has a 'low' that is not below its 'high': correct one of them")
        if self._wheels:
            self.axes = tuple(
                Axis(name, AxisMode.VELOCITY, "rad/s", -v, v, v, a)
                for name, v, a in zip(names, speed, acceleration, strict=True)
            )
        else:
            self.axes = tuple(
                Axis(name, AxisMode.POSITION, "rad", *rest)
                for name, *rest in zip(names, low, high, speed, acceleration, strict=True)
            )
        self._asked_axes = self.axes
        self.urgent = threading.Event()
        self._bus: Bus | None = None
        self._last: dict[int, Status] = {}
        self._missed = dict.fromkeys(ids, 0)

    def open(self, timeout_s: float) -> str:
        self._bus = Bus(open_port(self._port, self._baud), self.urgent)
        models = {}
        for servo in self._ids:
            try:
                models[servo] = int.from_bytes(self._ask(servo, MODEL, 2), "little")
            except NoAnswer:
                pass
        if missing := [str(servo) for servo in self._ids if servo not in models]:
            found = f"only {', '.join(map(str, models))} do" if models else "none does"
            raise BridgeError(
                f"Feetech servo {', '.join(missing)} does not answer on {self._port} at {self._baud} baud ({found}): "
                "see to the motors' power, the cable behind the last one that answers, and the keys ids and baud"
            )
        self._last, self._missed = {}, dict.fromkeys(self._ids, 0)
        self._settle_modes()
        self._stop_what_moves()
        if not self._wheels:
            self.axes = tuple(self._within_range(*each) for each in zip(self._asked_axes, self._ids, self._scales, strict=True))
        return f"Feetech, {len(models)} servos, model {', '.join(map(str, sorted(set(models.values()))))}"

    def read(self) -> Reading:
        found: dict[int, Status] = {}
        try:
            self._line.ask(packets.sync_read(self._ids, TORQUE, BLOCK_SIZE), self._all_of(found), tries=1)
        except NoAnswer:
            if not found:
                raise
            for servo in (each for each in self._ids if each not in found):  # they may wait for the one that is missing
                try:
                    found[servo] = self._status(packets.read(servo, TORQUE, BLOCK_SIZE), servo, BLOCK_SIZE, tries=1)
                except NoAnswer:
                    pass
        for servo in self._ids:
            self._missed[servo] = 0 if servo in found else self._missed[servo] + 1
        self._last.update(found)
        if len(self._last) < len(self._ids):
            raise NoAnswer("not every servo has answered yet")
        return self._reading()

    def enable(self, reading: Reading) -> None:
        if self._wheels:
            self.command((0.0,) * len(self._ids))
        else:
            self.command(reading.position)
        self._line.write(packets.sync_write(TORQUE, dict.fromkeys(self._ids, b"\x01")))
        self.read()
        if off := [str(servo) for servo in self._ids if not self._last[servo].parameters[0]]:
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
        if not self._hold:
            self.cut()

    def cut(self) -> None:
        for _ in range(2):
            self._line.write(packets.write(packets.BROADCAST, TORQUE, b"\0"))

    def clear(self) -> None:
        pass  # these servos latch nothing that a message could clear

    def counts(self) -> LinkCounts:
        return self._line.counts()

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()

    # -- small parts -------------------------------------------------------------------------------------------------

    @property
    def _line(self) -> Bus:
        assert self._bus is not None
        return self._bus

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
            block = self._last[servo].parameters
            if block[0]:
                self._tell(servo, ACCELERATION + 1, block[16:18])

    def _within_range(self, axis: Axis, servo: int, scale: Scale) -> Axis:
        data = self._ask(servo, ANGLE_RANGE, 4)
        low, high = packets.signed(int.from_bytes(data[:2], "little")), packets.signed(int.from_bytes(data[2:], "little"))
        if low >= high:
            return axis  # it turns round and round
        bottom, top = scale.range_rad(low, high)
        if bottom >= axis.high or top <= axis.low:
            raise BridgeError(
                f"the range of Feetech servo {servo}, {bottom:.2f} to {top:.2f} rad, has nothing in common with that of axis "
                f"{axis.name}, {axis.low:g} to {axis.high:g}: see to the keys zero, signs, low and high"
            )
        return replace(axis, low=max(axis.low, bottom), high=min(axis.high, top))

    def _reading(self) -> Reading:
        blocks = [self._last[servo].parameters for servo in self._ids]
        at = [[int.from_bytes(block[i : i + 2], "little") for i in (16, 18, 29)] for block in blocks]
        faults = [f"servo {servo} does not answer" for servo, missed in self._missed.items() if missed >= MISSES]
        for servo in self._ids:
            error = self._last[servo].error
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

    def _all_of(self, found: dict[int, Status]) -> Callable[[bytearray], bool | None]:
        def take(heard: bytearray) -> bool | None:
            while (status := packets.next_status(heard)) is not None:
                if status.id in self._ids and len(status.parameters) == BLOCK_SIZE:
                    found[status.id] = status
            return True if len(found) == len(self._ids) else None

        return take

    def _status(self, request: bytes, servo: int, size: int, tries: int = 2) -> Status:
        def take(heard: bytearray) -> Status | None:
            while (status := packets.next_status(heard)) is not None:
                if status.id == servo and len(status.parameters) == size:
                    return status
            return None

        return self._line.ask(request, take, tries=tries)

    def _ask(self, servo: int, address: int, size: int) -> bytes:
        return self._status(packets.read(servo, address, size), servo, size).parameters

    def _tell(self, servo: int, address: int, data: bytes) -> None:
        self._status(packets.write(servo, address, data), servo, 0)
