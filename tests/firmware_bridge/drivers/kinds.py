"""Every kind of controller with its simulated device: the table over which the same tests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_bridge.drivers.simulated.copter import Copter
from firmware_bridge.drivers.simulated.dynamixel import DynamixelBus
from firmware_bridge.drivers.simulated.feetech import FeetechBus
from firmware_bridge.drivers.simulated.line import SimulatedDevice
from firmware_bridge.drivers.simulated.mavlink import Rover
from firmware_bridge.drivers.simulated.odrive import Odrive
from firmware_bridge.drivers.simulated.odrive_can import OdriveCan
from firmware_bridge.drivers.simulated.roboclaw import Roboclaw
from firmware_bridge.drivers.simulated.vesc import VescPair
from firmware_bridge.drivers.simulated.waveshare import Waveshare


def quick_rover() -> Rover:
    """One that says who it is ten times a second, and not once: nothing is said of how long a heartbeat may take."""
    return Rover(beat_s=0.1)


@dataclass(frozen=True)
class Kind:
    """device: makes a simulated one with two motors. query: the spec behind the port. targets: what to drive to. position: targets
    are positions. named: answers carry a name, so that a wrong one can be told. checked: answers carry a checksum.
    watchdog: the device stops by itself when the host's process dies. brown_out: what the fault is called.
    tells_resets: a restart shows in what the device says. package: needed from an extra."""

    name: str
    device: Callable[[], SimulatedDevice]
    query: str
    targets: tuple[float, ...]
    position: bool = False
    named: bool = True
    checked: bool = True
    watchdog: bool = True
    brown_out: str = "voltage"
    tells_resets: bool = True
    axes: tuple[str, ...] = ("left", "right")
    package: str = ""

    def spec(self, port: str) -> str:
        return f"{self.name}:{port}?{self.query}"


_WHEELS = "speed=4&acceleration=40&rate=200"

KINDS = {
    "feetech arm": Kind(
        "feetech", FeetechBus, "ids=1,2&speed=2&acceleration=40&rate=200", (0.8, -0.5), position=True, watchdog=False
    ),
    "feetech wheels": Kind("feetech", FeetechBus, f"ids=1,2&mode=wheel&{_WHEELS}", (3.0, -2.0), watchdog=False),
    "dynamixel arm": Kind("dynamixel", DynamixelBus, "ids=1,2&speed=2&acceleration=40&rate=200", (0.8, -0.5), position=True),
    "dynamixel wheels": Kind("dynamixel", DynamixelBus, f"ids=1,2&mode=wheel&{_WHEELS}", (3.0, -2.0)),
    "vesc": Kind("vesc", VescPair, f"can=2&{_WHEELS}", (3.0, -2.0)),
    "roboclaw": Kind("roboclaw", Roboclaw, f"ticks=1000&{_WHEELS}", (3.0, -2.0), named=False),
    "odrive": Kind("odrive", Odrive, "motors=0,1&speed=4&acceleration=40&rate=100", (3.0, -2.0), named=False),
    "odrive can": Kind(
        "odrive-can", OdriveCan, "nodes=1,2&speed=4&acceleration=40&watchdog_ms=400", (3.0, -2.0), checked=False, package="can"
    ),
    "waveshare": Kind(
        "waveshare", Waveshare, "speed=1.8&acceleration=40&rate=50", (1.5, -1.2), named=False, checked=False, tells_resets=False
    ),
    "mavlink rover": Kind(
        "mavlink", quick_rover, "speed=3,3&acceleration=40,40&rate=50", (2.5, -2.0), package="pymavlink"
    ),
    "mavlink copter": Kind(
        "mavlink",
        Copter,
        "vehicle=copter&speed=3,3,1,3&acceleration=40",
        (2.5, -2.0, 0.5, -1.0),
        brown_out="emergency",
        axes=("forward", "right", "down", "turn"),
        package="pymavlink",
    ),
}
"""As many turns per second as each driver allows, and hard acceleration, so that nobody waits for a ramp."""
