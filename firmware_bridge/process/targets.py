"""Targets on their way to the child: records of one length in a pipe, of which one read takes all and only the newest counts.

A pipe costs half of what a datagram does, on both sides, and this is what they say to each other at every turn of the loop.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import struct
import weakref
from collections.abc import Sequence

_PAGES = 4
"""Of room: six axes at 200 Hz fill it in a second, eight in 0.8 s, if nobody reads."""


class TargetPipe:
    """Written by any number of threads of the parent, read by its child. axes: how many. descriptor: of the end to read from,
    for the child; None makes a new pipe."""

    def __init__(self, axes: int, descriptor: int | None = None) -> None:
        self._form = struct.Struct(f"<2q{axes}d")
        if descriptor is None:
            descriptor, self._inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._inlet)
            fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, _PAGES * mmap.PAGESIZE)
        weakref.finalize(self, os.close, descriptor)
        self.descriptor = descriptor
        self._read = bytearray(fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ))

    def write(self, targets: Sequence[float], valid_until_ns: int, order: int) -> bool:
        """See MotorController.send. order: as that of a plan. False if there was no room; never waits."""
        try:
            os.write(self._inlet, self._form.pack(order, valid_until_ns, *targets))  # as a whole or not, below PIPE_BUF
        except BlockingIOError:
            return False
        return True

    @property
    def full(self) -> bool:
        """Whether the child has not read for so long."""
        room = select.poll()
        room.register(self._inlet, select.POLLOUT)
        return not room.poll(0)

    def newest(self) -> tuple[list[float], int, int]:
        """Targets, valid_until_ns and order; all that was there is read. Raises BlockingIOError if there was nothing, and EOFError
        when the parent is gone."""
        length = os.readv(self.descriptor, [self._read])
        if not length:
            raise EOFError("nobody writes any more")
        order, valid_until_ns, *targets = self._form.unpack_from(self._read, length - self._form.size)
        return targets, valid_until_ns, order
