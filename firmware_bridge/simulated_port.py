"""A simulated device says that it is one, to whoever opens its pseudo-terminal, for as long as it lives.

Its protocol has no word for that, and a pseudo-terminal alone proves nothing: a real device may be at its far end, through a
network. So whoever simulates holds a socket that is named after the pseudo-terminal. It goes when the process does.
"""

from __future__ import annotations

import os
import socket


class Announcement:
    """From now until ``close``. port: path of the pseudo-terminal."""

    def __init__(self, port: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(_name(port))

    def close(self) -> None:
        self._socket.close()


def is_announced(port: str) -> bool:
    """Does somebody simulate what is at the other end? port: a path; False for what is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as question:
        try:
            question.connect(_name(port))
        except OSError:
            return False
    return True


def _name(port: str) -> bytes:
    """Abstract, hence no file. The numbers tell this pseudo-terminal from those of other containers. Raises OSError."""
    seen = os.stat(port)
    return f"\0latentloop-simulated-{seen.st_dev:x}-{seen.st_ino:x}".encode()
