"""A ring of pictures in a memory-mapped file: one process writes, another takes the newest, and neither can hurt the
other.

Layout, native-endian 64-bit words: a header page (magic, height, width, lossless, published, taken, alive_ns and four
words per slot), then three slots of H*W*3 bytes, each beginning on a page. Frames are numbered from 1 and frame ``n``
lives in slot ``n % 3``. The writer marks a slot as being written, fills it, stamps it with the frame's number and
only then publishes that number. A reader copies a slot and keeps the copy only if the stamp was the frame's number
before and after (a sequence lock). So a torn picture is never returned, a writer killed in the middle leaves the
newest complete picture readable, and its successor goes on in the same ring.

In a lossless ring the reader takes every frame in order, and the writer is told to come back while three are waiting.
"""

from __future__ import annotations

import mmap
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cameras.camera import CameraError
from edge.messages import Pixels

SLOTS = 3
PAGE = 4096
MAGIC = int.from_bytes(b"LLRING01", "little")
MAX_SIDE = 16384
TAKE_ATTEMPTS = 3

_MAGIC, _HEIGHT, _WIDTH, _LOSSLESS, _PUBLISHED, _TAKEN, _ALIVE = range(7)
_SLOT_WORDS = 16  # where the slots' words begin, and how many each has
_STAMP, _CAPTURED, _SEQUENCE, _SIZE = range(4)


@dataclass(frozen=True, slots=True)
class Picture:
    """What was in one slot. pixels: uint8 (H, W, 3), BGR, the ring's size, an own copy. source_size: height and width
    that the source delivered, before it was scaled to the ring's size."""

    pixels: Pixels
    captured_ns: int
    sequence: int
    source_size: tuple[int, int]


