"""Every kind of controller with its simulated device: the table over which the same tests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_bridge.drivers.simulated.dynamixel import DynamixelBus
from firmware_bridge.drivers.simulated.feetech import FeetechBus
from firmware_bridge.drivers.simulated.line import SimulatedDevice


@dataclass(frozen=True)
class Kind:
    """device: makes a simulated one with two motors. query: the spec behind the port. targets: what to drive to. position: targets
    are positions. named: answers carry a name, so that a wrong one can be told. checked: answers carry a checksum.
    watchdog: the device stops by itself when the host's process dies. brown_out: what the fault is called."""

    name: str
    device: Callable[[], SimulatedDevice]
    query: str
    targets: tuple[float, ...]
    position: bool = False
    named: bool = True
    checked: bool = True
    watchdog: bool = True
    brown_out: str = "voltage"
    axes: tuple[str, ...] = ("left", "right")

    def spec(self, port: str) -> str:
        return f"{self.name}:{port}?{self.query}"


KINDS = {
    "feetech arm": Kind(
        "feetech", FeetechBus, "ids=1,2&speed=2&acceleration=20", (0.8, -0.5), position=True, watchdog=False
    ),
    "feetech wheels": Kind("feetech", FeetechBus, "ids=1,2&mode=wheel&speed=4&acceleration=20", (3.0, -2.0), watchdog=False),
    "dynamixel arm": Kind("dynamixel", DynamixelBus, "ids=1,2&speed=2&acceleration=20", (0.8, -0.5), position=True),
    "dynamixel wheels": Kind("dynamixel", DynamixelBus, "ids=1,2&mode=wheel&speed=4&acceleration=20", (3.0, -2.0)),
}
