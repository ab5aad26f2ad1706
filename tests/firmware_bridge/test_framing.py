"""Frames: the published vectors, the round trip, and what becomes of garbage. On both sides of the wire."""

from __future__ import annotations

import ctypes
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from firmware_bridge import framing
from firmware_bridge.framing import MAX_BODY, Decoder, Frame, cobs_decode, cobs_encode
from firmware_bridge.messages import EVERY, Message

_FILE = json.loads((Path(__file__).parent / "vectors.json").read_text())
SCHEMA: int = _FILE["schema_id"]


def _message(name: str, values: dict[str, Any]) -> Message:
    kind = next(kind for kind in EVERY if name == kind.NAME)
    points = tuple(_message("POINT", point) for point in values.get("points", ()))
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kind(**(given | ({"points": points} if points else {})))


VECTORS: list[tuple[Message, int, int, int, str]] = [
    (_message(v["message"], v["fields"]), v["seq"], v["session"], v["flags"], v["wire"]) for v in _FILE["frames"]
]
REFUSED: list[tuple[str, str]] = [(v["wire"], v["counter"]) for v in _FILE["refused"]]

frames = st.builds(
    Frame,
    type=st.integers(0, 255),
    seq=st.integers(0, 255),
    session=st.integers(0, 255),
    payload=st.binary(max_size=MAX_BODY - 8) | st.integers(0, MAX_BODY - 8).map(bytes),
    flags=st.integers(0, 3),
)


def c_encode(library: ctypes.CDLL, frame: Frame) -> bytes:
    wire = ctypes.create_string_buffer(256)
    length = library.shim_encode(
        frame.flags, frame.type, frame.seq, frame.session, frame.payload, len(frame.payload), SCHEMA, wire
    )
    return wire.raw[:length]


def c_decode(library: ctypes.CDLL, data: bytes) -> tuple[list[Frame], list[int]]:
    """Frames, and how many of crc, cobs, overrun, unknown."""
    events = ctypes.create_string_buffer(10 * len(data) + 256)
    length = library.shim_decode(data, ctypes.c_size_t(len(data)), SCHEMA, events)
    raw = events.raw[:length]
    found, errors, at = [], [0, 0, 0, 0], 0
    while at < len(raw):
        what = raw[at]
        at += 1
        if what != 1:
            errors[what - 2] += 1
            continue
        flags, type_, seq, session, size = raw[at : at + 5]
        found.append(Frame(type_, seq, session, raw[at + 5 : at + 5 + size], flags))
        at += 5 + size
    return found, errors


def decode(data: bytes) -> tuple[list[Frame], list[int]]:
    decoder = Decoder(SCHEMA)
    found = list(decoder.feed(data))
    return found, [decoder.crc_errors, decoder.cobs_errors, decoder.overruns, decoder.unknown]


@pytest.mark.parametrize(("message", "seq", "session", "flags", "wire"), VECTORS, ids=lambda v: getattr(v, "NAME", None))
def test_golden_vectors(message: Message, seq: int, session: int, flags: int, wire: str) -> None:
    frame = Frame(message.TYPE, seq, session, message.pack(), flags)
    assert framing.encode(frame, SCHEMA) == bytes.fromhex(wire)
    assert decode(bytes.fromhex(wire)) == ([frame], [0, 0, 0, 0])


@pytest.mark.parametrize(("message", "seq", "session", "flags", "wire"), VECTORS, ids=lambda v: getattr(v, "NAME", None))
def test_golden_vectors_in_c(library: ctypes.CDLL, message: Message, seq: int, session: int, flags: int, wire: str) -> None:
    frame = Frame(message.TYPE, seq, session, message.pack(), flags)
    assert c_encode(library, frame) == bytes.fromhex(wire)
    assert c_decode(library, bytes.fromhex(wire)) == ([frame], [0, 0, 0, 0])


@given(data=st.binary(max_size=253) | st.integers(0, 253).map(lambda n: b"\x07" * n))
def test_cobs_round_trip(data: bytes) -> None:
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert len(encoded) == len(data) + 1
    assert cobs_decode(encoded) == data


@given(frame=frames)
def test_frame_round_trip(frame: Frame) -> None:
    wire = framing.encode(frame, SCHEMA)
    assert wire[0] == wire[-1] == 0 and 0 not in wire[1:-1]
    assert len(wire) == len(frame.payload) + 11
    assert decode(wire) == ([frame], [0, 0, 0, 0])


