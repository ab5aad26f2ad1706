"""The ring: never a torn picture, whatever the other side does at whatever moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.camera import CameraError
from edge.cameras.frame_ring import PAGE, SLOTS, FrameRing, Picture
from edge.messages import Pixels

ROOT = Path(__file__).resolve().parents[3]
HEIGHT, WIDTH = 6, 8


def plain(value: int, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    return np.full((height, width, 3), value % 251, np.uint8)


def whole(picture: Picture) -> bool:
    """All of it is of one write, as :func:`plain` numbers them."""
    return (
        bool((picture.pixels == picture.sequence % 251).all()) and picture.captured_ns == picture.sequence * 1_000_003
    )


def put(ring: FrameRing, sequence: int) -> bool:
    return ring.write(plain(sequence, ring.height, ring.width), sequence * 1_000_003, sequence)


def pair(path: Path) -> tuple[FrameRing, FrameRing]:
    writer = FrameRing.create(path, HEIGHT, WIDTH)
    return writer, FrameRing.attach(path)


def test_the_reader_gets_the_newest_picture_once(ring_path: Path) -> None:
    writer, reader = pair(ring_path)
    assert reader.take() is None and not reader.unread and reader.last_sequence == -1
    for sequence in range(5):
        assert put(writer, sequence)
    assert reader.unread
    picture = reader.take()
    assert picture is not None and picture.sequence == 4 and whole(picture) and picture.source_size == (HEIGHT, WIDTH)
    assert reader.take() is None and not reader.unread
    picture.pixels[:] = 0  # an own copy: the ring does not care
    assert put(writer, 5)
    assert (reader.take() or picture).sequence == 5


def test_a_picture_of_another_size_is_scaled_and_says_so(ring_path: Path) -> None:
    writer, reader = pair(ring_path)
    for size in ((HEIGHT * 4, WIDTH * 4), (3, 3)):
        assert writer.write(np.full((*size, 3), 77, np.uint8), 1, 1)
        picture = reader.take()
        assert picture is not None and picture.pixels.shape == (HEIGHT, WIDTH, 3)
        assert (picture.pixels == 77).all() and picture.source_size == size


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((HEIGHT, WIDTH), np.uint8),
        np.zeros((HEIGHT, WIDTH, 4), np.uint8),
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        np.zeros((0, WIDTH, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused_and_the_ring_is_as_before(ring_path: Path, pixels: Pixels) -> None:
    writer, reader = pair(ring_path)
    with pytest.raises(ValueError, match="uint8"):
        writer.write(pixels, 0, 0)
    assert reader.published == 0


def test_a_lossless_ring_hands_out_every_picture_in_order(ring_path: Path) -> None:
    with ring_path.open("w+b") as file:
        writer = FrameRing.create_in(file.fileno(), HEIGHT, WIDTH, lossless=True)
    reader = FrameRing.attach(ring_path)
    taken, sequence = [], 0
    for step in range(60):
        if step % 7 < 5 and put(writer, sequence):
            sequence += 1
        if step % 3 == 0 and (picture := reader.take()) is not None:
            assert whole(picture)
            taken.append(picture.sequence)
    while (picture := reader.take()) is not None:
        taken.append(picture.sequence)
    assert taken == list(range(sequence)) and sequence > 15


def test_a_full_lossless_ring_takes_nothing_more(ring_path: Path) -> None:
    with ring_path.open("w+b") as file:
        writer = FrameRing.create_in(file.fileno(), HEIGHT, WIDTH, lossless=True)
    reader = FrameRing.attach(ring_path)
    assert [put(writer, n) for n in range(SLOTS + 1)] == [True] * SLOTS + [False]
    assert reader.take() is not None
    assert put(writer, SLOTS) and not put(writer, SLOTS + 1)


def die_while_writing(path: Path) -> None:
    """Leave the file as a writer does that is killed half way through its next picture."""
    ring = FrameRing.attach(path)
    slot = (ring.published + 1) % SLOTS
    ring._words[16 * (slot + 1)] = 0
    ring._pixels[slot][: HEIGHT // 2] = 255


@given(st.lists(st.sampled_from(["write", "die", "take", "new writer", "new reader"]), max_size=60))
def test_any_order_of_events_gives_whole_pictures_and_the_newest(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    path = tmp_path_factory.mktemp("ring") / "r"
    writer, reader = pair(path)
    written, seen = -1, -1
    for event in events:
        if event == "write":
            written += 1
            assert put(writer, written)
        elif event == "die":
            die_while_writing(path)
        elif event == "new writer":
            writer = FrameRing.attach(path)
        elif event == "new reader":
            reader, seen = FrameRing.attach(path), -1
        else:
            picture = reader.take()
            if written == seen:
                assert picture is None
            else:
                assert picture is not None and whole(picture) and picture.sequence == written
                seen = written


class Overtaking:
    """Stands in for a slot's pixels: while the reader copies them, the writer writes ``laps`` pictures."""

    def __init__(self, pixels: Pixels, writer: FrameRing, laps: list[int]) -> None:
        self.pixels, self.writer, self.laps = pixels, writer, laps

    def copy(self) -> Pixels:
        copied = self.pixels.copy()
        for _ in range(self.laps.pop(0) if self.laps else 0):
            put(self.writer, self.writer.last_sequence + 1)
        copied[HEIGHT // 2 :] = self.pixels[HEIGHT // 2 :]
        return copied


@pytest.mark.parametrize(
    ("laps", "sequence"),
    [([1], 0), ([2], 0), ([3], 3), ([5, 3], 8), ([3, 3, 2], 6), ([3, 3, 3], None)],
)
def test_a_reader_overtaken_while_copying_tries_again_and_never_for_ever(
    ring_path: Path, laps: list[int], sequence: int | None
) -> None:
    writer, reader = pair(ring_path)
    put(writer, 0)
    reader._pixels = [Overtaking(pixels, writer, laps) for pixels in reader._pixels]  # type: ignore[misc]
    picture = reader.take()
    if sequence is None:
        assert picture is None
    else:
        assert picture is not None and whole(picture) and picture.sequence == sequence


class Interrupted:
    """Stands in for a slot's pixels at the writer's end: half of a picture is written, then the process is gone."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def __setitem__(self, where: object, picture: Pixels) -> None:
        self.pixels[: HEIGHT // 2] = picture[: HEIGHT // 2]
        raise InterruptedError


class BeingOverwritten(Overtaking):
    """While the reader copies, the writer gets round to this slot and dies in the middle of it."""

    def copy(self) -> Pixels:
        copied = super().copy()
        if self.laps is not None and not self.laps:
            self.writer._pixels = [Interrupted(pixels) for pixels in self.writer._pixels]  # type: ignore[misc]
            with pytest.raises(InterruptedError):
                put(self.writer, self.writer.last_sequence + 1)
            copied[:] = self.pixels
            self.laps.append(0)
        return copied


def test_a_slot_being_overwritten_is_not_believed(ring_path: Path) -> None:
    writer, reader = pair(ring_path)
    put(writer, 0)
    laps = [2]
    reader._pixels = [BeingOverwritten(pixels, writer, laps) for pixels in reader._pixels]  # type: ignore[misc]
    picture = reader.take()
    assert picture is not None and whole(picture) and picture.sequence == 2


WRITER = """
import itertools, sys
import numpy as np
from edge.cameras.frame_ring import FrameRing
ring = FrameRing.attach(sys.argv[1])
for n in itertools.count(ring.last_sequence + 1):
    ring.write(np.full((ring.height, ring.width, 3), n % 251, np.uint8), n * 1_000_003, n)
"""


def test_real_writers_killed_at_random_never_show_a_torn_picture(ring_path: Path) -> None:
    FrameRing.create(ring_path, 480, 640).close()
    reader = FrameRing.attach(ring_path)
    dice = random.Random(5)
    newest, taken = -1, 0
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(ring_path)], cwd=ROOT)
        try:
            before, deadline = reader.published, time.monotonic() + 30
            while reader.published == before and time.monotonic() < deadline:
                time.sleep(0.001)
            stop = time.monotonic() + dice.uniform(0.02, 0.2)
            while time.monotonic() < stop:
                picture = reader.take()
                if picture is not None:
                    assert whole(picture) and picture.sequence > newest
                    newest, taken = picture.sequence, taken + 1
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        left = reader.take()
        assert left is None or (whole(left) and left.sequence > newest)
    assert taken > 20


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no frame ring"),
        (b"x" * PAGE, "no frame ring of this version"),
        (b"LLRING01" + b"\xff" * (PAGE - 8), "no frame ring of this version"),
        (b"LLRING01" + (480).to_bytes(8, "little") + (640).to_bytes(8, "little") + bytes(PAGE), "no frame ring"),
    ],
)
def test_another_file_is_refused_in_one_sentence(ring_path: Path, content: bytes, complaint: str) -> None:
    ring_path.write_bytes(content)
    with pytest.raises(CameraError, match=complaint) as refusal:
        FrameRing.attach(ring_path)
    assert "\n" not in str(refusal.value)


def test_create_leaves_only_the_ring_and_replaces_an_old_one_whole(ring_path: Path) -> None:
    old_writer, old_reader = pair(ring_path)
    put(old_writer, 1)
    writer = FrameRing.create(ring_path, 2 * HEIGHT, WIDTH)
    assert os.listdir(ring_path.parent) == [ring_path.name]
    assert put(writer, 2)
    old = old_reader.take()
    assert old is not None and old.sequence == 1
    new = FrameRing.attach(ring_path).take()
    assert new is not None and new.sequence == 2 and new.pixels.shape == (2 * HEIGHT, WIDTH, 3)


def test_no_room_and_no_place_are_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="cannot be written"):
        FrameRing.create(tmp_path / "none" / "r", HEIGHT, WIDTH)
    with pytest.raises(CameraError, match="no frame ring at"):
        FrameRing.attach(tmp_path / "none")
    read_only = os.open(__file__, os.O_RDONLY)
    try:
        with pytest.raises(CameraError, match="has no room"):
            FrameRing.create_in(read_only, HEIGHT, WIDTH)
    finally:
        os.close(read_only)
