"""Two axes of ODrives on a CAN bus behind an slcan adapter, with the watchdog of each axis."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

from firmware_bridge.drivers.simulated.motor import Motor

TURN = 2 * math.pi
TIMEOUT, ENABLE = 153, 154
FEEDING = (0x07, 0x0C, 0x0D)
"""What is known to feed the watchdog of firmware 0.6, from ODrive's examples; with 0.5 everything does."""
_LEAST_V = 8.0


@dataclass
class _Axis:
    node: int
    motor: Motor = field(default_factory=Motor)
    error: int = 0
    state: int = 1
    control: int = 2
    gone: bool = False
    silent_s: float = 0.0
    timeout_s: float = 0.2
    watched: bool = True


class OdriveCan:
    """firmware: (0, 5, 6) or one of 0.6. watchdog_s: as saved on the device, 0 for off. beat_s: between two heartbeats.
    calibrated: without it closed loop is refused."""

    def __init__(
        self, firmware: tuple[int, int, int] = (0, 6, 10), watchdog_s: float = 0.2, beat_s: float = 0.03
    ) -> None:
        self.supply_v = 24.0
        self.wrong_id = False
        self.calibrated = True
        self._firmware, self._saved_s, self._beat_s = firmware, watchdog_s, beat_s
        self._axes = [_Axis(1), _Axis(2)]
        self.motors = [axis.motor for axis in self._axes]
        self._open = False
        self._heard = bytearray()
        self._since_s = {"beat": 0.0, "moved": 0.0}
        self.reset()

    def reset(self) -> None:
        for axis in self._axes:
            axis.motor.cut()
            axis.error, axis.state, axis.control, axis.silent_s = 0, 1, 2, 0.0
            axis.timeout_s, axis.watched = self._saved_s, self._saved_s > 0

    def remove(self, motor: int) -> None:
        self._axes[motor].gone = True
        self.motors[motor].cut()

    def advance(self, elapsed_s: float) -> list[bytes]:
        for axis in self._axes:
            axis.silent_s += elapsed_s
            if self.supply_v < _LEAST_V:
                self._fail(axis, 0x200 if self._new else 0x40)
            if axis.watched and axis.silent_s > axis.timeout_s:
                self._fail(axis, 0x1000000 if self._new else 0x800)
            axis.motor.energised = axis.state == 8
            axis.motor.advance(elapsed_s)
        said = []
        for what, every_s in (("beat", self._beat_s), ("moved", 0.01)):
            self._since_s[what] += elapsed_s
            if self._since_s[what] >= every_s:
                self._since_s[what] = 0.0
                said += [self._beat(axis) if what == "beat" else self._moved(axis) for axis in self._axes if not axis.gone]
        return said if self._open else []

    def receive(self, data: bytes) -> list[bytes]:
        self._heard += data
        answers = []
        while (end := self._heard.find(b"\r")) >= 0:
            line = bytes(self._heard[:end])
            del self._heard[: end + 1]
            try:
                answers += self._adapter(line.decode("ascii"))
            except (ValueError, IndexError, struct.error):
                answers.append(b"\a")
        return answers

    # -- the adapter -------------------------------------------------------------------------------------------------

    def _adapter(self, line: str) -> list[bytes]:
        verb = line[:1]
        if verb in ("O", "C"):
            self._open = verb == "O"
        if verb not in ("t", "r") or not self._open:
            return [b"\r"]
        identifier, size = int(line[1:4], 16), int(line[4])
        data = bytes.fromhex(line[5 : 5 + 2 * size])
        if verb == "t" and len(data) != size:
            return [b"\a"]
        answers = [b"z\r"]
        for axis in self._axes:
            if axis.node == identifier >> 5 and not axis.gone:
                if not self._new or identifier & 0x1F in FEEDING:
                    axis.silent_s = 0.0
                answers += self._obey(axis, identifier & 0x1F, data, verb == "r")
        return answers

    # -- the axes ----------------------------------------------------------------------------------------------------

    def _obey(self, axis: _Axis, command: int, data: bytes, asked: bool) -> list[bytes]:
        motor = axis.motor
        if asked:
            return self._tell(axis, command)
        if command == 0x02:
            self._fail(axis, 0x2000000 if self._new else 0x4000)
        elif command == 0x07:
            wanted = struct.unpack_from("<I", data)[0]
            if wanted != 8:
                axis.state = 1
                motor.cut()
            elif not axis.error and self.calibrated:
                axis.state = 8
        elif command == 0x0B:
            axis.control = struct.unpack("<II", data)[0]
            motor.top_speed = 2.4 if axis.control == 3 else 20.0  # its own velocity limit
        elif command == 0x0C and axis.control == 3:
            motor.to = struct.unpack("<fhh", data)[0] * TURN
        elif command == 0x0D and axis.control == 2:
            motor.to, motor.turning = None, struct.unpack("<ff", data)[0] * TURN
        elif command == 0x18:
            axis.error = 0
        elif command == 0x04 and self._new:
            return self._endpoint(axis, data)
        return []

    def _tell(self, axis: _Axis, command: int) -> list[bytes]:
        if command == 0x09:
            return [self._moved(axis)]
        if command == 0x17:
            return [self._line(axis, 0x17, struct.pack("<ff", self.supply_v, 0.5))]
        if command == 0x00 and self._new:
            return [self._line(axis, 0x00, bytes((2, 4, 4, 58, *self._firmware, 0)))]
        return []

    def _endpoint(self, axis: _Axis, data: bytes) -> list[bytes]:
        operation, endpoint, _ = struct.unpack_from("<BHB", data)
        if operation == 1 and endpoint == TIMEOUT:
            axis.timeout_s = struct.unpack_from("<f", data, 4)[0]
        elif operation == 1 and endpoint == ENABLE:
            axis.watched = bool(data[4])
        value = {TIMEOUT: struct.pack("<f", axis.timeout_s), ENABLE: bytes((axis.watched,))}.get(endpoint)
        return [] if value is None else [self._line(axis, 0x05, struct.pack("<BHB", 0, endpoint, 0) + value)]

    def _beat(self, axis: _Axis) -> bytes:
        return self._line(axis, 0x01, struct.pack("<IBBBx", axis.error, axis.state, 0, 0))

    def _moved(self, axis: _Axis) -> bytes:
        return self._line(axis, 0x09, struct.pack("<ff", axis.motor.position / TURN, axis.motor.velocity / TURN))

    def _line(self, axis: _Axis, command: int, data: bytes) -> bytes:
        node = axis.node + (20 if self.wrong_id else 0)
        return b"t%03X%d%s\r" % (node << 5 | command, len(data), data.hex().upper().encode("ascii"))

    def _fail(self, axis: _Axis, error: int) -> None:
        axis.error |= error
        axis.state = 1
        axis.motor.cut()

    @property
    def _new(self) -> bool:
        return self._firmware >= (0, 6, 0)
