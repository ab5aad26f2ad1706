"""One definition: what is packed is what is unpacked, and everything generated from it is up to date."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import generate, messages
from firmware_bridge.board import BOARDS
from firmware_bridge.framing import CRC_BYTES, HEADER_BYTES, MAX_BODY
from firmware_bridge.messages import (
    KIND_BYTES,
    MAX_AXES,
    MAX_POINTS,
    TO_DEVICE,
    TO_HOST,
    Message,
    Point,
    SetNow,
    StateReport,
    TrajPush,
)
from tests.firmware_bridge.test_framing import VECTORS

ALL = messages.EVERY
PLAIN = [kind for kind in ALL if kind is not TrajPush]


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


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.NAME)
@given(data=st.data())
def test_round_trip(kind: type[Message], data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, MAX_AXES))
    message = data.draw(values_of(kind, axes))
    payload = message.pack()
    assert len(payload) == kind.size(axes)
    assert kind.unpack(payload) == message


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.NAME)
@given(payload=st.binary(max_size=MAX_BODY))
def test_any_bytes_are_a_message_or_a_value_error(kind: type[Message], payload: bytes) -> None:
    try:
        message = kind.unpack(payload)
    except ValueError:
        assert len(payload) not in [kind.size(n) for n in range(MAX_AXES + 1)]
    else:
        assert message.pack() == payload


@given(data=st.data(), axes=st.integers(1, MAX_AXES), count=st.integers(0, MAX_POINTS + 1))
def test_points_are_read_back_as_long_as_there_are_one_to_four(data: st.DataObject, axes: int, count: int) -> None:
    points = tuple(data.draw(values_of(Point, axes)) for _ in range(count))
    push = TrajPush(data.draw(st.integers(0, 2**32 - 1)), points)  # type: ignore[arg-type]
    payload = push.pack()
    if 1 <= count <= MAX_POINTS:
        assert TrajPush.unpack(payload, axes) == push
    else:
        with pytest.raises(ValueError, match="TRAJ_PUSH"):
            TrajPush.unpack(payload, axes)
    with pytest.raises(ValueError, match="TRAJ_PUSH"):
        TrajPush.unpack(payload + b"x", axes)
    with pytest.raises(ValueError, match="TRAJ_PUSH"):
        TrajPush.unpack(payload)


def test_a_point_fits_a_push_with_the_most_axes() -> None:
    assert TrajPush.size(MAX_AXES) + Point.size(MAX_AXES) + HEADER_BYTES + CRC_BYTES <= MAX_BODY


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
    assert len({kind.TYPE for kind in ALL}) == len(ALL)  # a point has the type 0, which is none
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
    for name, board in BOARDS.items():
        assert (generate.FIRMWARE / "boards" / name / "board.h").read_text() == generate.board_header(board)


def test_the_document_is_up_to_date() -> None:
    document = (Path(generate.__file__).parents[1] / "docs" / "protocol.md").read_text()
    assert generate.with_tables(document) == document


def test_the_document_has_the_golden_vectors() -> None:
    document = (Path(generate.__file__).parents[1] / "docs" / "protocol.md").read_text()
    for message, *_, wire in VECTORS:
        assert f"`{wire}`" in document, message.NAME
