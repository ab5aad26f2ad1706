"""Limits and parameters that the host wants: in force in every session before anything can be armed, and never looser."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from firmware_bridge.board_settings import Value
from firmware_bridge.controller import BridgeError, FirmwareState
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.framing import Frame
from firmware_bridge.handshake import shake_hands
from firmware_bridge.link import Link
from firmware_bridge.messages import Arm, Axis, HelloAck, Lease, LimitsSet, Message, Param, ParamSet, SetNow, State
from firmware_bridge.process.controller import ProcessController
from firmware_bridge.serial_controller import SerialController
from firmware_bridge.serial_port import open_port
from tests.firmware_bridge.conftest import Starter
from tests.firmware_bridge.processes import RecordingPlant, until
from tests.firmware_bridge.test_connect_errors import device, firmware
from tests.firmware_bridge.test_end_to_end import drive, looping

MS = 1_000_000
SLOW: Mapping[str, Value] = {"left.speed": 3.0, "left.acceleration": 30.0, "lease_cap_ms": 400}
WANTED = (3_000, 10_000)


@pytest.fixture
def kind() -> str:
    """Only the compiled firmware: what is under test is the host."""
    return "c"


@contextmanager
def connected(path: Path, settings: Mapping[str, Value] = SLOW) -> Iterator[SerialController]:
    controller = SerialController(str(path), lease_s=0.4, settings=settings)
    controller.connect()
    yield controller
    controller.close()


@contextmanager
def raw(path: Path) -> Iterator[Callable[[Message], int]]:
    """A host without any carefulness that sends whatever it is given, leased and armed. The limits are told truly."""
    link = Link(open_port(str(path), 115_200))
    session = shake_hands(link, "the port", None, time.monotonic_ns() + 5000 * MS)

    def send(message: Message) -> int:
        until_us = session.clock.to_device_us(time.monotonic_ns() + 350 * MS)
        link.send(Lease(until_us, 0, 1, 0, 0), session.id)
        if isinstance(message, Arm):
            message = Arm(session.limits_crc, session.boot_id)
        elif isinstance(message, SetNow):
            message = msgspec.structs.replace(message, valid_until_us=until_us)
        return link.send(message, session.id)

    yield send
    link.close()


# -- in force ------------------------------------------------------------------------------------------------------


def test_tightened_limits_are_held_by_the_firmware_itself(start: Starter, plant: RecordingPlant, tmp_path: Path) -> None:
    start()
    with connected(tmp_path / "port") as controller:
        left, right = controller.describe()
        assert (left.high, left.max_acceleration, right.high) == (3.0, 30.0, 20.0)
        with looping(controller, (10.0, 10.0)) as turns:
            drive(controller, plant, turns, WANTED)
        assert max(p.output_mrad_s[0] for p in plant.packets) == 3_000
    plant.wait_for(State.LINKED)
    before = len(plant.packets)
    with raw(tmp_path / "port") as send:  # they last until the firmware restarts, for a host that knows nothing of them too
        send(Arm(0, 0))
        until(lambda: send(SetNow(1, 3, (10_000, 10_000), 0)) and plant.newest.output_mrad_s[1] == 10_000, "full speed")
        until(lambda: send(SetNow(1, 3, (10_000, 10_000), 0)) and plant.newest.output_mrad_s == WANTED, "its limit")
    assert max(p.output_mrad_s[0] for p in plant.packets[before:]) == 3_000


def test_a_restarted_firmware_gets_them_again(start: Starter, plant: RecordingPlant, tmp_path: Path) -> None:
    first = start()
    with connected(tmp_path / "port") as controller, looping(controller, (10.0, 10.0)) as turns:
        drive(controller, plant, turns, WANTED)
        first.close()
        until(lambda: controller.telemetry().state is FirmwareState.OFFLINE, "the loss is seen")
        start()
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "the link is back")
        assert controller.describe()[0].high == 3.0
        seen = len(plant.packets)
        drive(controller, plant, turns, WANTED)
        assert max(p.output_mrad_s[0] for p in plant.packets[seen:]) == 3_000


def test_through_the_bridge_process_and_its_successor(start: Starter, plant: RecordingPlant, tmp_path: Path) -> None:
    firmware_process = start()
    controller = ProcessController(str(tmp_path / "port"), lease_s=0.4, settings=SLOW)
    controller.connect()
    try:
        assert controller.describe()[0].high == 3.0
        child = controller.pid
        assert child is not None
        firmware_process.close()
        until(lambda: controller.telemetry().state is FirmwareState.OFFLINE, "the loss is seen")
        os.kill(child, signal.SIGKILL)
        start()
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "the link is back")
        assert controller.pid != child
        with looping(controller, (10.0, 10.0)) as turns:  # type: ignore[arg-type]
            drive(controller, plant, turns, WANTED)  # type: ignore[arg-type]
        assert max(p.output_mrad_s[0] for p in plant.packets) == 3_000
    finally:
        controller.close()


def test_a_board_still_moving_gets_them_once_it_has_stopped(start: Starter, plant: RecordingPlant, tmp_path: Path) -> None:
    start()
    with raw(tmp_path / "port") as send:
        send(Arm(0, 0))
        until(lambda: send(SetNow(1, 3, (20_000, 20_000), 0)) and plant.newest.output_mrad_s[0] == 20_000, "full speed")
    with connected(tmp_path / "port") as controller:
        until(lambda: controller.telemetry().state is FirmwareState.LINKED and controller.describe()[0].high == 3.0, "settled")
        with looping(controller, (10.0, 10.0)) as turns:
            drive(controller, plant, turns, WANTED)


def test_a_stopped_board_gets_them_once_it_is_cleared(start: Starter, plant: RecordingPlant, tmp_path: Path) -> None:
    start()
    with connected(tmp_path / "port", {}) as controller:
        controller.estop()
        plant.wait_for(State.ESTOP)
    with connected(tmp_path / "port") as controller:
        assert controller.telemetry().state is FirmwareState.ESTOP and controller.describe()[0].high == 20.0
        with looping(controller, (10.0, 10.0)) as turns:
            with pytest.raises(BridgeError, match="latched"):
                controller.arm()
            controller.clear_estop()
            until(
                lambda: controller.telemetry().state is FirmwareState.LINKED and controller.describe()[0].high == 3.0, "settled"
            )
            drive(controller, plant, turns, WANTED)


def test_nothing_is_armed_before_they_are_in_force(start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start()
    monkeypatch.setattr("firmware_bridge.handshake.apply", lambda *_: False)  # as if it were always moving
    said = ""
    with connected(tmp_path / "port") as controller, looping(controller, (1.0, 1.0)):
        while "not connected" in said or not said:  # between two sessions there is no device to ask
            with pytest.raises(BridgeError) as caught:
                controller.arm()
            said = str(caught.value)
    assert "are not in force yet" in said


# -- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"left.speed": 20.5}, "takes 0 to 20 rad/s; limits can only be tightened"),
        ({"left.acceleration": 1e9}, "left.acceleration cannot be 1000000000.0: write a number"),
        ({"left.speed": "fast"}, "left.speed cannot be 'fast': write a number, in rad/s"),
        ({"left.stop_policy": 1}, "left.stop_policy cannot be 1: write coast or"),
        ({"lift.speed": 1.0}, "lift.speed is for no axis of"),
        ({"left.high": 1.0}, "is a wheel that has no end"),
        ({"left.max_speed": 1.0}, "left.max_speed is no setting of"),
        ({"lease_cap_ms": 501}, "takes 50 to 500 ms"),
    ],
)
@pytest.mark.parametrize("own_process", [False, True])
def test_what_the_board_does_not_take_is_one_line_at_the_start(
    own_process: bool, settings: Mapping[str, Value], says: str
) -> None:
    with device(firmware()) as port:
        controller = (ProcessController if own_process else SerialController)(port, settings=settings)
        with pytest.raises(BridgeError, match=says) as caught:
            controller.connect()
        controller.close()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [True, None, 1 << 70, float("nan")])
@pytest.mark.parametrize("kind_of", [SerialController, ProcessController])
def test_what_can_be_no_setting_at_all(kind_of: type[SerialController | ProcessController], value: Value) -> None:
    with pytest.raises(BridgeError, match=r"left\.speed cannot be .*: give a number or"):
        kind_of("/dev/ttyACM0", settings={"left.speed": value})


def test_other_controllers_have_limits_of_their_own() -> None:
    with pytest.raises(BridgeError, match=r"left\.speed is a setting of latentloop's firmware, and .* is vesc"):
        make_controller("vesc:/dev/ttyACM0", ("left", "right"), settings=SLOW)


def changed(kind: type[Message], **fields: int) -> Callable[[Frame], Frame]:
    """A firmware that says something else in one kind of message."""

    def change(frame: Frame) -> Frame:
        if frame.type != kind.TYPE:
            return frame
        return frame._replace(payload=msgspec.structs.replace(kind.unpack(frame.payload), **fields).pack())

    return change


@pytest.mark.parametrize("settings", [{}, SLOW])
def test_a_firmware_that_keeps_to_other_limits_than_it_tells(settings: Mapping[str, Value]) -> None:
    for lie in (changed(HelloAck, limits_crc=7), changed(HelloAck, lease_cap_us=1), changed(Axis, max_speed=2_999)):
        with device(firmware(change=lie)) as port:
            controller = SerialController(port, settings=settings)
            with pytest.raises(BridgeError, match=r"tells limits with the checksum .* and keeps to others"):
                controller.connect()


@pytest.mark.parametrize("order", [ParamSet, LimitsSet])
def test_a_firmware_that_says_yes_and_does_not(order: type[Message]) -> None:
    def change(frame: Frame) -> Frame:
        if frame.type != Param.TYPE:
            return frame
        told = Param.unpack(frame.payload)
        return frame._replace(payload=msgspec.structs.replace(told, value=told.high).pack())

    with device(firmware(change=change)) as port:
        controller = SerialController(port, settings={"lease_cap_ms": 90} if order is ParamSet else {"left.speed": 3})
        with pytest.raises(BridgeError, match=r"was set to .* and .* says"):
            controller.connect()
