"""Any motor controller, led by hand through the contract: what is proved is the driver on this computer and the device together."""

from __future__ import annotations

import time
from collections.abc import Sequence

from edge.bridge.hand import Hand, Seen
from firmware_bridge.controller import BridgeError, FirmwareState, MotorController

LOOK_S = 0.005


class ByContract(Hand):
    """Of a connected controller. Ends and times are monotonic ns of this computer."""

    margin_ms = 300.0  # a turn of the slowest driver, and a question that is not answered
    causes = ("the control loop is no longer alive", "the newest command has run out")

    def __init__(self, motors: MotorController, where: str) -> None:
        super().__init__(where, motors.describe())
        self._motors = motors
        self._take_in()

    def feed(self, until_ns: int) -> None:
        self._motors.heartbeat(until_ns, True)
        self.lease_end = until_ns

    def say(self, targets: Sequence[float], until_ns: int) -> None:
        self._motors.send(targets, until_ns)
        self.command_end = until_ns

    def listen(self, until_ns: int) -> None:
        while time.monotonic_ns() < until_ns:
            time.sleep(LOOK_S)
            self._take_in()

    def ask_to_arm(self) -> str:
        try:
            self._motors.heartbeat(time.monotonic_ns() + 2_000_000_000, True)
            self._motors.arm(1.0)
        except BridgeError as error:
            return str(error)
        return ""

    def disarm(self) -> None:
        self._motors.disarm()

    def stop(self) -> None:
        self._motors.estop()

    def clear(self) -> bool:
        try:
            self._motors.clear_estop()
        except BridgeError:
            return False
        self._take_in()
        return self.newest.state is not FirmwareState.ESTOP

    def late_ms(self, at: int, end: int) -> float:
        return (at - end) / 1e6

    def _take_in(self) -> None:
        seen = self._motors.telemetry()
        if not seen.position:
            raise BridgeError(f"{self.where} is gone ({seen.trouble or seen.state.value}): see to its power and cable")
        self.note(Seen(time.monotonic_ns(), seen.measured_ns / 1e6, seen.state, seen.position, seen.velocity, seen.stop_cause))
