"""One definition: what is packed is what is unpacked, and everything generated from it is up to date."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import generate, messages
from firmware_bridge.board import ROVER
from firmware_bridge.framing import CRC_BYTES, HEADER_BYTES, MAX_BODY
from firmware_bridge.messages import KIND_BYTES, MAX_AXES, TO_DEVICE, TO_HOST, Message, SetNow, StateReport
from tests.firmware_bridge.test_framing import VECTORS

ALL = TO_DEVICE + TO_HOST


def values_of(kind: type[Message], axes: int) -> st.SearchStrategy[Message]:
    """Any values that fit."""
    arguments = {}
    for f in kind.layout():
        bits = 8 * KIND_BYTES[f.kind]
        low, high = (0, 2**bits - 1) if f.kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        number = st.integers(low, high)
        if f.count == 0:
            arguments[f.name] = st.tuples(*[number] * axes)
        elif f.count > 1:
            arguments[f.name] = st.binary(min_size=f.count, max_size=f.count)
        else:
            arguments[f.name] = number
    return st.builds(kind, **arguments)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.NAME)
@given(data=st.data())
def test_round_trip(kind: type[Message], data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, MAX_AXES))
    message = data.draw(values_of(kind, axes))
    payload = message.pack()
    assert len(payload) == kind.size(axes)
    assert kind.unpack(payload) == message


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.NAME)
@given(payload=st.binary(max_size=MAX_BODY))
def test_any_bytes_are_a_message_or_a_value_error(kind: type[Message], payload: bytes) -> None:
    try:
        message = kind.unpack(payload)
    except ValueError:
        assert len(payload) not in [kind.size(n) for n in range(MAX_AXES + 1)]
    else:
        assert message.pack() == payload


def test_lengths_that_fit_no_number_of_axes() -> None:
    assert SetNow.unpack(bytes(6 + 4 * 8)).target == (0,) * 8
    for length in (5, 7, 13, 6 + 4 * 9):
        with pytest.raises(ValueError, match="SET_NOW"):
            SetNow.unpack(bytes(length))
    with pytest.raises(ValueError, match="STATE"):
        StateReport.unpack(bytes(StateReport.size(2) + 1))


def test_every_message_fits_a_frame_with_the_most_axes() -> None:
    for kind in ALL:
        assert kind.size(MAX_AXES) + HEADER_BYTES + CRC_BYTES <= MAX_BODY, kind.NAME


def test_types_are_unique_and_tell_the_direction() -> None:
    assert len({kind.TYPE for kind in ALL}) == len(ALL)
    assert all(kind.TYPE < 0x80 for kind in TO_DEVICE)
    assert all(kind.TYPE >= 0x80 for kind in TO_HOST)


def test_every_field_is_explained() -> None:
    for kind in ALL:
        assert kind.__doc__
        assert all(f.means for f in kind.layout()), kind.NAME


def test_the_schema_id_covers_names_types_and_order() -> None:
    text = messages.schema_text()
    assert zlib.crc32(text.encode()) == messages.SCHEMA_ID
    assert "SET_NOW 10 mode:u8 mask:u8 target:i32[n] valid_until_us:u32\n" in text


def test_the_c_headers_are_up_to_date() -> None:
    assert (generate.FIRMWARE / "messages.h").read_text() == generate.messages_header()
    assert (generate.FIRMWARE / "boards" / "rover" / "board.h").read_text() == generate.board_header(ROVER)


def test_the_document_is_up_to_date() -> None:
    document = (Path(generate.__file__).parents[1] / "docs" / "protocol.md").read_text()
    assert generate.with_tables(document) == document
    for enum in (messages.State, messages.Code, messages.StopCause, messages.Fault):
        for member in enum:
            if member is not messages.State.OFFLINE:
                assert f"| {member.value} | {member.name} |" in document, member
    for _, _, _, wire in VECTORS:
        assert f"`{wire}`" in document
