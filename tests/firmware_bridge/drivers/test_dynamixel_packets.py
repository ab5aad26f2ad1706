"""Dynamixel's packets against the manual's bytes, against the vendor's package where that is right, and against garbage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmware_bridge.drivers import dynamixel_packets as packets
from firmware_bridge.drivers.dynamixel_packets import next_status
from firmware_bridge.drivers.roll_call import Status
from tests.conftest import unmet
from tests.firmware_bridge.drivers.test_feetech_packets import Port


def long(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


# The first block as printed in the e-manual, the second computed with an independent CRC.
REQUESTS = [
    ("FF FF FD 00 01 03 00 01 19 4E", packets.packet(1, packets.PING)),
    ("FF FF FD 00 01 07 00 02 84 00 04 00 1D 15", packets.read(1, 132, 4)),
    ("FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89", packets.write(1, 116, long(512))),
    ("FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA", packets.sync_read((1, 2), 132, 4)),
    (
        "FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87",
        packets.sync_write(116, {1: long(150), 2: long(170)}),
    ),
    ("FF FF FD 00 01 03 00 08 2F 4E", packets.packet(1, packets.REBOOT)),
    ("FF FF FD 00 01 09 00 03 68 00 9C FF FF FF C4 95", packets.write(1, 104, long(-100))),
    ("FF FF FD 00 01 09 00 03 68 00 64 00 00 00 EE F9", packets.write(1, 104, long(100))),
    ("FF FF FD 00 01 09 00 03 68 00 00 00 00 00 FC 29", packets.write(1, 104, long(0))),
    ("FF FF FD 00 01 06 00 03 40 00 01 DB 66", packets.write(1, 64, b"\x01")),
    ("FF FF FD 00 01 06 00 03 40 00 00 DE E6", packets.write(1, 64, b"\x00")),
    ("FF FF FD 00 FE 06 00 03 40 00 00 2E 16", packets.write(packets.BROADCAST, 64, b"\x00")),
    ("FF FF FD 00 01 06 00 03 0B 00 01 47 63", packets.write(1, 11, b"\x01")),
    ("FF FF FD 00 01 06 00 03 62 00 05 68 E4", packets.write(1, 98, b"\x05")),
    ("FF FF FD 00 01 06 00 03 62 00 00 76 E4", packets.write(1, 98, b"\x00")),
    ("FF FF FD 00 01 0A 00 03 74 00 FF FF FD FD 00 21 E7", packets.write(1, 116, bytes.fromhex("FFFFFD00"))),
]


@pytest.mark.parametrize(("wire", "made"), REQUESTS)
def test_requests(wire: str, made: bytes) -> None:
    assert made == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        ("FF FF FD 00 01 07 00 55 00 06 04 26 65 5D", Status(1, 0, bytes.fromhex("06 04 26"))),
        ("FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0", Status(1, 0, bytes.fromhex("A6 00 00 00"))),
    ],
)
def test_answers(wire: str, status: Status) -> None:
    assert next_status(bytearray.fromhex(wire)) == status


def test_the_published_packets_and_check_value(shared_data: Path) -> None:
    vectors = json.loads((shared_data / "serial_vectors" / "vectors.json").read_text())
    ping, answer = (bytes.fromhex(vector["hex"]) for vector in vectors["dynamixel_v2"])
    assert packets.packet(1, packets.PING) == ping
    assert next_status(bytearray(answer)) == Status(1, 0, answer[9:-2])
    assert packets.crc16(b"123456789") == 0xFEE8


parameters = st.binary(max_size=24)
heads = st.lists(st.sampled_from([b"\xff", b"\xfd", b"\x00", b"\xff\xff\xfd"]), max_size=12).map(b"".join)


@given(st.integers(0, 252), st.integers(0, 65535), parameters.filter(lambda data: b"\xff\xff\xfd" not in data))
def test_the_vendors_package_sends_the_same_where_nothing_is_stuffed(servo: int, address: int, data: bytes) -> None:
    try:
        import dynamixel_sdk
    except ImportError:
        unmet("the package dynamixel-sdk is not installed")
    made = packets.write(servo, address, data)
    if b"\xff\xff\xfd" in made[4:]:
        return  # address and data together make a head: the vendor's package sends it unstuffed
    port = Port()
    dynamixel_sdk.Protocol2PacketHandler().writeTxOnly(port, servo, address, len(data), list(data))
    assert port.written == made


@given(st.integers(0, 252), heads)
@example(1, bytes.fromhex("FFFFFDFFFFFD"))
@example(1, bytes.fromhex("FFFFFDFD"))
def test_the_vendors_stuffing_is_the_same_where_it_is_applied(servo: int, data: bytes) -> None:
    """``txPacket`` of the package throws away what this function of it returns; the function itself is right."""
    try:
        import dynamixel_sdk
    except ImportError:
        unmet("the package dynamixel-sdk is not installed")
    vendor = dynamixel_sdk.Protocol2PacketHandler()
    plain = [0xFF, 0xFF, 0xFD, 0, servo, len(data) + 3, 0, 3, *data, 0, 0]
    stuffed = vendor.addStuffing(plain)
    made = packets.packet(servo, 0x03, data)
    assert bytes(stuffed[:-2]) == made[:-2]
    assert vendor.updateCRC(0, made[:-2], len(made) - 2) == int.from_bytes(made[-2:], "little")


statuses = st.builds(Status, st.integers(0, 252), st.integers(0, 255), st.one_of(parameters, heads))


def wire_of(status: Status) -> bytes:
    return packets.packet(status.id, packets.STATUS, bytes((status.error,)) + status.parameters)


def drained(heard: bytearray) -> list[Status]:
    found = []
    while (status := next_status(heard)) is not None:
        found.append(status)
    return found


@given(st.lists(statuses, max_size=6), st.data())
def test_answers_are_found_however_they_are_cut(sent: list[Status], data: st.DataObject) -> None:
    wire = b"".join(map(wire_of, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    heard, found = bytearray(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        heard += wire[start:end]
        found += drained(heard)
    assert found == sent and heard == b""


@given(statuses)
def test_no_head_occurs_inside_of_a_packet(status: Status) -> None:
    assert wire_of(status).find(b"\xff\xff\xfd\x00", 1) < 0


@given(st.binary(max_size=40), statuses, statuses)
def test_an_answer_behind_one_that_was_cut_short_is_found(garbage: bytes, cut: Status, status: Status) -> None:
    wire = wire_of(cut)
    heard = bytearray(garbage.replace(b"\xff", b"\x01") + wire[: len(wire) // 2] + wire_of(status))
    found = drained(heard)
    heard += wire_of(status)
    assert status in found + drained(heard)


@given(st.binary(max_size=300))
@example(b"\xff\xff\xfd" * 50)
@example(b"\xff\xff\xfd\x00" * 50)
def test_garbage_never_breaks_and_never_piles_up(garbage: bytes) -> None:
    heard = bytearray(garbage)
    drained(heard)
    assert len(heard) <= packets.LONGEST + 7


@given(statuses, st.data())
def test_flipped_bits_are_noticed(status: Status, data: st.DataObject) -> None:
    wire = bytearray(wire_of(status))
    for bit in data.draw(st.sets(st.integers(0, len(wire) * 8 - 1), min_size=1, max_size=3)):
        wire[bit // 8] ^= 1 << bit % 8
    assert status not in drained(wire)
