"""The last heartbeat of the parent, in eight bytes of shared memory: written without a system call, read without a copy.

A datagram for each would wake the child twice per turn of the loop, and cost the loop a second system call. Both values are in
one aligned 64-bit word, which the machines that this runs on write as a whole, so that a deadline is never seen with the flag of
another.
"""

from __future__ import annotations

import mmap
import os
import weakref


class HeartbeatWord:
    """One writer, any number of readers. descriptor: of the memory, for the child; None makes a new one that says "never"."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("latentloop-heartbeat") if descriptor is None else descriptor
        weakref.finalize(self, os.close, self.descriptor)
        if descriptor is None:
            os.truncate(self.descriptor, mmap.PAGESIZE)
        self._map = mmap.mmap(self.descriptor, mmap.PAGESIZE)
        self._word = memoryview(self._map).cast("Q")

    def write(self, alive_until_ns: int, engaged: bool) -> None:
        """See MotorController.heartbeat."""
        self._word[0] = max(0, alive_until_ns) << 1 | engaged

    def read(self) -> tuple[int, bool]:
        """alive_until_ns and engaged."""
        word = self._word[0]
        return word >> 1, bool(word & 1)
