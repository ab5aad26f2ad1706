"""Feetech's packets against bytes that were not made here, against the vendor's package, and against garbage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmware_bridge.drivers import feetech_packets as packets
from firmware_bridge.drivers.feetech_packets import next_status
from firmware_bridge.drivers.roll_call import Status
from tests.conftest import unmet

WORDS = {"torque": 40, "acceleration": 41, "goal": 42, "speed": 46, "position": 56}
# The ones with a goal position, with -1000, and with an acceleration are also what the vendor's package sends (see below).
REQUESTS = [
    ("FF FF 01 02 01 FB", packets.packet(1, packets.PING)),
    ("FF FF FE 02 01 FE", packets.packet(packets.BROADCAST, packets.PING)),
    ("FF FF 01 05 03 2A 00 08 C4", packets.write(1, WORDS["goal"], packets.word(2048))),
    ("FF FF 01 04 03 28 01 CE", packets.write(1, WORDS["torque"], b"\x01")),
    ("FF FF 01 04 03 28 00 CF", packets.write(1, WORDS["torque"], b"\x00")),
    ("FF FF FE 04 03 28 00 D2", packets.write(packets.BROADCAST, WORDS["torque"], b"\x00")),
    ("FF FF 01 04 03 21 01 D5", packets.write(1, 33, b"\x01")),
    ("FF FF 01 05 03 2E E8 03 DD", packets.write(1, WORDS["speed"], packets.word(1000))),
    ("FF FF 01 05 03 2E E8 83 5D", packets.write(1, WORDS["speed"], packets.word(-1000))),
    ("FF FF 01 04 02 38 02 BE", packets.read(1, WORDS["position"], 2)),
    ("FF FF 01 04 02 38 0F B1", packets.read(1, WORDS["position"], 15)),
    ("FF FF FE 0A 82 38 02 01 02 03 04 05 06 26", packets.sync_read(range(1, 7), WORDS["position"], 2)),
    (
        "FF FF FE 0A 83 2A 02 01 00 08 02 00 04 39",
        packets.sync_write(WORDS["goal"], {1: packets.word(2048), 2: packets.word(1024)}),
    ),
]


@pytest.mark.parametrize(("wire", "made"), REQUESTS)
def test_requests(wire: str, made: bytes) -> None:
    assert made == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        ("FF FF 01 02 00 FC", Status(1, 0, b"")),
        ("FF FF 01 04 00 00 08 F2", Status(1, 0, b"\x00\x08")),
    ],
)
def test_answers(wire: str, status: Status) -> None:
    assert next_status(bytearray.fromhex(wire)) == status


def test_the_published_packets_of_the_protocol(shared_data: Path) -> None:
    for vector in json.loads((shared_data / "serial_vectors" / "vectors.json").read_text())["dynamixel_v1"]:
        wire = bytes.fromhex(vector["hex"])
        assert packets.packet(wire[2], wire[4], wire[5:-1]) == wire, vector["name"]
        if "status" in vector["name"]:
            assert next_status(bytearray(wire)) == Status(wire[2], wire[4], wire[5:-1])


class Port:
    """Stands in for the vendor's serial port; nothing ever answers."""

    is_using = False

    def __init__(self) -> None:
        self.written = b""

    def clearPort(self) -> None: ...

    def writePort(self, data: list[int]) -> int:
        self.written = bytes(data)
        return len(data)

    def readPort(self, length: int) -> bytes:
        return b""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_: True  # time-outs: over at once


@given(st.integers(0, 253), st.integers(0, 4095), st.integers(-3000, 3000), st.integers(0, 254))
def test_the_vendors_package_sends_the_same(servo: int, goal: int, speed: int, acceleration: int) -> None:
    try:
        import scservo_sdk
    except ImportError:
        unmet("the package ftservo-python-sdk is not installed")
    port = Port()
    vendor = scservo_sdk.sms_sts(port)
    vendor.WritePosEx(servo, goal, abs(speed), acceleration)
    data = bytes((acceleration,)) + packets.word(goal) + b"\0\0" + packets.word(abs(speed))
    assert packets.write(servo, WORDS["acceleration"], data) == port.written
    vendor.WriteSpec(servo, speed, acceleration)
    assert port.written == packets.write(servo, 41, bytes((acceleration, 0, 0, 0, 0)) + packets.word(speed))
    vendor.ReadPos(servo)
    assert port.written == packets.read(servo, WORDS["position"], 2)
    assert vendor.scs_tohost(int.from_bytes(packets.word(speed), "little"), 15) == speed


def drained(heard: bytearray) -> list[Status]:
    found = []
    while (status := next_status(heard)) is not None:
        found.append(status)
    return found


statuses = st.builds(Status, st.integers(0, 253), st.integers(0, 255), st.binary(max_size=40))


def wire_of(status: Status) -> bytes:
    return packets.packet(status.id, status.error, status.parameters)


@given(st.lists(statuses, max_size=6), st.data())
def test_answers_are_found_however_they_are_cut(sent: list[Status], data: st.DataObject) -> None:
    wire = b"".join(map(wire_of, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    heard, found = bytearray(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        heard += wire[start:end]
        found += drained(heard)
    assert found == sent and heard == b""


@given(st.binary(max_size=200))
@example(b"\xff" * 50)
@example(b"\xff\xff\x01\xff" * 10)
def test_garbage_never_breaks_and_never_piles_up(garbage: bytes) -> None:
    heard = bytearray(garbage)
    drained(heard)
    assert len(heard) <= 259


@given(st.binary(max_size=30), statuses)
def test_an_answer_behind_garbage_is_found_at_the_latest_when_the_garbage_is_used_up(garbage: bytes, status: Status) -> None:
    heard = bytearray(garbage + wire_of(status) + b"\0" * 300)
    assert status in drained(heard) or garbage.find(b"\xff") >= 0


@given(statuses, st.data())
def test_one_flipped_bit_is_noticed(status: Status, data: st.DataObject) -> None:
    wire = bytearray(wire_of(status))
    bit = data.draw(st.integers(0, len(wire) * 8 - 1))
    wire[bit // 8] ^= 1 << bit % 8
    assert status not in drained(wire)


@given(st.integers(-32767, 32767))
def test_signs(value: int) -> None:
    assert packets.signed(int.from_bytes(packets.word(value), "little")) == value