class FrameRing:
    """One end of a ring. A process that writes must be the only one; ``take`` belongs to one reader."""

    def __init__(self, descriptor: int, name: str) -> None:
        """Map a ring that is complete in the open file ``descriptor``, which stays the caller's. Raises CameraError."""
        size = os.fstat(descriptor).st_size
        if size < PAGE:
            raise CameraError(f"{name} is no frame ring ({size} bytes): give the path that the world was told to write")
        self._map = mmap.mmap(descriptor, size)
        self._words: NDArray[np.int64] = np.frombuffer(self._map, np.int64, PAGE // 8)
        self.height, self.width = int(self._words[_HEIGHT]), int(self._words[_WIDTH])
        sides_fit = 0 < self.height <= MAX_SIDE and 0 < self.width <= MAX_SIDE
        if int(self._words[_MAGIC]) != MAGIC or not sides_fit or size < _file_size(self.height, self.width):
            raise CameraError(f"{name} is no frame ring of this version: let the same version write and read it")
        self.lossless = bool(self._words[_LOSSLESS])
        stride = _slot_bytes(self.height, self.width)
        shape = (self.height, self.width, 3)
        self._pixels: list[Pixels] = [
            np.frombuffer(self._map, np.uint8, self.height * self.width * 3, PAGE + slot * stride).reshape(shape)
            for slot in range(SLOTS)
        ]
        self._fence_lock = threading.Lock()
        self._seen = 0

    @classmethod
    def create(cls, path: Path | str, height: int, width: int) -> FrameRing:
        """Make a new ring at ``path`` for pictures of this size; one that is there is replaced, its readers keep the
        old one. The file is the caller's to delete. Raises CameraError where it cannot be written or does not fit."""
        target = Path(path)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise CameraError(
                f"the frame ring {target} cannot be written ({error.strerror}): choose another path"
            ) from None
        try:
            ring = cls.create_in(descriptor, height, width, name=str(target))
            os.replace(draft, target)
            return ring
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    @classmethod
    def create_in(
        cls, descriptor: int, height: int, width: int, *, lossless: bool = False, name: str = "the shared memory"
    ) -> FrameRing:
        """Make a ring in an open empty file. The space is reserved now, so that no later write can fail."""
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise ValueError(f"a frame ring's sides are 1 to {MAX_SIDE} pixels, not {height} and {width}")
        size = _file_size(height, width)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            raise CameraError(
                f"{name} has no room for {size >> 20} MB of {width}x{height} pictures ({error.strerror}): "
                "free some, use a smaller picture, or in a container raise --shm-size"
            ) from None
        header = np.zeros(PAGE // 8, np.int64)
        header[[_MAGIC, _HEIGHT, _WIDTH, _LOSSLESS]] = MAGIC, height, width, int(lossless)
        os.pwrite(descriptor, header.tobytes(), 0)
        return cls(descriptor, name)

    @classmethod
    def attach(cls, path: Path | str) -> FrameRing:
        """Open a ring that another process made. Raises CameraError if there is none."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise CameraError(
                f"there is no frame ring at {path} ({error.strerror}): start the world that writes it first"
            ) from None
        try:
            return cls(descriptor, str(path))
        finally:
            os.close(descriptor)

    # -- the writer's end ----------------------------------------------------------------------------------------

    def write(self, pixels: Pixels, captured_ns: int, sequence: int) -> bool:
        """Publish one picture; False, and nothing happened, while a lossless ring is full. Never blocks.

        pixels: uint8 (h, w, 3), BGR. A picture of another size than the ring's is scaled to it, and the reader learns
        the size it had. Raises ValueError on anything else.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(f"a frame ring takes uint8 (height, width, 3), not {pixels.dtype} {pixels.shape}")
        words = self._words
        number = int(words[_PUBLISHED]) + 1
        if self.lossless and number - int(words[_TAKEN]) > SLOTS:
            return False
        slot = number % SLOTS
        at = _SLOT_WORDS * (slot + 1)
        words[at + _STAMP] = 0
        self._fence()
        size = pixels.shape[0], pixels.shape[1]
        if size == (self.height, self.width):
            self._pixels[slot][...] = pixels
        else:
            cv2.resize(pixels, (self.width, self.height), dst=self._pixels[slot], interpolation=cv2.INTER_AREA)
        words[at + _CAPTURED] = captured_ns
        words[at + _SEQUENCE] = sequence
        words[at + _SIZE] = size[0] << 32 | size[1]
        self._fence()
        words[at + _STAMP] = number
        self._fence()
        words[_PUBLISHED] = number
        return True

    def note_alive(self, now_ns: int) -> None:
        """The writer says that it is not stuck inside a decoder or driver."""
        self._words[_ALIVE] = now_ns

    # -- the reader's end ----------------------------------------------------------------------------------------

    @property
    def alive_ns(self) -> int:
        """When the writer last said so, 0 before it first did."""
        return int(self._words[_ALIVE])

    @property
    def published(self) -> int:
        """How many pictures were ever written."""
        return int(self._words[_PUBLISHED])

    @property
    def unread(self) -> bool:
        """There is a picture that ``take`` has not returned yet."""
        return int(self._words[_PUBLISHED]) != self._next_seen()

    @property
    def last_sequence(self) -> int:
        """The sequence of the newest complete picture, -1 if there is none."""
        number = self.published
        return int(self._words[_SLOT_WORDS * (number % SLOTS + 1) + _SEQUENCE]) if number else -1

    def take(self) -> Picture | None:
        """A copy of the newest picture not taken before (lossless: of the oldest), or None. Never blocks."""
        words = self._words
        for _ in range(TAKE_ATTEMPTS):
            number = int(words[_PUBLISHED])
            seen = self._next_seen()
            if number == seen:
                return None
            if self.lossless:
                number = seen + 1
            at = _SLOT_WORDS * (number % SLOTS + 1)
            self._fence()
            if int(words[at + _STAMP]) != number:
                continue
            self._fence()
            captured_ns, sequence, size = (int(word) for word in words[at + _CAPTURED : at + _SIZE + 1])
            pixels = self._pixels[number % SLOTS].copy()
            self._fence()
            if int(words[at + _STAMP]) != number:
                continue  # overtaken while copying: the newest one is another by now
            self._seen = number
            if self.lossless:
                words[_TAKEN] = number
            return Picture(pixels, captured_ns, sequence, (size >> 32, size & 0xFFFFFFFF))
        return None

    def close(self) -> None:
        """Unmap. The ring must not be used afterwards; safe to call twice."""
        self._pixels = []
        self._words = np.zeros(PAGE // 8, np.int64)
        try:
            self._map.close()
        except BufferError:  # a view is still held somewhere: the map goes with it
            pass

    def _next_seen(self) -> int:
        return int(self._words[_TAKEN]) if self.lossless else self._seen

    def _fence(self) -> None:
        """Order memory before and after: Python has no fence, but a lock taken twice is one on every processor."""
        for _ in range(2):
            self._fence_lock.acquire()
            self._fence_lock.release()


def _slot_bytes(height: int, width: int) -> int:
    return -(-height * width * 3 // PAGE) * PAGE


def _file_size(height: int, width: int) -> int:
    return PAGE + SLOTS * _slot_bytes(height, width)
