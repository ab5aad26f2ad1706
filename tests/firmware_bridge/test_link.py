"""One open port: what is heard on it, and what counts as an error."""

from __future__ import annotations

import os
import pty
import tty
from collections.abc import Iterator

import pytest

from firmware_bridge import framing, messages
from firmware_bridge.link import Link
from firmware_bridge.serial_port import open_port

SESSION = 7


@pytest.fixture
def line() -> Iterator[tuple[Link, int]]:
    """A link and the other end of its line."""
    far, near = pty.openpty()
    tty.setraw(far)
    link = Link(open_port(os.ttyname(near), 115_200))
    yield link, far
    link.close()
    os.close(near)
    os.close(far)


def frame(seq: int) -> bytes:
    return framing.encode(framing.Frame(messages.Ack.TYPE, seq, SESSION, b"\x01\x02\x03"), messages.SCHEMA_ID)


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_line_opened_in_the_middle_of_a_frame_is_no_error(line: tuple[Link, int], cut: int) -> None:
    link, far = line
    os.write(far, frame(1)[cut:])
    assert link.receive() == []
    os.write(far, frame(2))
    assert [heard.seq for heard, _ in link.receive()] == [2]
    assert (link.crc_errors, link.missed) == (0, 0)


def test_damage_after_that_is_counted(line: tuple[Link, int]) -> None:
    link, far = line
    damaged = bytearray(frame(2))
    damaged[4] ^= 0x40
    os.write(far, frame(1) + bytes(damaged) + frame(3))
    assert [heard.seq for heard, _ in link.receive()] == [1, 3]
    assert (link.crc_errors, link.missed) == (1, 1)


def test_two_questions_within_a_second_have_different_numbers(line: tuple[Link, int]) -> None:
    link, far = line
    first = link.send(messages.Disarm(), SESSION, framing.ACK_REQ)
    for _ in range(255):
        link.send(messages.Ping(), SESSION)
        os.read(far, 4096)
    assert link.send(messages.Disarm(), SESSION, framing.ACK_REQ) != first
    assert link.send(messages.Disarm(), SESSION, framing.ACK_REQ, seq=first) == first  # repeating is another thing


@pytest.mark.parametrize("question", [messages.Ping, messages.Disarm])
def test_any_number_of_questions_in_a_row_can_be_asked(line: tuple[Link, int], question: type[messages.Message]) -> None:
    link, far = line
    for _ in range(600):
        assert 0 <= link.send(question(), SESSION, framing.ACK_REQ) < 256
        os.read(far, 4096)
