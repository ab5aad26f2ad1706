"""What the rover driver sends, against bytes of MAVLink that were not made here, and a failsafe that is off."""

from __future__ import annotations

import struct
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.controller import BridgeError
from firmware_bridge.drivers.mavlink_link import ARDUPILOT, PX4, dialect, value_of
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.mavlink import Rover
from tests.conftest import unmet
from tests.firmware_bridge.processes import until


@pytest.fixture(autouse=True)
def package() -> None:
    if find_spec("pymavlink") is None:
        unmet("the package pymavlink is not installed")


def test_it_begins_with_the_heartbeat_of_a_ground_station() -> None:
    with Line(Rover()) as line:
        controller = make_controller(f"mavlink:{line.port}")
        controller.connect()
        controller.close()
        until(lambda: len(line.heard) > 21, "the first message")
        assert bytes(line.heard[:21]) == bytes.fromhex("FD 09 00 00 00 FF BE 00 00 00 00 00 00 00 06 08 00 04 03 3D 48")


@pytest.mark.parametrize(("name", "value"), [("FS_GCS_ENABLE", 0.0), ("FS_ACTION", 0.0), ("FS_TIMEOUT", 60.0)])
def test_a_failsafe_that_is_off_is_refused(name: str, value: float) -> None:
    rover = Rover()
    rover.parameters[name] = value
    with Line(rover) as line, pytest.raises(BridgeError, match=f"{name} is {value:g}") as refusal:
        make_controller(f"mavlink:{line.port}").connect()
    assert "\n" not in str(refusal.value)


@given(st.integers(-(2**22), 2**23 - 1))
def test_whole_numbers_of_px4_are_bytes_in_the_place_of_a_float_and_those_of_ardupilot_are_floats(number: int) -> None:
    """As PX4 encodes them (a union), through pymavlink's own packing and parsing. Larger ones could be lost as signalling NaN."""
    messages = dialect()
    mouth, ears = messages.MAVLink(None, srcSystem=1, srcComponent=1), messages.MAVLink(None)
    as_bytes = struct.unpack("<f", struct.pack("<i", number))[0]
    for autopilot, sent in ((PX4, as_bytes), (ARDUPILOT, float(number))):
        (heard,) = ears.parse_buffer(mouth.param_value_encode(b"COM_OBL_RC_ACT", sent, 6, 1, 0).pack(mouth))
        assert value_of(heard, autopilot) == number
    (heard,) = ears.parse_buffer(mouth.param_value_encode(b"COM_OF_LOSS_T", 0.5, 9, 1, 0).pack(mouth))
    assert value_of(heard, PX4) == 0.5