@given(frame=frames)
def test_both_sides_encode_the_same(library: ctypes.CDLL, frame: Frame) -> None:
    assert c_encode(library, frame) == framing.encode(frame, SCHEMA)


noise = st.binary(max_size=300) | st.lists(st.sampled_from([0, 1, 2, 3, 129, 255]), max_size=300).map(bytes)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """What may come over a line: frames whole, cut, flipped and doubled, between noise."""
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        wire = framing.encode(draw(frames), SCHEMA)
        damage = draw(st.sampled_from(["none", "none", "cut", "flip", "twice", "noise"]))
        if damage == "cut":
            wire = wire[draw(st.integers(0, len(wire))) : draw(st.integers(0, len(wire)))]
        elif damage == "flip":
            at, bit = draw(st.integers(0, len(wire) - 1)), draw(st.integers(0, 7))
            wire = wire[:at] + bytes([wire[at] ^ 1 << bit]) + wire[at + 1 :]
        elif damage == "twice":
            wire += wire
        elif damage == "noise":
            wire += draw(noise)
        parts.append(wire)
    return b"".join(parts)


@given(data=lines() | noise)
def test_both_sides_decode_the_same(library: ctypes.CDLL, data: bytes) -> None:
    assert c_decode(library, data) == decode(data)


@given(garbage=noise, frame=frames)
def test_after_any_garbage_the_next_frame_is_read(garbage: bytes, frame: Frame) -> None:
    found, _ = decode(garbage + framing.encode(frame, SCHEMA))
    assert found[-1] == frame


@given(data=lines(), cuts=st.lists(st.integers(0, 900), max_size=8))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    decoder = Decoder(SCHEMA)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == decode(data)[0]


@given(frame=frames, bits=st.lists(st.integers(0, 10_000), min_size=1, max_size=3, unique=True))
def test_flipped_bits_give_no_frame(frame: Frame, bits: list[int]) -> None:
    wire = bytearray(framing.encode(frame, SCHEMA))
    before = bytes(wire)
    for bit in bits:
        wire[bit // 8 % len(wire)] ^= 1 << bit % 8
    assume(bytes(wire).strip(b"\0") != before.strip(b"\0"))
    assert decode(bytes(wire))[0] == []


@given(frame=frames)
def test_another_schema_reads_only_what_is_outside_sessions(frame: Frame) -> None:
    decoder = Decoder(SCHEMA ^ 1)
    found = list(decoder.feed(framing.encode(frame, SCHEMA)))
    assert found == ([] if frame.session else [frame])
    assert decoder.crc_errors == (frame.session != 0)


@pytest.mark.parametrize("header", [0x00, 0x20, 0xF0, 0x14, 0x18, 0x1C])
def test_other_versions_and_unknown_flags_are_dropped(header: int) -> None:
    body = bytes([header, 6, 0, 0, 1])
    body += framing.checksum(body, 0, 0).to_bytes(4, "little")
    assert decode(b"\0" + cobs_encode(body) + b"\0") == ([], [0, 0, 0, 1])


@pytest.mark.parametrize("length", [MAX_BODY - 8, MAX_BODY - 7])
def test_the_longest_frame(library: ctypes.CDLL, length: int) -> None:
    frame = Frame(1, 0, 0, b"\x01" * length)
    if length == MAX_BODY - 8:
        wire = framing.encode(frame, SCHEMA)
        assert decode(wire) == c_decode(library, wire) == ([frame], [0, 0, 0, 0])
    else:
        with pytest.raises(ValueError, match="does not fit"):
            framing.encode(frame, SCHEMA)


@pytest.mark.parametrize(("length", "errors"), [(129, [0, 1, 0, 0]), (130, [0, 0, 1, 0]), (100_000, [0, 0, 1, 0])])
def test_an_endless_frame_is_an_overrun_and_takes_no_memory(library: ctypes.CDLL, length: int, errors: list[int]) -> None:
    data = b"\xff" * length + b"\0" + bytes.fromhex(VECTORS[0][4])
    assert decode(data)[1] == errors
    assert len(decode(data)[0]) == 1
    assert c_decode(library, data) == decode(data)


@pytest.mark.parametrize(("wire", "counter"), REFUSED)
def test_refused_vectors(library: ctypes.CDLL, wire: str, counter: str) -> None:
    counters = ["crc_errors", "cobs_errors", "overruns", "unknown"]
    expected = [int(name == counter) for name in counters]
    assert decode(bytes.fromhex(wire)) == ([], expected)
    assert c_decode(library, bytes.fromhex(wire)) == ([], expected)
