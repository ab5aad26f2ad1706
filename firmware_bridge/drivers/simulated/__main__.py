"""A simulated controller on a pseudo-terminal: ``python -m firmware_bridge.drivers.simulated feetech`` prints its spec."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.drivers.simulated.copter import Copter, Px4Copter
from firmware_bridge.drivers.simulated.dynamixel import DynamixelBus
from firmware_bridge.drivers.simulated.feetech import FeetechBus
from firmware_bridge.drivers.simulated.line import Line, SimulatedDevice
from firmware_bridge.drivers.simulated.mavlink import Rover
from firmware_bridge.drivers.simulated.odrive import Odrive
from firmware_bridge.drivers.simulated.odrive_can import OdriveCan
from firmware_bridge.drivers.simulated.roboclaw import Roboclaw
from firmware_bridge.drivers.simulated.vesc import VescPair
from firmware_bridge.drivers.simulated.waveshare import Waveshare

DEVICES: dict[str, tuple[Callable[[], SimulatedDevice], str]] = {
    "feetech": (FeetechBus, "ids=1,2&mode=wheel&speed=10"),
    "dynamixel": (DynamixelBus, "ids=1,2&mode=wheel&speed=10"),
    "vesc": (VescPair, "can=2"),
    "roboclaw": (Roboclaw, "ticks=1000"),
    "odrive": (Odrive, "motors=0,1"),
    "odrive-can": (OdriveCan, "nodes=1,2&watchdog_ms=400"),
    "waveshare": (Waveshare, "radius=0.04"),
    "mavlink": (Rover, "speed=0.5,1"),
}
"""One of every kind of controller."""
VEHICLES: dict[str, tuple[Callable[[], SimulatedDevice], str]] = {
    "copter": (Copter, "vehicle=copter"),
    "px4": (Px4Copter, "vehicle=px4"),
}
"""More for the kind mavlink."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge.drivers.simulated",
        description="Simulated motors behind a controller of the given kind, or a vehicle, until Ctrl-C.",
    )
    parser.add_argument("kind", choices=(*DEVICES, *VEHICLES))
    parser.add_argument("--link", type=Path, help="a path to have the port under, too")
    given = parser.parse_args()
    make, query = (DEVICES | VEHICLES)[given.kind]
    kind = "mavlink" if given.kind in VEHICLES else given.kind
    with Line(make(), given.link) as line:
        print(f"{kind}:{line.port}?{query}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
