"""A sound firmware is proved, one with a hole is found out; both are compiled and run as processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge.bridge import proof
from edge.bridge.consent import permit
from edge.bridge.identity import Board, board_of, identity_of, talking_to
from edge.errors import UserError
from firmware_bridge import host_firmware
from firmware_bridge.controller import Identity
from firmware_bridge.host_firmware import HostFirmware
from tests.edge.bridge.conftest import Command

HOLES = {
    "lease": ("core.c", "if (c->state == FB_STATE_ACTIVE) fb_ramp_down(c, FB_STOP_CAUSE_LEASE_EXPIRED);", ";"),
    "command expiry": ("core.c", "fb_ramp_down(c, FB_STOP_CAUSE_COMMAND_EXPIRED);", ";"),
    "emergency stop": ("core.c", "if (c->state != FB_STATE_ESTOP) fb_cut(c, FB_STATE_ESTOP, FB_STOP_CAUSE_ESTOP);", "(void)c;"),
    "limits": ("handlers.c", "if (c->target[i] != m.target[i]) clamped |= (uint8_t)(1 << i);", ";"),
}
REAL = Identity("latentloop", "0102", True, "latentloop-pico 0.1", "00000007", False, "/dev/ttyACM0")
ALL = [proof.Check(name, "proved", "", "") for name in sorted(proof.NEEDED)]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def who_is_on(port: str) -> Identity:
    board = board_of(port)
    assert board == Board(port, 1_000_000)
    with talking_to(board) as device:
        return identity_of(device, board)


def test_a_sound_firmware_is_proved(firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert not proof.proved(who_is_on(firmware.port))
    assert command("selftest", firmware.port, "--yes", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    names = ["unarmed", "limits", "lease", "command expiry", "emergency stop"]
    assert [check["name"] for check in report["checks"]] == names and all(check["result"] == "proved" for check in report["checks"])
    kept = json.loads(Path(report["proof"]).read_text())
    assert kept["uid"] == b"host-process".hex() and kept["firmware"] == "latentloop-host 0.1 (C)" and kept["date"]
    assert proof.proved(who_is_on(firmware.port))


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_found(
    hole: str,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    firmware_cache: None,
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    holed = tmp_path / "firmware"
    shutil.copytree(host_firmware.FIRMWARE, holed)
    file, sound, wrong = HOLES[hole]
    source = (holed / file).read_text()
    assert source.count(sound) == 1
    (holed / file).write_text(source.replace(sound, wrong))
    monkeypatch.setattr(host_firmware, "FIRMWARE", holed)
    running = host_firmware.start()
    try:
        assert running.kind == "c"
        who = who_is_on(running.port)
        proof.store(who, ALL)  # of better days
        assert command("selftest", running.port, "--yes", "--json") == 1
    finally:
        running.close()
    report = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in report["checks"] if check["result"] != "proved"] == [hole]
    assert report["proof"] == "" and not proof.proved(who)


def test_yes_is_not_for_real_motors() -> None:
    with pytest.raises(UserError, match="--yes is for simulated robots"):
        permit(REAL, "It turns.", absent=True)


def test_nothing_moves_without_a_terminal(firmware: HostFirmware, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/null") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(UserError, match="at a terminal"):
            command("selftest", firmware.port)
