"""A simulated device on a pseudo-terminal, a controller in front of it, and a control loop that drives it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

from firmware_bridge.controller import FirmwareState, MotorController
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.simulated.line import Line
from tests.conftest import unmet
from tests.firmware_bridge.drivers.kinds import KINDS, Kind
from tests.firmware_bridge.processes import until

LEASE_NS = 400_000_000  # the test machine may be busy
PAUSE_S = 0.1
"""A machine that stands still for longer than this may stop the motors, as it must."""
STILL_S = 0.04
"""Two turns of the slowest driver, eight of most."""


class Driving:
    """A control loop in a thread: alive, engaged and commanding until it is stopped; each of which can be left out."""

    def __init__(self, controller: MotorController, targets: Sequence[float]) -> None:
        self.controller = controller
        self.targets = tuple(targets)
        self.beating = self.engaged = self.sending = True
        self.slowest_turn_s = 0.0
        self._ending = threading.Event()
        self._turn = threading.Lock()
        self._beat()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self, what: str, within_ns: int = 50_000_000) -> None:
        """The last heartbeat or command of this loop, good for so long; or, engaged no more, it goes on living."""
        if what == "engagement":
            self.engaged = False
        elif what == "heartbeat":
            with self._turn:
                self.beating = False
                self.controller.heartbeat(time.monotonic_ns() + within_ns, True)
        else:
            with self._turn:
                self.sending = False
                self.controller.send(self.targets, time.monotonic_ns() + within_ns)

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _beat(self) -> None:
        if self.beating:
            self.controller.heartbeat(time.monotonic_ns() + LEASE_NS, self.engaged)

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ending.wait(0.01):
            now = time.monotonic()
            self.slowest_turn_s, before = max(self.slowest_turn_s, now - before), now
            with self._turn:
                self._beat()
                if self.sending:
                    self.controller.send(self.targets, time.monotonic_ns() + LEASE_NS)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    kind = KINDS[request.param]
    if kind.package and find_spec(kind.package) is None:
        unmet(f"the package {kind.package} is not installed")
    return kind


@pytest.fixture
def line(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    if kind.name == "mavlink":  # listened to in the measure in which it beats faster
        monkeypatch.setattr("firmware_bridge.drivers.mavlink_link.LISTEN_S", 0.5)
        monkeypatch.setattr("firmware_bridge.drivers.mavlink.BELIEVED_S", 0.3)
    with Line(kind.device()) as line:
        yield line


@pytest.fixture
def controller(kind: Kind, line: Line) -> Iterator[MotorController]:
    """Not connected."""
    controller = make_controller(kind.spec(line.port), kind.axes)
    yield controller
    controller.close()


@pytest.fixture
def drive() -> Iterator[Callable[..., Driving]]:
    """Starts a control loop and arms; the motors are moving on return. Stopped before by a pause of the machine, and only then, it
    is tried again."""
    loops: list[Driving] = []

    def start(controller: MotorController, line: Line, targets: Sequence[float]) -> Driving:
        loop = Driving(controller, targets)
        loops.append(loop)

        def moving() -> bool:
            return all(motor.travelled > 0.03 for motor in line.device.motors)

        for _ in range(5):
            loop.slowest_turn_s = line.slowest_turn_s = 0.0
            controller.arm(5.0)
            until(lambda: moving() or controller.telemetry().state is not FirmwareState.ACTIVE, "motion of every motor, or a stop")
            seen = controller.telemetry()
            if seen.state is FirmwareState.ACTIVE:
                return loop
            paused_s = max(loop.slowest_turn_s, line.slowest_turn_s)
            assert paused_s > PAUSE_S, f"{seen.state.value} {seen.faults}, and nothing was paused for more than {paused_s:.3f} s"
            reaches(controller, FirmwareState.LINKED, FirmwareState.SAFE, FirmwareState.FAULT)
            if controller.telemetry().state is FirmwareState.FAULT:
                controller.clear_estop()
        raise AssertionError("the machine was paused during all attempts")

    yield start
    for loop in loops:
        loop.stop()


def turns(controller: MotorController, n: int) -> None:
    """Let the controller's loop go round so many times: it asks in each, or listens to what comes by itself."""
    before = controller.telemetry().counts

    def gone_round() -> bool:
        now = controller.telemetry().counts
        return max(now.sent - before.sent, now.received - before.received) >= n

    until(gone_round, f"{n} more messages of the controller, or to it")


def stand(line: Line) -> None:
    """Wait until every motor stands; then it must stay so."""
    until(lambda: all(abs(motor.velocity) < 1e-9 for motor in line.device.motors), "a standstill of every motor")
    travelled = [motor.travelled for motor in line.device.motors]
    time.sleep(STILL_S)
    assert [motor.travelled for motor in line.device.motors] == travelled


def leaves(controller: MotorController, state: FirmwareState) -> FirmwareState:
    until(lambda: controller.telemetry().state is not state, f"the end of {state.value}")
    return controller.telemetry().state


def reaches(controller: MotorController, *states: FirmwareState) -> Any:
    until(lambda: controller.telemetry().state in states, f"one of {[each.value for each in states]}")
    return controller.telemetry()
