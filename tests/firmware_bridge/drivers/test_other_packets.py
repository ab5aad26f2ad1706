"""VESC, RoboClaw, ODrive and Waveshare: bytes that were not made here, and garbage."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.drivers import odrive, roboclaw, waveshare
from firmware_bridge.drivers import vesc_packets as vesc

WIRE = [
    # Published: SimpleVescDisplay #5, and PyVESC's own test.
    ("02 01 04 40 84 03", vesc.command(vesc.GET_VALUES)),
    ("02 03 54 65 21 42 92 03", vesc.frame(b"Te!")),
    # Made by VESC's own comm/packet.c, util/crc.c and util/buffer.c (vedderb/bldc, commit b9d287b3), compiled for the host.
    ("02 01 11 02 10 03", vesc.command(vesc.GET_APPCONF)),
    ("02 07 22 02 08 FF FF FB 2E 09 2F 03", vesc.command(vesc.SET_RPM, -1234, can=2)),
    # Made by Basicmicro's own library for Arduino (RoboClaw.cpp, commit 5e83dfe), compiled for the host.
    ("82 25 FF FE 1D C0 00 01 11 70 7D 4B", roboclaw.request(0x82, roboclaw.SPEEDS, bytes.fromhex("FFFE1DC000011170"))),
    # Computed with an independent CRC; the vendors' code makes the same, where it has a function for it.
    ("02 05 08 00 00 0B B8 F8 04 03", vesc.command(vesc.SET_RPM, 3000)),
    ("02 05 08 FF FF F4 48 90 24 03", vesc.command(vesc.SET_RPM, -3000)),
    ("02 05 06 00 00 00 00 CD 85 03", vesc.command(vesc.SET_CURRENT, 0)),
    ("02 01 00 00 00 03", vesc.command(vesc.FW_VERSION)),
    ("02 07 22 01 08 00 00 0B B8 B3 B1 03", vesc.command(vesc.SET_RPM, 3000, can=1)),
    ("80 25 00 00 03 E8 FF FF FC 18 82 90", roboclaw.request(0x80, roboclaw.SPEEDS, bytes.fromhex("000003E8FFFFFC18"))),
    ("80 25 00 00 00 00 00 00 00 00 34 04", roboclaw.request(0x80, roboclaw.SPEEDS, bytes(8))),
    ("80 22 00 00 00 00 98 17", roboclaw.request(0x80, roboclaw.DUTIES, bytes(4))),
    ("80 0E 05 48 F0", roboclaw.request(0x80, roboclaw.SET_TIMEOUT, b"\x05")),
]


@pytest.mark.parametrize(("wire", "made"), WIRE)
def test_frames(wire: str, made: bytes) -> None:
    assert made == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("r vbus_voltage", "r vbus_voltage *93"),  # as in ODrive's documentation
        ("v 0 1 0", "v 0 1 0 *71"),
        ("v 0 0 0", "v 0 0 0 *70"),
        ("u 0", "u 0 *69"),
        ("f 0", "f 0 *86"),
        ("w axis0.requested_state 8", "w axis0.requested_state 8 *42"),
        ("w axis0.requested_state 1", "w axis0.requested_state 1 *35"),
    ],
)
def test_lines_of_odrive(text: str, wire: str) -> None:
    assert odrive.line(text) == wire.encode("ascii") + b"\n"


def test_lines_of_waveshare() -> None:
    assert waveshare.line(T=1, L=0.5, R=0.5) == b'{"T":1,"L":0.5,"R":0.5}\n'
    assert waveshare.line(T=136, cmd=3000) == b'{"T":136,"cmd":3000}\n'
    assert waveshare.line(T=130) == b'{"T":130}\n'


def test_the_time_out_of_a_vesc_is_found_and_believed_only_in_its_place() -> None:
    payload = bytes((vesc.GET_APPCONF,)) + b"\x01\x02\x03\x04" + bytes((7,)) + (500).to_bytes(4, "big") + bytes(300)
    assert vesc.timeout_of(payload) == (7, 500)
    assert vesc.timeout_of(payload[:9]) is None and vesc.timeout_of(b"\x04" + payload[1:]) is None
    assert vesc.next_payload(bytearray(vesc.frame(payload))) == payload


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4), st.data())
def test_payloads_of_vesc_are_found_however_they_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(map(vesc.frame, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    heard, found = bytearray(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        heard += wire[start:end]
        while (payload := vesc.next_payload(heard)) is not None:
            found.append(payload)
    assert found == sent


@given(st.binary(max_size=200))
def test_garbage_never_breaks(garbage: bytes) -> None:
    for take in (vesc.next_payload, odrive.next_reply, waveshare.next_feedback):
        heard = bytearray(garbage)
        while take(heard) is not None:
            pass
    assert vesc.values_of(garbage) is None or garbage[0] == vesc.GET_VALUES
    vesc.timeout_of(garbage)


@given(st.dictionaries(st.sampled_from(["T", "L", "R", "v", "odl"]), st.one_of(st.none(), st.floats(), st.just(1001), st.text())))
def test_feedback_without_finite_speeds_is_none(fields: dict[str, object]) -> None:
    found = waveshare.next_feedback(bytearray(json.dumps(fields).encode() + b"\n"))
    assert found is None or all(isinstance(found[side], (int, float)) and abs(found[side]) < 1e400 for side in "LR")


@given(st.text("0123456789. -", max_size=20), st.integers(0, 7))
def test_a_flipped_bit_in_a_line_of_odrive_is_noticed(text: str, bit: int) -> None:
    wire = bytearray(odrive.line(text))
    assert odrive.next_reply(bytearray(wire)) == text.strip()
    wire[0] ^= 1 << bit
    assert odrive.next_reply(wire) is None or len(text) == 0
