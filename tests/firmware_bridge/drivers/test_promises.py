"""The same promises of every driver, while device and line are well. Real pseudo-terminals, no mocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from firmware_bridge.controller import BridgeError, FirmwareState, MotorController
from firmware_bridge.drivers.simulated.line import Line
from tests.firmware_bridge.drivers.conftest import Driving, reaches, stand, turns
from tests.firmware_bridge.drivers.kinds import Kind
from tests.firmware_bridge.processes import until

Drive = Callable[..., Driving]


def test_connecting_moves_nothing_and_tells_what_there_is(kind: Kind, line: Line, controller: MotorController) -> None:
    with pytest.raises(BridgeError, match="call connect first"):
        controller.describe()
    controller.connect()
    telemetry = controller.telemetry()
    assert telemetry.state is FirmwareState.LINKED and telemetry.firmware and telemetry.faults == ()
    assert len(telemetry.position) == len(telemetry.velocity) == len(kind.axes)
    axes = controller.describe()
    assert [axis.name for axis in axes] == list(kind.axes) == list(controller.axes)
    assert all(axis.low < axis.high and axis.max_speed > 0 and axis.max_acceleration > 0 for axis in axes)
    assert all(motor.travelled == 0.0 for motor in line.device.motors)


def test_nothing_moves_unarmed(kind: Kind, line: Line, controller: MotorController) -> None:
    controller.connect()
    with pytest.raises(BridgeError, match="no control loop is alive"):
        controller.arm()
    loop = Driving(controller, kind.targets)
    until(lambda: controller.telemetry().counts.dropped > 20, "commands that were held back")
    loop.stop()
    assert all(motor.travelled == 0.0 for motor in line.device.motors)


def test_armed_it_goes_where_it_is_told_within_its_limits(
    kind: Kind, line: Line, controller: MotorController, drive: Drive
) -> None:
    controller.connect()
    loop = drive(controller, line, kind.targets)

    def there() -> bool:
        telemetry = controller.telemetry()
        found = telemetry.position if kind.position else telemetry.velocity
        return all(abs(at - to) < 0.05 for at, to in zip(found, kind.targets, strict=True))

    until(there, "the targets, in the telemetry")
    loop.targets = tuple(1000 * target for target in kind.targets)
    turns(controller, 40)
    for motor, axis in zip(line.device.motors, controller.describe(), strict=True):
        assert motor.fastest < 1.3 * axis.max_speed
        assert not kind.position or axis.low - 0.01 < motor.position < axis.high + 0.01
    assert controller.telemetry().state is FirmwareState.ACTIVE
    assert all(volt is not None and 8 < volt < 60 for volt in [controller.telemetry().health.supply_v])


@pytest.mark.parametrize("end", ["heartbeat", "engagement", "commands"])
def test_it_stops_when_the_control_loop_does(
    kind: Kind, line: Line, controller: MotorController, drive: Drive, end: str
) -> None:
    controller.connect()
    loop = drive(controller, line, kind.targets)
    loop.end(end)
    reaches(controller, FirmwareState.SAFE)
    stand(line)
    loop.beating = loop.engaged = loop.sending = True
    turns(controller, 5)
    assert controller.telemetry().state is FirmwareState.SAFE  # coming back to life is no permission
    stand(line)
    controller.arm()


def test_disarming_and_closing_leave_it_standing(kind: Kind, line: Line, controller: MotorController, drive: Drive) -> None:
    controller.connect()
    drive(controller, line, kind.targets)
    controller.disarm()
    reaches(controller, FirmwareState.LINKED)
    stand(line)
    controller.arm()
    controller.close()
    assert controller.telemetry().state is FirmwareState.OFFLINE
    stand(line)


def test_estop_cuts_and_stays_until_cleared_by_hand(
    kind: Kind, line: Line, controller: MotorController, drive: Drive
) -> None:
    controller.connect()
    drive(controller, line, kind.targets)
    controller.estop()
    until(lambda: not any(motor.energised for motor in line.device.motors), "motors without power")
    stand(line)
    with pytest.raises(BridgeError, match="clear it first"):
        controller.arm()
    controller.clear_estop()
    assert controller.telemetry().state is FirmwareState.LINKED
    stand(line)
    controller.arm()
