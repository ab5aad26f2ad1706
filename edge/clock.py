"""Time as an argument: one monotonic clock for the whole runtime, and a fake one for tests.

All times are integer nanoseconds of the monotonic clock, so that they compare across processes of one
machine. Wall-clock time is only ever a label.
"""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """What the loop needs from time."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds; never goes backwards."""

    def sleep_until_ns(self, when_ns: int) -> None:
        """Block until ``now_ns() >= when_ns``; returns at once if that is past."""


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, when_ns: int) -> None:
        remaining = when_ns - time.monotonic_ns()
        while remaining > 0:
            time.sleep(remaining / NS_PER_S)
            remaining = when_ns - time.monotonic_ns()


class FakeClock:
    """A clock that moves only when told to, so that timing behaviour is tested without sleeping.

    ``overshoot_ns`` makes every sleep return late by that much, as a busy machine does.
    """

    def __init__(self, start_ns: int = 0, overshoot_ns: int = 0) -> None:
        self._now_ns = start_ns
        self.overshoot_ns = overshoot_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance_ns(self, by_ns: int) -> None:
        if by_ns < 0:
            raise ValueError(f"a monotonic clock cannot move by {by_ns} ns")
        self._now_ns += by_ns

    def sleep_until_ns(self, when_ns: int) -> None:
        if when_ns > self._now_ns:
            self._now_ns = when_ns + self.overshoot_ns
