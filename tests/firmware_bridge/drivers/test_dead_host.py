"""The process that drives is killed: what has a watchdog of its own stops, what has none goes on, as docs/drivers.md says."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from firmware_bridge.drivers.simulated.line import Line
from tests.conftest import unmet
from tests.firmware_bridge.drivers.conftest import stand
from tests.firmware_bridge.drivers.kinds import KINDS, Kind
from tests.firmware_bridge.processes import until

DRIVER = """
import sys, time
from firmware_bridge.drivers.registry import make_controller
controller = make_controller(sys.argv[1], sys.argv[2].split(","))
targets = [float(each) for each in sys.argv[3:]]
controller.connect()
def beat():
    controller.heartbeat(time.monotonic_ns() + 1_000_000_000, True)
beat()
controller.arm(5.0)
while True:
    beat()
    controller.send(targets, time.monotonic_ns() + 1_000_000_000)
    time.sleep(0.01)
"""
WHEELS = [name for name, kind in KINDS.items() if not kind.position]


@pytest.mark.parametrize("name", WHEELS)
def test_a_killed_process_leaves_wheels_turning_only_where_there_is_no_watchdog(name: str) -> None:
    kind: Kind = KINDS[name]
    if kind.package and find_spec(kind.package) is None:
        unmet(f"the package {kind.package} is not installed")
    with Line(kind.device()) as line:
        arguments = [sys.executable, "-c", DRIVER, kind.spec(line.port), ",".join(kind.axes), *map(str, kind.targets)]
        with subprocess.Popen(arguments) as driver:
            try:
                until(lambda: all(motor.travelled > 0.1 for motor in line.device.motors), "motion", 30.0)
            finally:
                driver.kill()
        if kind.watchdog:
            stand(line)
        else:
            travelled = [motor.travelled for motor in line.device.motors]
            until(
                lambda: all(m.travelled > then + 2.0 for m, then in zip(line.device.motors, travelled, strict=True)),
                "wheels that nothing stops",
            )
