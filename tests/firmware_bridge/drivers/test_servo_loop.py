"""The loop that owns the port, in front of a device that lets a test do something in the midst of its calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import pytest

from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState, LinkCounts
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import parse
from tests.firmware_bridge.drivers.conftest import reaches


class Instant:
    """A wheel that does all at once. meanwhile: called in the midst of clearing and switching on."""

    def __init__(self) -> None:
        self.axes = (Axis("wheel", AxisMode.VELOCITY, "rad/s", -1.0, 1.0, 1.0, 10.0),)
        self.uid = self.unprovable = self.untestable = ""
        self.urgent = threading.Event()
        self.meanwhile: Callable[[], None] = lambda: None
        self.powered = False

    def open(self, timeout_s: float) -> str:
        return "instant"

    def read(self) -> Reading:
        return Reading((0.0,), (0.0,), energised=self.powered)

    def enable(self, reading: Reading) -> None:
        self.powered = True
        self.meanwhile()

    def command(self, values: Sequence[float]) -> None: ...

    def rest(self) -> None:
        self.powered = False

    def cut(self) -> None:
        self.powered = False

    def clear(self) -> None:
        self.meanwhile()

    def counts(self) -> LinkCounts:
        return LinkCounts()

    def close(self) -> None: ...


def test_a_stop_in_the_midst_of_clearing_stays() -> None:
    device = Instant()
    with closing(ServoLoop(device, parse("vesc:here"))) as loop:
        loop.connect()
        loop.estop()
        reaches(loop, FirmwareState.ESTOP)
        device.meanwhile = loop.estop
        with pytest.raises(BridgeError, match="clearing was called off by a stop"):
            loop.clear_estop()
        assert loop.telemetry().state is FirmwareState.ESTOP
        device.meanwhile = loop.disarm  # no stop, and no reason not to clear
        loop.clear_estop()
        assert loop.telemetry().state is FirmwareState.LINKED


@pytest.mark.parametrize("act", ["estop", "disarm"])
def test_a_stop_or_disarming_in_the_midst_of_arming_ends_it(act: str) -> None:
    device = Instant()
    with closing(ServoLoop(device, parse("vesc:here"))) as loop:
        loop.connect()
        loop.heartbeat(time.monotonic_ns() + 10_000_000_000, True)
        device.meanwhile = getattr(loop, act)
        with pytest.raises(BridgeError, match="arming was called off"):
            loop.arm()
        reaches(loop, FirmwareState.ESTOP if act == "estop" else FirmwareState.LINKED)
        assert loop.telemetry().state is not FirmwareState.ACTIVE
