"""What is on a port: compiled firmware, somebody else, or nothing."""

from __future__ import annotations

import errno
import json
import os
import pty
import tty

import pytest

from firmware_bridge.controller import BridgeError
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.odrive import Odrive
from firmware_bridge.host_firmware import HostFirmware
from firmware_bridge.usb_ports import UsbPort
from tests.edge.bridge.conftest import Command


def test_scan_asks_only_when_told_to(firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    # The firmware process itself holds both ends of its pseudo-terminal, which no board does: so it counts as in use.
    assert command("scan", firmware.port, "--json") == 0
    (seen,) = json.loads(capsys.readouterr().out)
    assert seen["port"] == firmware.port and seen["answers"] is None and seen["answer"] == ""
    assert any(str(firmware.pid) in holder for holder in seen["holders"])
    assert command("scan", firmware.port, "--ask") == 0
    assert "not asked, because it is in use" in capsys.readouterr().out


def test_scan_finds_the_firmware(
    firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.scan.holders", lambda port: [])
    assert command("scan", firmware.port, "--ask", "--json") == 0
    (seen,) = json.loads(capsys.readouterr().out)
    assert seen["answers"] is True
    assert seen["answer"] == f"latentloop-host 0.1 (C), axes left, right, board {b'host-process'.hex()}"
    assert seen["spec"] == firmware.port
    assert command("scan", firmware.port, "--ask", "--baud", "115200") == 0
    assert f'port = "latentloop:{firmware.port}?baud=115200"' in capsys.readouterr().out


def test_scan_says_that_nobody_answers(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.scan.holders", lambda port: [])
    monkeypatch.setattr("edge.bridge.scan.ASK_S", 0.3)
    monkeypatch.setattr("firmware_bridge.drivers.recognise.LISTEN_S", 0.05)
    monkeypatch.setattr("firmware_bridge.drivers.recognise.ANSWER_S", 0.005)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        assert command("scan", os.ttyname(theirs), "--ask", "--json") == 0
    finally:
        os.close(ours)
        os.close(theirs)
    (seen,) = json.loads(capsys.readouterr().out)
    assert seen["answers"] is False and "no answer from" in seen["answer"] and seen["spec"] == ""
    assert seen["answer"].endswith("no other make that is known answers either")


def test_scan_prints_the_line_for_the_robot_file_of_another_make(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.scan.holders", lambda port: [])
    monkeypatch.setattr("edge.bridge.scan.ASK_S", 0.3)
    monkeypatch.setattr("firmware_bridge.drivers.recognise.LISTEN_S", 0.05)
    with Line(Odrive()) as line:
        known = UsbPort(line.port, 0x1209, 0x0D32, "3254", "ODrive")
        monkeypatch.setattr("edge.bridge.scan.plugged_in", lambda: [known])
        assert command("scan", "--ask") == 0
        first, answer, spec = capsys.readouterr().out.splitlines()
    assert first == f"{line.port}  usb:1209:0d32:3254  ODrive"
    assert answer.strip() == "ODrive, 24 V"
    assert spec.strip() == 'port = "odrive:usb:1209:0d32:3254?motors=0,1"'


def test_scan_of_a_port_that_may_not_be_opened(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("edge.bridge.scan.holders", lambda port: [])
    monkeypatch.setattr("firmware_bridge.serial_port.serial.serial_for_url", denied)
    assert command("scan", "/dev/null", "--ask", "--json") == 0
    (seen,) = json.loads(capsys.readouterr().out)
    assert seen["answers"] is False and seen["answer"].startswith("no permission to open /dev/null: add yourself to the group")


@pytest.mark.parametrize(
    ("port", "says"), [("/dev/there-is-none", "there is no"), ("usb:ffff:ffff", "no serial port usb:ffff:ffff")]
)
def test_scan_of_a_port_that_is_not_there(command: Command, port: str, says: str) -> None:
    with pytest.raises(BridgeError, match=says):
        command("scan", port)


def test_info_of_a_rover(firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("info", firmware.port, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["uid"] == b"host-process".hex() and found["simulated"] is True
    assert found["state"] == "linked" and found["faults"] == []
    assert [axis["name"] for axis in found["axes"]] == ["left", "right"]
    assert found["axes"][0]["high"] == 20.0 and found["axes"][0]["unit"] == "rad/s"
    assert found["longest_lease_ms"] == 500 and found["clock_error_bound_us"] > 0
    assert command("info", firmware.port) == 0
    out = capsys.readouterr().out
    assert "axis left: velocity, -20 to 20 rad/s, speed 20, acceleration 400" in out and "faults: none" in out


def test_info_takes_the_axes_as_they_are(arm: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("info", f"latentloop:{arm.port}?baud=115200", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["axes"]) > 2 and {axis["mode"] for axis in found["axes"]} == {"position"}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("/dev/there-is-none", "there is no serial port"),
        ("fetech:/dev/ttyACM0", "did you mean 'feetech'"),
        ("latentloop:/dev/ttyACM0?bauds=9600", "did you mean 'baud'"),
    ],
)
def test_info_says_in_one_sentence_what_is_wrong(command: Command, spec: str, says: str) -> None:
    with pytest.raises(BridgeError, match=says) as raised:
        command("info", spec)
    assert "\n" not in str(raised.value)
