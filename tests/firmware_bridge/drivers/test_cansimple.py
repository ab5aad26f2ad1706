"""Frames of CANSimple against bytes that were not made here, and garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.drivers import cansimple
from firmware_bridge.drivers.cansimple import Frame

SENT = [
    # Made by cantools 45.1.0 out of ODrive's own tools/odrive-cansimple.dbc (odriverobotics/ODrive, commit f9b5419), node 3.
    ("067#0800000000000000", cansimple.axis_state(3, cansimple.CLOSED_LOOP)),
    ("067#0100000000000000", cansimple.axis_state(3, cansimple.IDLE)),
    ("06B#0200000001000000", cansimple.controller_mode(3, cansimple.VELOCITY_CONTROL, cansimple.PASS_THROUGH)),
    ("06B#0300000001000000", cansimple.controller_mode(3, cansimple.POSITION_CONTROL, cansimple.PASS_THROUGH)),
    ("06C#0000C03F00000000", cansimple.input_pos(3, 1.5)),
    ("06D#000010C000000000", cansimple.input_vel(3, -2.25)),
    # By the layout in ODrive's examples/can_param_access.py and can_simple_messages.hpp (firmware 0.6).
    ("004#00990000", cansimple.read_endpoint(0, 153)),
    ("004#019900000000803E", cansimple.write_endpoint(0, 153, 0.25)),
    ("004#019A000001", cansimple.write_endpoint(0, 154, True)),
    ("002#", cansimple.estop(0)),
    ("018#00", cansimple.clear_errors(0)),
    ("009#R", cansimple.question(0, cansimple.ESTIMATES)),
]


def frame(text: str) -> Frame:
    """In the notation of can-utils."""
    identifier, _, data = text.partition("#")
    return Frame(int(identifier, 16), b"" if data == "R" else bytes.fromhex(data), data == "R")


@pytest.mark.parametrize(("wire", "made"), SENT)
def test_what_is_sent(wire: str, made: Frame) -> None:
    assert made == frame(wire)


def test_the_identifier_of_odrives_documentation() -> None:
    assert cansimple.input_pos(1, 0.0).id == 0x2C  # "0x01 << 5 | 0x0C = 0x2C"


def test_what_is_heard() -> None:
    # The first is printed in the documentation of the package odrive_can, the others are made by cantools as above.
    assert cansimple.heartbeat_of(frame("001#010000000B000000")) == (1, 11)
    assert cansimple.heartbeat_of(frame("061#0008000008000080")) == (0x800, cansimple.CLOSED_LOOP)
    assert cansimple.pair_of(frame("069#00004C41000000BF"), cansimple.ESTIMATES) == (12.75, -0.5)
    assert cansimple.pair_of(frame("077#0000BC410000A03F"), cansimple.BUS_VOLTAGE) == (23.5, 1.25)
    # By the layout in can_simple_messages.hpp and can_param_access.py.
    assert cansimple.firmware_of(frame("000#0204043A00060A00")) == (0, 6, 10)
    assert cansimple.endpoint_of(frame("005#009900000000803E"), 153, False) == 0.25
    assert cansimple.endpoint_of(frame("005#009A000001"), 154, True) == 1.0
    assert cansimple.endpoint_of(frame("005#009A000001"), 153, True) is None


@given(st.integers(0, 0x7FF), st.binary(max_size=8), st.booleans())
def test_nothing_is_read_out_of_a_frame_that_is_something_else(identifier: int, data: bytes, remote: bool) -> None:
    heard = Frame(identifier, data, remote)
    command = identifier & 0x1F
    readers = {
        cansimple.HEARTBEAT: cansimple.heartbeat_of(heard),
        cansimple.ESTIMATES: cansimple.pair_of(heard, cansimple.ESTIMATES),
        cansimple.VERSION: cansimple.firmware_of(heard),
        cansimple.SDO: cansimple.endpoint_of(heard, 153, False),
    }
    assert all(found is None for of, found in readers.items() if of != command or remote or len(data) < 5)
