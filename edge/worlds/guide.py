"""The person in the simulated world who shows the rover pictures of where to go, and knows whether it got there."""

from __future__ import annotations

import json
import math
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np

from edge.goals import GoalError, GoalPicture


class ArenaGuide:
    """Goals over the ``goals`` socket of :mod:`edge.worlds.arena_world`; the true pose confirms those reached."""

    def __init__(self, path: Path) -> None:
        """Raises GoalError if no world answers at ``path``."""
        self._path = path
        self._lock = threading.Lock()
        self._confirmed = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(5.0)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise GoalError(f"no simulated world answers at {path} ({error.strerror}): start 'latentloop world' first") from None
        self._stream = self._socket.makefile("rb")

    @property
    def confirmed(self) -> int | None:
        """See :class:`edge.goals.GoalSource`."""
        return self._confirmed

    def next(self) -> GoalPicture | None:
        """See :class:`edge.goals.GoalSource`."""
        with self._lock:
            answer = self._ask(b"next")
            shape = tuple(answer["shape"])
            data = self._stream.read(math.prod(shape))
        if len(data) != math.prod(shape):
            raise GoalError(f"the simulated world at {self._path} ended while it showed a goal: start it again")
        return GoalPicture(str(answer["name"]), np.frombuffer(data, dtype=np.uint8).reshape(shape))

    def ended(self, name: str, reached: bool) -> None:
        """See :class:`edge.goals.GoalSource`."""
        with self._lock:
            self._confirmed += bool(self._ask(b"where")["arrived"]) and reached

    def motors(self) -> dict[str, Any]:
        """What the motor driver hears; for measurements."""
        with self._lock:
            return self._ask(b"motors")

    def close(self) -> None:
        """See :class:`edge.goals.GoalSource`."""
        self._socket.close()

    def _ask(self, question: bytes) -> dict[str, Any]:
        try:
            self._socket.sendall(question + b"\n")
            line = self._stream.readline()
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError):
            raise GoalError(f"the simulated world at {self._path} does not answer: start it again") from None
        return answer
