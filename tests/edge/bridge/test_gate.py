"""What is armed and what is not: every kind of proof that is none, asked at every arming, wherever somebody arms."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.bridge import gate, proof
from edge.bridge.proof import ALONE, NEEDED, Check, Result
from edge.clock import FakeClock
from edge.errors import UserError
from edge.safety import ArmRefused
from firmware_bridge.controller import BridgeError, FirmwareState, Identity
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.vesc import VescPair
from firmware_bridge.process.controller import ProcessController
from tests.edge.test_safety import Bench, RecordingMotors
from tests.firmware_bridge.processes import until

BOARD = Identity("latentloop", "0102", True, "latentloop-pico 0.1", "00000007", False, "/dev/ttyACM0")
ARM = Identity("feetech", "usb:1a86:55d3:5A46", False, "Feetech, 2 servos", "00000008", False, "feetech:/dev/ttyACM1?ids=1,2")
RUN = "run latentloop bridge selftest"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "latentloop" / "bridge"


def checks(result: Result = "proved", *, alone: bool = True) -> list[Check]:
    names = sorted(NEEDED) + ([ALONE] if alone else [])
    return [Check(name, result if name == names[-1] else "proved", "", "") for name in names]


@pytest.mark.parametrize("who", [BOARD, ARM])
def test_proved_is_armed_and_nothing_else(who: Identity) -> None:
    motors = RecordingMotors(FakeClock())
    motors.who = who
    with pytest.raises(gate.Unproved, match=r"^this controller was never proved to stop: run latentloop bridge selftest "):
        gate.arm(motors)
    assert motors.state is FirmwareState.LINKED
    proof.store(who, checks())
    gate.arm(motors)
    assert motors.state is FirmwareState.ACTIVE
    proof.forget(who)
    with pytest.raises(gate.Unproved):
        gate.arm(motors)


def test_simulated_needs_no_proof() -> None:
    assert proof.why_not(replace(BOARD, simulated=True)) == "" and proof.why_not(BOARD) != ""


def test_a_spec_is_quoted_for_the_shell() -> None:
    assert proof.why_not(ARM).endswith(f"{RUN} 'feetech:/dev/ttyACM1?ids=1,2'")


CHANGED = {
    "another board": ({"uid": "0103"}, "was never proved"),
    "reflashed": ({"firmware": "latentloop-pico 0.2"}, "with firmware latentloop-pico 0.1, and now it has latentloop-pico 0.2"),
    "changed limits": ({"limits": "00000009"}, "the limits or settings of this controller have changed"),
    "another make": ({"kind": "vesc"}, "was never proved"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_proof_is_for_one_device_firmware_and_limits(change: str) -> None:
    fields, says = CHANGED[change]
    proof.store(BOARD, checks())
    other = replace(BOARD, **fields)  # type: ignore[arg-type]
    assert proof.why_not(BOARD) == "" and says in proof.why_not(other) and RUN in proof.why_not(other)
    assert proof.why_not(replace(BOARD, spec="/dev/ttyACM7", unique=False)) == ""  # the same, at another port


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda kept: kept.__setitem__("checks", [check for check in kept["checks"] if check["name"] != name])


DAMAGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "foreign uid": lambda kept: kept.__setitem__("uid", "0103"),
    "foreign firmware": lambda kept: kept.__setitem__("firmware", "another"),
    "foreign limits": lambda kept: kept.__setitem__("limits", "00000001"),
    "no kind": lambda kept: kept.pop("kind"),
    "no checks": lambda kept: kept.pop("checks"),
    "empty checks": lambda kept: kept.__setitem__("checks", []),
    "a check is missing": _without("lease"),
    "of an older release": lambda kept: kept.__setitem__("checks", [{"name": n, "passed": True} for n in NEEDED]),
    "failed": lambda kept: kept["checks"][0].__setitem__("result", "failed"),
    "failed, and accepted": lambda kept: (
        kept["checks"][0].__setitem__("result", "failed"),
        kept.__setitem__("accepted", {"checks": [kept["checks"][0]["name"]]}),
    ),
    "not proved": lambda kept: kept["checks"][0].__setitem__("result", "not proved"),
    "another was accepted": lambda kept: (
        kept["checks"][0].__setitem__("result", "not proved"),
        kept.__setitem__("accepted", {"checks": [kept["checks"][1]["name"]]}),
    ),
    "a word that is none": lambda kept: kept["checks"][0].__setitem__("result", True),
    "accepted is a list": lambda kept: kept.__setitem__("accepted", []),
    "accepted is null": lambda kept: kept.__setitem__("accepted", None),
    "checks are numbers": lambda kept: kept.__setitem__("checks", [1, 2]),
    "a name that cannot be one": lambda kept: kept["checks"][0].__setitem__("name", []),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_or_foreign_proof_is_none(damage: str) -> None:
    path = proof.store(BOARD, checks())
    kept = json.loads(path.read_text())
    DAMAGED[damage](kept)
    path.write_text(json.dumps(kept))
    assert proof.why_not(BOARD) == (
        f"the proof that this controller stops, {path}, is incomplete or damaged: {RUN} /dev/ttyACM0"
    )


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000, b'"proved"', b"{}"])
def test_what_is_no_proof_at_all(text: bytes, state: Path) -> None:
    path = proof.store(BOARD, checks())
    path.write_bytes(text)
    (state / "latentloop-other.json").write_bytes(text)
    assert "incomplete or damaged" in proof.why_not(BOARD)
    assert "never proved" in proof.why_not(replace(BOARD, uid="0103"))


def test_other_makes_must_have_been_left_alone() -> None:
    proof.store(ARM, checks(alone=False))
    assert "incomplete" in proof.why_not(ARM)


def test_what_is_accepted_is_kept_with_the_name() -> None:
    proof.store(ARM, checks("not proved"))
    assert not proof.proved(ARM)
    kept = json.loads(proof.store(ARM, checks("not proved"), accepted=True).read_text())
    assert proof.proved(ARM)
    assert kept["accepted"]["checks"] == [ALONE] and kept["accepted"]["by"] and kept["accepted"]["date"]


def test_a_folder_that_cannot_be_written(state: Path) -> None:
    state.parent.mkdir(parents=True)
    state.write_text("a file where a folder has to be")
    for attempt in (proof.check_writable, lambda: proof.store(BOARD, checks())):
        with pytest.raises(UserError, match=r"cannot be written|can be written to .*: make the folder writable"):
            attempt()
    with pytest.raises(UserError, match="remove it by hand"):
        proof.forget(BOARD)
    assert "never proved" in proof.why_not(BOARD)


def test_a_folder_that_can_be_written_is_left_as_it_was(state: Path) -> None:
    proof.check_writable()
    assert list(state.iterdir()) == []


# -- wherever somebody arms --------------------------------------------------------------------------------------------


def test_the_supervisor_arms_only_what_is_proved_and_asks_each_time() -> None:
    bench = Bench()
    bench.motors.who = BOARD
    bench.tick()
    with pytest.raises(ArmRefused, match=r"^this controller was never proved to stop: run .* selftest /dev/ttyACM0$"):
        bench.supervisor.arm()
    assert bench.motors.state is FirmwareState.LINKED
    proof.store(BOARD, checks())
    bench.armed()
    bench.supervisor.disarm()
    bench.motors.who = replace(BOARD, firmware="latentloop-pico 0.2")
    bench.tick()
    with pytest.raises(ArmRefused, match=r"now it has latentloop-pico 0\.2"):
        bench.supervisor.arm()
    assert bench.motors.state is FirmwareState.LINKED


def test_a_device_that_is_swapped_while_it_is_armed_is_disarmed_again() -> None:
    motors = RecordingMotors(FakeClock())
    motors.who = BOARD
    proof.store(BOARD, checks())
    motors.while_arming = lambda: setattr(motors, "who", replace(BOARD, uid="0103"))
    with pytest.raises(gate.Unproved, match="another device has answered"):
        gate.arm(motors)
    assert motors.state is FirmwareState.LINKED


def test_a_device_that_is_gone_after_it_was_armed_is_disarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    motors = RecordingMotors(FakeClock())
    motors.who = BOARD
    proof.store(BOARD, checks())

    def gone() -> Identity:
        raise BridgeError("the port is gone")

    motors.while_arming = lambda: monkeypatch.setattr(motors, "identity", gone)
    with pytest.raises(BridgeError):
        gate.arm(motors)
    assert motors.state is FirmwareState.LINKED


def test_a_reflashed_controller_is_noticed_through_the_bridge_process() -> None:
    """A real driver in a real process; the device comes back with other firmware under the same name."""
    vesc = VescPair()
    with Line(vesc) as line:
        line._announcement.close()  # as if it were real
        motors = ProcessController(f"vesc:{line.port}?can=2")
        try:
            motors.connect()
            proof.store(motors.identity(), checks())
            motors.heartbeat(2**62, True)
            gate.arm(motors)
            motors.disarm()
            vesc.uids[0] = bytes(range(3, 15))
            os.kill(motors.pid or 0, 9)
            until(lambda: motors.telemetry().state is FirmwareState.OFFLINE, "the end of the bridge process")
            until(lambda: motors.telemetry().state is FirmwareState.LINKED, "a new one", 30.0)
            with pytest.raises(gate.Unproved, match="never proved"):
                gate.arm(motors)
        finally:
            motors.close()
    assert not any(motor.energised for motor in vesc.motors)
