"""What a board may be set to, and that it is: ``bridge settings`` with the compiled firmware."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bridge.identity import Board, talking_to
from edge.bridge.proof import why_not
from edge.config import parse_config
from edge.errors import UserError
from firmware_bridge.controller import BridgeError
from firmware_bridge.host_firmware import HostFirmware
from firmware_bridge.messages import Estop, State
from firmware_bridge.serial_controller import SerialController
from tests.edge.bridge.conftest import Command

ROBOT = 'name = "r"\nbundle = "rover"\n[camera]\nsource = "0"\n[bridge]\nport = "p"\n'


def test_it_lists_value_range_and_unit(arm: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("settings", arm.port, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    each = {setting["name"]: setting for setting in found["settings"]}
    assert len(each) == 6 * 8 + 6 and len(found["limits_crc"]) == 8
    pan = each["pan.speed"]
    assert (pan["value"], pan["low"], pan["high"], pan["unit"]) == (4.0, 0.0, 4.0, "rad/s")
    assert (each["pan.low"]["value"], each["pan.low"]["high"], each["pan.low"]["unit"]) == (-1.92, 1.92, "rad")
    assert (each["lift.stop_policy"]["value"], each["lift.stop_policy"]["unit"]) == ("hold", "")
    assert (each["lease_cap_ms"]["low"], each["lease_cap_ms"]["high"], each["lease_cap_ms"]["unit"]) == (50, 500, "ms")
    assert command("settings", arm.port) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["pan.acceleration", "20", "rad/s^2", "0.001", "to", "20", "rad/s^2"] in [line.split()[:7] for line in lines]
    assert any(line.startswith("pan.stop_policy") and "coast or brake or hold or release" in line for line in lines)


def test_wheels_have_no_ends(firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("settings", firmware.port, "--json") == 0
    names = [setting["name"] for setting in json.loads(capsys.readouterr().out)["settings"]]
    assert "left.speed" in names and "left.low" not in names


def test_what_is_set_lasts_until_the_board_restarts(
    firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("left.speed=5", "left.acceleration=62.5", "right.stop_policy=hold", "left.encoder_limit=1.5", "lease_cap_ms=200")
    before = _listed(firmware, command, capsys)
    assert command("settings", firmware.port, *given) == 0
    out = capsys.readouterr().out
    assert "until the board restarts" in out and "longest lease 200 ms" in out
    robot_file = out[out.index("[bridge.limits.left]") :]
    assert parse_config((ROBOT + robot_file).encode(), "r").bridge.settings == {
        "left.speed": 5,
        "left.acceleration": 62.5,
        "left.encoder_limit": 1.5,
        "right.stop_policy": "hold",
        "lease_cap_ms": 200,
    }
    after = _listed(firmware, command, capsys)
    changed = {name: after[name] for name in after if after[name] != before[name]}
    assert changed == {
        "left.speed": 5.0,
        "left.acceleration": 62.5,
        "right.stop_policy": "hold",
        "left.encoder_limit": 1.5,
        "lease_cap_ms": 200,
    }
    assert command("settings", firmware.port, "left.speed=10") == 0  # not beyond what is compiled in: that is the board's to say


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("left.speed=21", "left.speed = 21 is refused by .*, which takes 0 to 20 rad/s; limits can only be tightened"),
        ("left.acceleration=0", "takes 0.001 to 400 rad/s"),
        ("left.speed=fast", "left.speed cannot be 'fast': write a number, in rad/s"),
        ("left.speed=nan", "left.speed cannot be nan"),
        ("left.speed=1e400", "left.speed cannot be inf"),
        ("lift.speed=1", "lift.speed is for no axis of .* \\(its axes are left, right\\)"),
        ("left.sped=1", "did you mean 'speed'"),
        ("speed=1", "it belongs to an axis, as left.speed"),
        ("left.low=-1", "left of .* is a wheel that has no end"),
        ("left.stop_policy=stop", "write coast or brake or hold or release"),
        ("left.over_current_ma=1.5", "write a whole number, in mA"),
        ("lease_cap_ms=40", "takes 50 to 500 ms"),
        ("encoder_ms=201", "takes 0 to 200 ms"),
    ],
)
def test_what_it_does_not_take(firmware: HostFirmware, command: Command, given: str, says: str) -> None:
    with pytest.raises(BridgeError, match=says) as raised:
        command("settings", firmware.port, "right.speed=3", given)
    assert "\n" not in str(raised.value)
    with talking_to(Board(firmware.port, 1_000_000)) as device:
        assert device.session.axes[1].max_speed == 20_000  # all or nothing


@pytest.mark.parametrize("given", ["left.speed", "=5", "left.speed="])
def test_words_that_set_nothing(command: Command, given: str) -> None:
    with pytest.raises(UserError, match="write it as NAME=VALUE"):
        command("settings", "/dev/ttyACM0", given)


def test_the_same_twice_and_another_controller(command: Command) -> None:
    with pytest.raises(UserError, match=r"left\.speed is given twice"):
        command("settings", "/dev/ttyACM0", "left.speed=1", "left.speed=2")
    with pytest.raises(UserError, match="has no latentloop firmware"):
        command("settings", "vesc:/dev/ttyACM0")


def test_ends_that_are_exchanged(arm: HostFirmware, command: Command) -> None:
    with pytest.raises(BridgeError, match=r"pan\.low = 1 is above pan\.high = 0\.5: exchange them"):
        command("settings", arm.port, "pan.low=1", "pan.high=0.5")


def test_a_stopped_board_takes_nothing(firmware: HostFirmware, command: Command) -> None:
    with talking_to(Board(firmware.port, 1_000_000)) as device:
        device.link.send(Estop(1), 0)
        while device.state is not State.ESTOP:
            device.hear(device.link.receive())
    with pytest.raises(UserError, match="takes no settings now, its state is ESTOP"):
        command("settings", firmware.port, "left.speed=5")
    assert command("settings", firmware.port) == 0  # but it can be looked at


def _listed(firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert command("settings", firmware.port, "--json") == 0
    return {setting["name"]: setting["value"] for setting in json.loads(capsys.readouterr().out)["settings"]}


def test_a_proof_is_for_the_limits_in_force(
    firmware: HostFirmware, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A robot file has put them in force; the self-test leaves them so, and from then on that robot may be armed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def reason() -> str:
        motors = SerialController(firmware.port, settings={"left.speed": 8.0})
        motors.connect()
        who = replace(motors.identity(), simulated=False)
        motors.close()
        return why_not(who)

    assert command("selftest", firmware.port, "--yes") == 0
    assert "have changed since it was proved to stop" in reason()
    assert command("selftest", firmware.port, "--yes") == 0
    assert reason() == ""
