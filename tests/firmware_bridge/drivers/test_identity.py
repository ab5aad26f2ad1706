"""Which device answers: what makes two of them two, what is simulated, and what of that comes through the bridge process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from firmware_bridge import device as latentloop
from firmware_bridge import host_firmware
from firmware_bridge.controller import BridgeError, Identity, MotorController
from firmware_bridge.drivers.odrive import Odrive as Driver
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.odrive import Odrive
from firmware_bridge.drivers.simulated.vesc import VescPair
from firmware_bridge.drivers.vesc_packets import Version, version_of
from firmware_bridge.messages import HelloAck
from firmware_bridge.process.controller import ProcessController
from firmware_bridge.serial_controller import SerialController
from firmware_bridge.simulated_port import Announcement, is_announced
from tests.firmware_bridge.drivers.kinds import KINDS, Kind
from tests.firmware_bridge.processes import until

UNIQUE = {"vesc": "000102030405060708090a0b 0102030405060708090a0b0c", "odrive": "2082357b4d53", "mavlink": "1d002a"}
VESC = "speed=4&can=2"


def who(text: str, axes: tuple[str, ...] = ()) -> Identity:
    controller = make_controller(text, axes)
    try:
        controller.connect()
        return controller.identity()
    finally:
        controller.close()


def test_every_kind_says_who_it_is(kind: Kind, line: Line, controller: MotorController) -> None:
    with pytest.raises(BridgeError, match="not connected"):
        controller.identity()
    controller.connect()
    found = controller.identity()
    assert (found.kind, found.spec) == (kind.name, kind.spec(line.port)) and len(found.limits) == 8
    assert found.firmware == controller.telemetry().firmware and found.simulated
    assert (found.uid, found.unique) == ((UNIQUE[kind.name], True) if kind.name in UNIQUE else (line.port, False))


def test_one_device_is_the_same_through_the_bridge_process_and_by_other_names() -> None:
    with Line(VescPair()) as line:
        text = f"vesc:{line.port}?{VESC}"
        direct = who(text)
        assert who(text, ("left", "right")) == direct
        assert who(f"vesc:{line.port}?can=2&speed=4") == replace(direct, spec=f"vesc:{line.port}?can=2&speed=4")
        bridged = ProcessController(text, ("left", "right"))
        try:
            bridged.connect()
            assert bridged.identity() == direct
        finally:
            bridged.close()


def test_what_limits_a_motion_is_in_the_limits() -> None:
    queries = [VESC, "speed=5&can=2", f"{VESC}&gear=2", f"{VESC}&signs=-1,1", f"{VESC}&acceleration=5", f"{VESC}&poles=20"]
    with Line(VescPair()) as line:
        found = [who(f"vesc:{line.port}?{query}").limits for query in queries]
    assert len(set(found)) == len(queries)
    arm = KINDS["feetech arm"]
    with Line(arm.device()) as line:
        assert who(f"{arm.spec(line.port)}&command=velocity").limits == who(arm.spec(line.port)).limits


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda vesc: vesc.uids.__setitem__(1, bytes(range(2, 14))), "uid"),
        (lambda vesc: setattr(vesc, "ids", [1, 3]), None),
        (lambda vesc: vesc.uids.__setitem__(0, bytes(12)), "uid"),
    ],
)
def test_another_vesc_is_another(change: Callable[[VescPair], None], field: str | None) -> None:
    vesc = VescPair()
    with Line(vesc) as line:
        text = f"vesc:{line.port}?{VESC}"
        before = who(text)
        change(vesc)
        if field is None:
            with pytest.raises(BridgeError):
                who(text)
            return
        after = who(text)
    assert after.uid != before.uid and after.unique is any(vesc.uids[0])


def test_an_odrive_that_cannot_print_its_number_is_known_by_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with Line(Odrive()) as line:
        monkeypatch.setattr("firmware_bridge.drivers.odrive.Odrive._ask", _nothing_of_64_bits())
        found = who(f"odrive:{line.port}?motors=0,1")
    assert (found.uid, found.unique) == (line.port, False)


def _nothing_of_64_bits() -> Callable[..., str]:
    asked = Driver._ask
    return lambda self, question: "lu" if "serial_number" in question else asked(self, question)


@pytest.mark.parametrize(
    ("payload", "version"),
    [
        (b"\x00\x06\x05" + b"60\0" + bytes(range(12)) + b"\0\0", Version("6.05 60", bytes(range(12)).hex())),
        (b"\x00\x02\x12", Version("2.18", "")),
        (b"\x00\x05\x03" + b"60", Version("5.03 60", "")),
        (b"\x00\x05\x03" + b"60\0" + bytes(12), Version("5.03 60", "")),
        (b"\x04" + bytes(20), None),
        (b"", None),
    ],
)
def test_the_version_of_a_vesc(payload: bytes, version: Version | None) -> None:
    assert version_of(payload) == version


def test_simulated_is_only_what_says_so_now() -> None:
    with Line(VescPair()) as line:
        assert is_announced(line.port) and who(f"vesc:{line.port}?{VESC}").simulated
        line._announcement.close()  # as a pseudo-terminal with a real VESC at its far end
        assert not who(f"vesc:{line.port}?{VESC}").simulated
        again = Announcement(line.port)
        assert is_announced(line.port)
        again.close()
    assert not is_announced("/dev/null") and not is_announced("/dev/nothing") and not is_announced("socket://arm:4000")


@pytest.mark.usefixtures("firmware_cache")
def test_latentloop_firmware_and_the_next_one_on_the_same_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = tmp_path / "port"
    first = host_firmware.start(link=port)
    bridged = ProcessController(str(port))
    try:
        with pytest.raises(BridgeError):
            bridged.identity()
        bridged.connect()
        before = bridged.identity()
        assert (before.kind, before.uid, before.unique) == ("latentloop", b"host-process".hex(), True)
        assert before.simulated and before.firmware == first.firmware and len(before.limits) == 8
        assert before.spec == f"latentloop:{port}?baud=115200"
        first.close()
        until(lambda: bridged.telemetry().state.value == "offline", "the end of the first")
        with pytest.raises(BridgeError):
            bridged.identity()
        second = host_firmware.start(link=port, prefer="python")
        try:
            until(lambda: bridged.telemetry().state.value == "linked", "the second", 20.0)
            after = bridged.identity()
        finally:
            second.close()
    finally:
        bridged.close()
        first.close()
    assert "Python" in after.firmware and after.limits == before.limits and after != before


@pytest.mark.usefixtures("firmware_cache")
def test_a_real_board_without_a_number_is_known_by_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latentloop, "HOST_FIRMWARE", "no firmware is simulated")
    monkeypatch.setattr("firmware_bridge.handshake.HelloAck", _NoNumber)
    running = host_firmware.start()
    controller = SerialController(running.port, baud=1_000_000)
    try:
        controller.connect()
        found = controller.identity()
    finally:
        controller.close()
        running.close()
    assert (found.uid, found.unique, found.simulated, found.spec) == (running.port, False, False, running.port)


class _NoNumber:
    """A greeting as of a board whose chip has no number."""

    TYPE = HelloAck.TYPE

    @classmethod
    def unpack(cls, payload: bytes) -> object:
        return msgspec.structs.replace(HelloAck.unpack(payload), uid=bytes(12))
