"""What a real line does to bytes, between a real host and the compiled firmware: nothing that moves the motors."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_bridge.controller import FirmwareState
from firmware_bridge.messages import State
from firmware_bridge.serial_controller import SerialController
from tests.firmware_bridge.conftest import Starter
from tests.firmware_bridge.middle import Fault, Middle, untouched
from tests.firmware_bridge.processes import RecordingPlant, until
from tests.firmware_bridge.test_end_to_end import drive, looping

SPEEDS = (5_000, 5_000)
STILL = {State.IDLE, State.LINKED, State.SAFE, State.ESTOP}


@pytest.fixture
def kind() -> str:
    """The host is under test."""
    return "c"


@pytest.fixture
def line(start: Starter, tmp_path: Path) -> Iterator[Middle]:
    middle = Middle(tmp_path / "line")
    middle.attach(start().port)
    yield middle
    middle.close()


@pytest.fixture
def controller(line: Middle) -> Iterator[SerialController]:
    controller = SerialController(str(line.path), lease_s=0.5)
    controller.connect()
    yield controller
    controller.close()


def flips(draw: random.Random) -> Fault:
    """One bit of every tenth piece."""

    def fault(data: bytes) -> bytes:
        damaged = bytearray(data)
        if draw.random() < 0.1:
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        return bytes(damaged)

    return fault


def drops(draw: random.Random) -> Fault:
    """A part of every tenth piece."""

    def fault(data: bytes) -> bytes:
        if draw.random() >= 0.1:
            return data
        at = draw.randrange(len(data))
        return data[:at] + data[at + 1 + draw.randrange(20) :]

    return fault


def doubles(draw: random.Random) -> Fault:
    """Every fifth piece comes twice, and every fifth an earlier one once more."""
    earlier = [b""]

    def fault(data: bytes) -> bytes:
        earlier.append(data)
        chance = draw.random()
        return data + data if chance < 0.2 else data + draw.choice(earlier) if chance < 0.4 else data

    return fault


@pytest.mark.parametrize("make", [flips, drops, doubles])
def test_a_damaged_line_moves_nothing_wrongly_and_recovers(
    controller: SerialController, plant: RecordingPlant, line: Middle, make: Callable[[random.Random], Fault]
) -> None:
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, SPEEDS)
        seen = len(plant.packets)
        line.to_device, line.to_host = make(random.Random(1)), make(random.Random(2))
        time.sleep(1.0)
        line.to_device = line.to_host = untouched
        for packet in plant.packets[seen:]:
            assert all(0 <= speed <= limit for speed, limit in zip(packet.output_mrad_s, SPEEDS, strict=True))
            assert packet.state not in STILL or packet.output_mrad_s == (0, 0)
        until(lambda: controller.telemetry().state is not FirmwareState.OFFLINE, "the link is back")
        counts = controller.telemetry().counts
        assert make is doubles or counts.crc_errors + counts.dropped > 0
        controller.disarm()
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "it is disarmed")
        drive(controller, plant, turns, SPEEDS)


def test_two_seconds_of_old_bytes_move_nothing(controller: SerialController, plant: RecordingPlant, line: Middle) -> None:
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, SPEEDS)
        line.hold()
        plant.wait_for(State.SAFE)
        time.sleep(1.5)
        seen = len(plant.packets)
        assert line.release() > 1000
        time.sleep(0.3)
        assert {p.output_mrad_s for p in plant.packets[seen:]} == {(0, 0)}
        assert State.ACTIVE not in {p.state for p in plant.packets[seen:]}
        until(lambda: controller.telemetry().state in (FirmwareState.LINKED, FirmwareState.SAFE), "the link is back")
        drive(controller, plant, turns, SPEEDS)


def test_unplugged_and_plugged_in_again_it_stays_disarmed(
    controller: SerialController, plant: RecordingPlant, line: Middle
) -> None:
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, SPEEDS)
        line.unplug()
        until(lambda: controller.telemetry().state is FirmwareState.OFFLINE, "it is noticed")
        plant.wait_for(State.SAFE)
        until(lambda: "no serial port" in controller.trouble, "the reason")
        assert "no serial port" in controller.telemetry().trouble
        line.plug_in()
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "it is found again")
        seen = len(plant.packets)
        time.sleep(0.3)
        assert {(p.state, p.output_mrad_s) for p in plant.packets[seen:]} == {(State.LINKED, (0, 0))}
        drive(controller, plant, turns, SPEEDS)


def test_a_board_that_resets_behind_an_open_port_stays_disarmed(
    controller: SerialController, plant: RecordingPlant, line: Middle, start: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    """As a brown-out behind a USB-to-serial adapter: the port never vanishes, only the firmware is another one."""
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, SPEEDS)
        with caplog.at_level(logging.WARNING):
            line.attach(start().port)
            until(lambda: "has restarted; it is not armed" in caplog.text, "the new boot id is noticed")
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "a new session")
        controller.send((5.0, 5.0), time.monotonic_ns() + 10**9)
        time.sleep(0.3)
        assert controller.telemetry().state is FirmwareState.LINKED
        assert controller.telemetry().velocity == (0.0, 0.0)


def test_a_line_that_answers_late_is_asked_in_time(controller: SerialController, line: Middle) -> None:
    """80 ms there and back, as over a network: no question is repeated for ever, and no late answer is thrown away."""

    def late(data: bytes) -> bytes:
        time.sleep(0.04)
        return data

    line.to_device = line.to_host = late
    controller.heartbeat(time.monotonic_ns() + 10 * 10**9, True)
    controller.arm(timeout_s=2.0)
    assert controller.telemetry().state is FirmwareState.ACTIVE
    controller.disarm()
    until(lambda: controller.telemetry().state is FirmwareState.LINKED, "disarmed")
