"""Pictures from a simulated world: another process made the ring and writes it."""

from __future__ import annotations

import os

from edge.cameras.camera import CameraError
from edge.cameras.frame_ring import FrameRing


class WorldFeed:
    """Attaches to the ring at a path, and again when a restarted world has put a new ring there."""

    lossless = False
    ended = False
    failed = False

    def __init__(self, path: str) -> None:
        self.restarts = 0
        self.detail = ""
        self._path = path
        self._ring: FrameRing | None = None
        self._inode = -1

    def start(self) -> None:
        """Raises CameraError if there is no ring."""
        self._attach()

    @property
    def ring(self) -> FrameRing | None:
        try:
            moved = os.stat(self._path).st_ino != self._inode
        except OSError:
            moved = False  # the world is gone; what it wrote last can still be read
        if moved and self._ring is not None:
            try:
                self._attach()
                self.restarts += 1
            except CameraError as error:
                self.detail = str(error)
        return self._ring

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()

    def _attach(self) -> None:
        ring = FrameRing.attach(self._path)
        self.close()
        self._ring = ring
        self._inode = os.stat(self._path).st_ino
