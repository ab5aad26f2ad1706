"""The promises of test_promises.py, kept against devices and lines that behave badly. Real pseudo-terminals, no mocks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from firmware_bridge.controller import BridgeError, FirmwareState, MotorController
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.simulated.line import Line
from tests.firmware_bridge.drivers.conftest import Driving, leaves, reaches, stand, turns
from tests.firmware_bridge.drivers.kinds import Kind
from tests.firmware_bridge.processes import until

Drive = Callable[..., Driving]
STOPPED = (FirmwareState.OFFLINE, FirmwareState.FAULT, FirmwareState.SAFE, FirmwareState.LINKED)


def one_line(error: BridgeError) -> str:
    """The message is one sentence with a remedy."""
    text = str(error)
    assert "\n" not in text and ":" in text and "Traceback" not in text and len(text) < 400
    return text


def noise() -> Callable[[], bytes]:
    """Garbage of the worst kind: mostly the bytes that packets begin with."""
    chance = random.Random(7)
    return lambda: bytes(chance.choices(b"\xff\xff\xff\xfd\x00\x01\x02{\"\n\x80", k=chance.randrange(12)))


def flipped(data: bytes) -> bytes:
    """One bit in the last third, where the checksum or what it covers lies."""
    at = len(data) * 2 // 3
    return data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]


def test_estop_works_while_the_line_is_noisy_in_both_directions(
    kind: Kind, line: Line, controller: MotorController, drive: Drive
) -> None:
    controller.connect()
    drive(controller, line, kind.targets)
    count = itertools.count()
    line.noise = noise()
    line.spoil_heard = lambda data: flipped(data) if next(count) % 3 else data
    controller.estop()
    until(lambda: not any(motor.energised for motor in line.device.motors), "motors without power")
    stand(line)


SPOILT: dict[str, Callable[[Line], None]] = {
    "silent": lambda line: setattr(line, "spoil", lambda _: b""),
    "corrupt": lambda line: setattr(line, "spoil", flipped),
    "cut short": lambda line: setattr(line, "spoil", lambda data: data[: len(data) // 2]),
    "somebody else": lambda line: setattr(line.device, "wrong_id", True),
    "far too late": lambda line: setattr(line, "late_s", 3600.0),
}


def _mend(line: Line) -> None:
    line.spoil, line.late_s, line.device.wrong_id = bytes, 0.0, False


def _cannot_tell(kind: Kind, way: str) -> bool:
    return (way == "somebody else" and not kind.named) or (way == "corrupt" and not kind.checked)


@pytest.mark.parametrize("way", SPOILT)
def test_a_device_that_cannot_be_understood_is_refused_in_one_line(
    kind: Kind, line: Line, controller: MotorController, way: str
) -> None:
    if _cannot_tell(kind, way):
        return
    SPOILT[way](line)
    with pytest.raises(BridgeError) as refusal:
        controller.connect(0.3)
    assert line.port in one_line(refusal.value)
    assert all(motor.travelled == 0.0 for motor in line.device.motors)
    _mend(line)
    controller.connect()  # the port was given back


@pytest.mark.parametrize("way", SPOILT)
def test_a_device_that_turns_bad_while_moving_is_stopped_and_never_armed_again_by_itself(
    kind: Kind, line: Line, controller: MotorController, drive: Drive, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if _cannot_tell(kind, way):
        return
    controller.connect()
    drive(controller, line, kind.targets)
    monkeypatch.setattr("firmware_bridge.drivers.servo_loop.SILENCE_NS", 100_000_000)
    SPOILT[way](line)
    assert leaves(controller, FirmwareState.ACTIVE) in (*STOPPED, FirmwareState.SAFE_STOP)
    stand(line)
    _mend(line)
    reaches(controller, FirmwareState.LINKED, FirmwareState.FAULT)
    turns(controller, 5)
    stand(line)


def test_now_and_then_a_spoilt_answer_does_not_stop_it(
    kind: Kind, line: Line, controller: MotorController, drive: Drive
) -> None:
    controller.connect()
    drive(controller, line, kind.targets)
    count = itertools.count(1)
    line.spoil = lambda data: data[: len(data) // 2] if next(count) % 17 == 0 else data
    turns(controller, 80)
    assert controller.telemetry().state is FirmwareState.ACTIVE


def test_a_reset_while_moving_ends_the_permission(kind: Kind, line: Line, controller: MotorController, drive: Drive) -> None:
    if not kind.tells_resets:
        return
    controller.connect()
    drive(controller, line, kind.targets)
    until(lambda: all(motor.travelled > 0.4 for motor in line.device.motors), "some way to go")
    line.reset_wanted = True
    leaves(controller, FirmwareState.ACTIVE)
    stand(line)


def test_a_brown_out_is_a_fault_with_a_name(kind: Kind, line: Line, controller: MotorController, drive: Drive) -> None:
    if not kind.brown_out:
        return
    controller.connect()
    drive(controller, line, kind.targets)
    line.device.supply_v = 4.0
    assert any(kind.brown_out in fault for fault in reaches(controller, FirmwareState.FAULT).faults)
    stand(line)
    with pytest.raises(BridgeError, match="still there"):
        controller.clear_estop()
    line.device.supply_v = 12.0
    until(lambda: not controller.telemetry().health.supply_v or controller.telemetry().health.supply_v > 8, "power again")
    stand(line)
    controller.clear_estop()
    assert controller.telemetry().state is FirmwareState.LINKED


def test_an_unplugged_device_is_offline(kind: Kind, line: Line, controller: MotorController, drive: Drive) -> None:
    controller.connect()
    loop = drive(controller, line, kind.targets)
    line.unplug()
    reaches(controller, FirmwareState.OFFLINE)
    loop.stop()
    with pytest.raises(BridgeError) as refusal:
        controller.arm()
    one_line(refusal.value)
    if kind.watchdog:
        stand(line)


def test_a_missing_motor_is_named_at_connect_and_stops_the_others_later(
    kind: Kind, line: Line, controller: MotorController, drive: Drive
) -> None:
    if not any(key in kind.query for key in ("ids=", "can=", "nodes=")):
        return
    controller.connect()
    drive(controller, line, kind.targets)
    line.device.remove(1)
    telemetry = reaches(controller, FirmwareState.FAULT)
    assert any("2 does not answer" in fault for fault in telemetry.faults), telemetry.faults
    stand(line)
    controller.close()
    with pytest.raises(BridgeError, match=r"2 does not answer") as refusal:
        make_controller(kind.spec(line.port), kind.axes).connect()
    one_line(refusal.value)
