"""Every make is recognised by questions that leave it as it was; whoever is none of them is not taken for one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.controller import BridgeError
from firmware_bridge.drivers import recognise as module
from firmware_bridge.drivers.mavlink_heartbeat import Heartbeat, next_heartbeat
from firmware_bridge.drivers.recognise import recognise
from firmware_bridge.drivers.registry import DRIVERS, make_controller
from firmware_bridge.drivers.simulated.copter import Copter, Px4Copter
from firmware_bridge.drivers.simulated.dynamixel import DynamixelBus
from firmware_bridge.drivers.simulated.feetech import FeetechBus
from firmware_bridge.drivers.simulated.line import Line, SimulatedDevice
from firmware_bridge.drivers.simulated.odrive import Odrive
from firmware_bridge.drivers.simulated.roboclaw import Roboclaw
from firmware_bridge.drivers.simulated.vesc import VescPair
from firmware_bridge.drivers.simulated.waveshare import Waveshare
from tests.conftest import unmet
from tests.firmware_bridge.drivers.kinds import quick_rover


def feetech_wheels() -> FeetechBus:
    device = FeetechBus((3, 5, 12))
    for servo in device.ids:
        device.table(servo)[33] = 1
    return device


def of_system_9() -> SimulatedDevice:
    rover = quick_rover()
    rover.system = 9
    return rover


MAKES: dict[str, tuple[Callable[[], SimulatedDevice], str]] = {
    "feetech": (FeetechBus, "feetech:{}?ids=1,2"),
    "feetech wheels": (feetech_wheels, "feetech:{}?ids=3,5,12&mode=wheel"),
    "dynamixel": (lambda: DynamixelBus((2, 1)), "dynamixel:{}?ids=1,2"),
    "vesc": (VescPair, "vesc:{}"),
    "roboclaw": (Roboclaw, "roboclaw:{}?ticks=TICKS"),
    "odrive": (Odrive, "odrive:{}?motors=0,1"),
    "waveshare": (Waveshare, "waveshare:{}"),
    "mavlink": (quick_rover, "mavlink:{}"),
    "mavlink 9": (of_system_9, "mavlink:{}?system=9"),
    "mavlink copter": (Copter, "mavlink:{}?vehicle=copter"),
    "mavlink px4": (Px4Copter, "mavlink:{}?vehicle=px4"),
}


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTEN_S", 0.4)  # the simulated rover beats ten times a second
    monkeypatch.setattr(module, "ADDRESSES", (128, 129))
    monkeypatch.setattr(module, "IDS", (1, 2, 3, 5, 12))


def settings_of(device: SimulatedDevice) -> dict[str, object]:
    """All that a word of the host could change: tables without what is measured, time-outs, properties."""
    kept = {}
    for name in ("_tables", "timeout", "timeout_ms", "heartbeat_ms", "_values", "_mode", "parameters"):
        if hasattr(device, name):
            kept[name] = copy.deepcopy(getattr(device, name))
    for table in kept.get("_tables", {}).values():  # type: ignore[attr-defined]
        measured = range(56, 71) if isinstance(device, FeetechBus) else range(126, 147)
        for address in measured:
            table[address] = 0
    kept.get("_values", {}).pop("vbus_voltage", None)  # type: ignore[attr-defined]
    return kept


def test_every_make_is_tried() -> None:
    # To hear a CAN bus its adapter must be set up and opened, which is more than a question.
    assert {name.split()[0] for name in MAKES} == set(DRIVERS) - {"odrive-can"}


@pytest.mark.parametrize("name", MAKES)
def test_it_is_recognised_and_left_as_it_was(name: str) -> None:
    make, wanted = MAKES[name]
    if name.startswith("mavlink") and find_spec("pymavlink") is None:
        unmet("the package pymavlink is not installed")
    device = make()
    before = settings_of(device)
    with Line(device) as line:
        found = recognise(line.port)
        assert found is not None and found.remark
        spec = found.spec(line.port)
        assert spec == wanted.format(line.port)
        assert settings_of(device) == before
        assert not any(motor.energised or motor.travelled for motor in device.motors)
        if name.startswith("mavlink"):
            assert line.heard == b""
        if "TICKS" in spec:
            with pytest.raises(BridgeError, match="has ticks=TICKS"):
                make_controller(spec)
        else:
            controller = make_controller(spec)
            controller.connect()
            controller.close()


def test_another_speed_and_address_are_in_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = module.QUESTIONS
    monkeypatch.setattr(module, "QUESTIONS", {57_600: questions[57_600]})
    monkeypatch.setattr(module, "LISTEN_S", 0.01)
    with Line(DynamixelBus()) as line:
        found = recognise(line.port)
        assert found is not None and found.query == "ids=1,2&baud=57600"


class Chatter:
    """Says something all the time, and takes nothing in."""

    def __init__(self, said: bytes) -> None:
        self.motors: list[object] = []
        self._said = said

    def receive(self, data: bytes) -> list[bytes]:
        return []

    def advance(self, elapsed_s: float) -> list[bytes]:
        return [self._said]


@pytest.mark.parametrize(
    "said",
    [b"", b'$GPGGA,4807.038,N\r\n{"T":1001}\nok *12\r\n', b"\xff\xff\x01\x02\x00\xfd\xfe\x09\x00\x01\x01\x00"],
    ids=["nothing", "GPS, half of Waveshare and a wrong checksum", "an empty status and a cut heartbeat"],
)
def test_nobody_else_is_taken_for_one_of_them(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTEN_S", 0.05)
    monkeypatch.setattr(module, "ANSWER_S", 0.006)
    with Line(Chatter(said)) as line:  # type: ignore[arg-type]
        assert recognise(line.port) is None


def test_a_port_that_is_not_there_is_said_to_be() -> None:
    with pytest.raises(BridgeError, match="there is no serial port /dev/there-is-none"):
        recognise("/dev/there-is-none")


def beat(system: int = 1, version: int = 2) -> bytes:
    """As pymavlink packs it."""
    if find_spec("pymavlink") is None:
        unmet("the package pymavlink is not installed")
    from pymavlink.dialects.v20 import ardupilotmega

    mav = ardupilotmega.MAVLink(None, srcSystem=system, srcComponent=1)
    return bytes(mav.heartbeat_encode(10, 3, 0, 0, 4).pack(mav, force_mavlink1=version == 1))


@pytest.mark.parametrize("version", [1, 2])
def test_heartbeats_are_found_however_they_are_cut(version: int) -> None:
    wire = b"\xfd\xfe\x00" + beat(7, version) + b"\xfe"
    heard, found = bytearray(), []
    for byte in wire:
        heard.append(byte)
        if (each := next_heartbeat(heard)) is not None:
            found.append(each)
    assert found == [Heartbeat(7, 10, 3)]
    for bit in range(8 * len(beat(7, version))):
        spoilt = bytearray(beat(7, version))
        spoilt[bit // 8] ^= 1 << bit % 8
        assert next_heartbeat(spoilt) is None


@given(st.lists(st.sampled_from([b"\xfe", b"\xfd", b"\x00", b"\x09"]) | st.binary(max_size=40)))
def test_garbage_never_breaks_and_never_piles_up(parts: list[bytes]) -> None:
    heard = bytearray()
    for part in parts:
        heard += part
        while next_heartbeat(heard) is not None:
            pass
        assert len(heard) < 64
