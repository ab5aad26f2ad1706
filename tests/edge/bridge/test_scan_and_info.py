"""What is on a port: compiled firmware, somebody else, or nothing."""

from __future__ import annotations

import json
import os
import pty
import tty

import pytest

from firmware_bridge.controller import BridgeError
from firmware_bridge.host_firmware import HostFirmware
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


def test_scan_says_that_nobody_answers(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.scan.holders", lambda port: [])
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        assert command("scan", os.ttyname(theirs), "--ask", "--json") == 0
    finally:
        os.close(ours)
        os.close(theirs)
    (seen,) = json.loads(capsys.readouterr().out)
    assert seen["answers"] is False and "no answer from" in seen["answer"]


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
