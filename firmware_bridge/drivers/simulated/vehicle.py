"""What MAVLink shows of any simulated vehicle: heartbeats, a report, parameters, and answers to orders."""

from __future__ import annotations

from typing import Any

from firmware_bridge.drivers.mavlink_link import REQUEST, VERSION, dialect
from firmware_bridge.drivers.simulated.motor import Motor

REPORT_S = 0.02


class Vehicle:
    """beat_s: between two heartbeats, 1 s on a real one. system: the id that it gives itself. What a vehicle does is its own."""

    def __init__(self, motors: int, parameters: dict[str, float], beat_s: float) -> None:
        self._messages = dialect()
        self.motors = [Motor() for _ in range(motors)]
        self.supply_v = 12.0
        self.wrong_id = False
        self.system = 1
        self.parameters = parameters
        self.uid = 0x1D002A
        self.beat_s = beat_s
        self._silent_s = 0.0
        """How long nobody's heartbeat was heard."""
        self._said_s = {"beat": 0.0, "report": 0.0}
        self._ears: Any = self._messages.MAVLink(None)
        self._ears.robust_parsing = True
        self._mouth: Any = self._messages.MAVLink(None, srcSystem=1, srcComponent=1)

    def remove(self, motor: int) -> None:
        self.motors[motor].cut()  # and nothing tells

    def advance(self, elapsed_s: float) -> list[bytes]:
        self._silent_s += elapsed_s
        self._live(elapsed_s)
        said = []
        for what, every_s in (("beat", self.beat_s), ("report", REPORT_S)):
            self._said_s[what] += elapsed_s
            if self._said_s[what] >= every_s:
                self._said_s[what] = 0.0
                said += self._report() if what == "report" else [self._heartbeat()]
        return [self._packed(message) for message in said]

    def receive(self, data: bytes) -> list[bytes]:
        answers = []
        for message in self._ears.parse_buffer(data) or []:
            kind = message.get_type()
            if kind == "HEARTBEAT":
                self._silent_s = 0.0
            elif kind == "PARAM_REQUEST_READ" and message.param_id in self.parameters:
                name = message.param_id
                answers.append(self._mouth.param_value_encode(name.encode(), *self._encoded(name), 1, 0))
            elif kind == "COMMAND_LONG":
                answers.append(self._mouth.command_ack_encode(message.command, self._obey(message)))
                if message.command == REQUEST and message.param1 == VERSION:
                    answers.append(self._mouth.autopilot_version_encode(0, 0x04050700, 0, 0, 0, *(bytes(8),) * 3, 0, 0, self.uid))
            elif kind == "SET_POSITION_TARGET_LOCAL_NED":
                self._aim(message)
        return [self._packed(answer) for answer in answers]

    def _live(self, elapsed_s: float) -> None:
        raise NotImplementedError

    def _obey(self, message: Any) -> int:
        """The result of an order, as MAV_RESULT numbers them."""
        raise NotImplementedError

    def _aim(self, message: Any) -> None:
        raise NotImplementedError

    def _heartbeat(self) -> Any:
        raise NotImplementedError

    def _report(self) -> list[Any]:
        raise NotImplementedError

    def _encoded(self, name: str) -> tuple[float, int]:
        """A parameter as it goes over the line, and its type."""
        return self.parameters[name], 9

    def _supply(self) -> Any:
        return self._mouth.sys_status_encode(0, 0, 0, 0, round(self.supply_v * 1000), 0, 0, 0, 0, 0, 0, 0, 0)

    def _packed(self, message: Any) -> bytes:
        self._mouth.srcSystem = 77 if self.wrong_id else self.system
        wire = bytes(message.pack(self._mouth))
        self._mouth.seq = (self._mouth.seq + 1) % 256
        return wire
