"""Other makes are proved through their drivers; a driver or a device with one safeguard cut out is found out."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edge.bridge import checks, left_alone, proof
from edge.bridge.by_contract import ByContract
from edge.bridge.by_hand import ByHand
from edge.bridge.hand import Hand
from edge.bridge.identity import Board, talking_to
from edge.bridge.proof import Check
from firmware_bridge import host_firmware
from firmware_bridge.controller import BridgeError, FirmwareState
from firmware_bridge.drivers.guard import Guard
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.setpoint import Setpoint
from firmware_bridge.drivers.simulated.copter import Copter, Px4Copter
from firmware_bridge.drivers.simulated.feetech import FeetechBus
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.odrive_can import OdriveCan
from firmware_bridge.drivers.simulated.vesc import VescPair
from firmware_bridge.host_firmware import HostFirmware
from tests.edge.bridge.conftest import Command
from tests.firmware_bridge.processes import RecordingPlant

QUERY = "can=2&speed=4&acceleration=20"
JOINTS = "ids=1,2&speed=4&acceleration=20&low=-0.5&high=0.4"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(left_alone, "WAIT_S", 1.5)
    return tmp_path / "state" / "latentloop" / "bridge"


@pytest.fixture
def examine(request: pytest.FixtureRequest) -> Iterator[Callable[..., Check]]:
    """Carries one check out, on a simulated device behind a driver."""
    ends: list[Callable[[], None]] = []

    def start(check: Callable[[Hand], Check], device: VescPair | FeetechBus, text: str) -> Check:
        line = Line(device)
        motors = make_controller(text.format(line.port))
        ends.extend((motors.close, line.close))
        motors.connect()
        hand = ByContract(motors, line.port)
        hand.rest()
        return checks.repeated(check, hand)

    yield start
    for end in ends:
        end()


def test_a_vesc_is_proved(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with Line(VescPair()) as line:
        assert command("selftest", f"vesc:{line.port}?{QUERY}", "--yes", "--json") == 0
        assert not any(motor.energised for motor in line.device.motors)
    report = json.loads(capsys.readouterr().out)
    names = ["unarmed", "limits", "lease", "command expiry", "emergency stop", "computer dead"]
    assert [(check["name"], check["result"]) for check in report["checks"]] == [(name, "proved") for name in names]
    assert json.loads(Path(report["proof"]).read_text())["uid"] == "000102030405060708090a0b 0102030405060708090a0b0c"


@pytest.mark.skipif(find_spec("pymavlink") is None, reason="the package pymavlink is not installed")
@pytest.mark.parametrize(("vehicle", "device"), [("copter", Copter), ("px4", Px4Copter)])
def test_a_copter_is_flown_by_nobody_for_a_test(
    vehicle: str, device: type[Copter], command: Command, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    with Line(device()) as line:
        assert command("selftest", f"mavlink:{line.port}?vehicle={vehicle}", "--yes", "--json") == 1
        assert line.device.mode == device.LOITER and not any(motor.travelled for motor in line.device.motors)
    found = {check["name"]: (check["result"], check["found"]) for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found.keys() == proof.NEEDED | {proof.ALONE}
    assert all(result == "not proved" and "in the hands of its pilot" in why for result, why in found.values())
    assert not list(state.glob("*.json"))


@pytest.mark.skipif(find_spec("can") is None, reason="the package python-can is not installed")
def test_an_odrive_on_can_is_proved(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with Line(OdriveCan()) as line:
        assert command("selftest", f"odrive-can:{line.port}?nodes=1,2&speed=4&acceleration=20", "--yes", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert {check["result"] for check in report["checks"]} == {"proved"}


FEETECH = f"feetech:{{}}?{JOINTS}"


@pytest.mark.parametrize("check", [checks.unarmed, checks.limits, checks.lease, checks.command, checks.estop])
def test_joints_of_another_make_are_proved(examine: Callable[..., Check], check: Callable[[Hand], Check]) -> None:
    bus = FeetechBus()
    found = examine(check, bus, FEETECH)
    assert found.result == "proved", found
    if check is checks.limits:
        assert "axis1 to -0.500 of -0.500 rad" in found.found and "axis1 0 of" not in found.found
        assert all(0.6 < motor.travelled < 3.0 for motor in bus.motors)


def _never(self: Guard, now_ns: int) -> str:
    return ""


def _without_command(self: Guard, now_ns: int) -> str:
    return "the control loop is no longer alive" if now_ns >= self._alive_until_ns else ""


def _without_heartbeat(self: Guard, now_ns: int) -> str:
    return "the newest command has run out" if self._command_until_ns and now_ns >= self._command_until_ns else ""


def _nothing(*_: object) -> None: ...


def _unlimited(self: Setpoint, target: float | None, elapsed_s: float) -> float:
    self.speed = 0.0
    self.value = target if target is not None else self.value if self._drives.mode.value == "position" else 0.0
    return self.value


def _forgets_its_stop(self: Guard) -> None:
    self.state = FirmwareState.LINKED


CUT: dict[str, tuple[str, Callable[[Hand], Check], object, str, object]] = {
    "heartbeat": ("vesc", checks.lease, Guard, "_expired", _without_heartbeat),
    "command expiry": ("feetech", checks.command, Guard, "_expired", _without_command),
    "both": ("feetech", checks.lease, Guard, "_expired", _never),
    "emergency stop": ("vesc", checks.estop, Guard, "estop", _nothing),
    "latch": ("feetech", checks.estop, Guard, "estop", _forgets_its_stop),
    "speeds": ("vesc", checks.limits, Setpoint, "advance", _unlimited),
    "ranges": ("feetech", checks.limits, Setpoint, "advance", _unlimited),
}


@pytest.mark.parametrize("cut", CUT)
def test_a_driver_with_a_hole_is_found_out(examine: Callable[..., Check], monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    make, check, owner, name, hole = CUT[cut]
    monkeypatch.setattr(owner, name, hole)
    monkeypatch.setattr(checks, "SLOW", 0.3)
    try:
        found = examine(check, *((VescPair(), f"vesc:{{}}?{QUERY}") if make == "vesc" else (FeetechBus(), FEETECH)))
    finally:
        monkeypatch.undo()
    assert found.result == "failed", found


def test_a_driver_that_moves_unarmed_is_found_out(examine: Callable[..., Check], monkeypatch: pytest.MonkeyPatch) -> None:
    def straight_through(self: Any, targets: Any, valid_until_ns: int) -> None:
        self._device.command(targets)

    monkeypatch.setattr("firmware_bridge.drivers.servo_loop.ServoLoop.send", straight_through)
    assert examine(checks.unarmed, VescPair(), f"vesc:{{}}?{QUERY}").result == "failed"


class _Unwatched(VescPair):
    """It says that it has a time-out, and has none."""

    def advance(self, elapsed_s: float) -> list[bytes]:
        self._silent_s = [0.0, 0.0]
        return super().advance(elapsed_s)


def test_a_device_that_goes_on_without_the_computer_is_found_out() -> None:
    with Line(_Unwatched()) as line:
        found = left_alone.left_alone(f"vesc:{line.port}?{QUERY}", "")
        assert found.result == "failed" and "GOES ON" in found.found
        assert not any(motor.energised for motor in line.device.motors)  # brought to rest afterwards


class _Stuck(VescPair):
    """Nothing turns, or nothing is measured."""

    def advance(self, elapsed_s: float) -> list[bytes]:
        for motor in self.motors:
            motor.top_speed = 0.0
        return super().advance(elapsed_s)


@pytest.mark.parametrize("check", [checks.limits, checks.lease, checks.command, checks.estop])
def test_what_was_not_seen_to_move_is_not_proved(examine: Callable[..., Check], check: Callable[[Hand], Check]) -> None:
    found = examine(check, _Stuck(), f"vesc:{{}}?{QUERY}")
    assert found.result == "not proved" and "axis1, axis2 was not seen to move" in found.found


def test_nor_is_it_left_alone() -> None:
    with Line(_Stuck()) as line:
        assert left_alone.left_alone(f"vesc:{line.port}?{QUERY}", "").result == "not proved"
    found = left_alone.left_alone("vesc:/dev/nothing", "it has none")
    assert found == Check(proof.ALONE, "not proved", "it has none", left_alone.WANTED)


@pytest.mark.parametrize("check", [checks.unarmed, checks.limits, checks.lease, checks.estop])
def test_joints_of_latentloops_firmware_are_proved(
    arm: HostFirmware, monkeypatch: pytest.MonkeyPatch, check: Callable[[Hand], Check]
) -> None:
    monkeypatch.setattr(checks, "SLOW", 0.8)
    with talking_to(Board(arm.port, 1_000_000)) as device:
        hand = ByHand(device)
        hand.rest()
        found = checks.repeated(check, hand)
    assert found.result == "proved", found


@pytest.fixture
def blind(firmware_cache: None, tmp_path: Path) -> Iterator[HostFirmware]:
    """A rover without encoders."""
    plant = RecordingPlant(tmp_path / "plant")
    running = host_firmware.start(plant=plant.path)
    yield running
    running.close()
    plant.close()


PERSON = """
import argparse, sys
from edge.bridge import left_alone
from edge.bridge.cli import register
from firmware_bridge import device
device.HOST_FIRMWARE = "no firmware is simulated"
parser = argparse.ArgumentParser()
register(parser.add_subparsers())
args = parser.parse_args(["bridge", "selftest", *sys.argv[1:]])
sys.exit(args.run(args))
"""


@pytest.mark.parametrize(("words", "code"), [("ARM\nAT MY RISK\n", 0), ("ARM\nat my risk\n", 1), ("ARM\n\n", 1)])
def test_a_robot_without_encoders_is_for_a_person_to_answer_for(blind: HostFirmware, state: Path, words: str, code: int) -> None:
    person, terminal = pty.openpty()
    asked = [sys.executable, "-c", PERSON, blind.port, "--json"]
    with subprocess.Popen(asked, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        os.write(person, words.encode())
        out, err = process.communicate(timeout=120)
    os.close(person)
    os.close(terminal)
    assert process.returncode == code and out, err
    report = json.loads(out)
    results = {check["name"]: check["result"] for check in report["checks"]}
    assert results.pop("unarmed") == "proved" and set(results.values()) == {"not proved"} and len(results) == 4
    assert "NOT PROVED, and nobody but you can answer for it" in err and "left, right was not seen to move" in err
    assert report["accepted"] is (code == 0) is bool(report["proof"])
    if code == 0:
        assert set(json.loads(Path(report["proof"]).read_text())["accepted"]["checks"]) == set(results)
    else:
        assert not list(state.glob("*.json"))


def test_yes_takes_nothing_upon_anybody(blind: HostFirmware, command: Command, state: Path) -> None:
    assert command("selftest", blind.port, "--yes") == 1
    assert not list(state.glob("*.json"))


def test_who_does_not_come_to_rest_is_not_proved_any_more(
    firmware: HostFirmware, command: Command, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("selftest", firmware.port, "--yes") == 0 and list(state.glob("*.json"))
    monkeypatch.setattr(ByHand, "standing", lambda hand: False)
    monkeypatch.setattr(ByHand, "until", lambda hand, true, seconds=0.0: true())
    with pytest.raises(BridgeError):
        command("selftest", firmware.port, "--yes")
    assert not list(state.glob("*.json"))
