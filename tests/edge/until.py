"""Waiting for another thread, with a deadline that only guards against hanging."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HANGS_S = 120.0


def until(asked: Callable[[], T | None]) -> T:
    """Ask again until the answer is neither None nor False; returns it."""
    deadline = time.monotonic() + HANGS_S
    while not (answer := asked()):
        assert time.monotonic() < deadline, "another thread did not get there"
        time.sleep(0.001)
    return answer
