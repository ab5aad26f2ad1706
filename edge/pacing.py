"""Keeping a beat: when the next tick is due, and what happened to those that were missed.

Phase rule: ticks are due at start + n * period for ever. A tick that overruns makes the loop skip the beats it covered,
each counted, and go on at the next one; a late tick never makes the following ones late, and never makes them hurry.
"""

from __future__ import annotations

from edge.clock import Clock


class Pacer:
    """One loop's beat. period_ns: 0 means as fast as it goes."""

    def __init__(self, clock: Clock, period_ns: int) -> None:
        if period_ns < 0:
            raise ValueError(f"a period cannot be {period_ns} ns")
        self._clock = clock
        self._period_ns = period_ns
        self._due_ns: int | None = None
        self.overruns = 0
        """Beats missed so far."""

    def wait(self) -> None:
        """Block until the next beat; the first call sets the beat and returns at once."""
        now = self._clock.now_ns()
        if self._period_ns == 0:
            return
        if self._due_ns is None:
            self._due_ns = now
            return
        self._due_ns += self._period_ns
        if now > self._due_ns:
            missed = (now - self._due_ns) // self._period_ns + 1
            self.overruns += missed
            self._due_ns += missed * self._period_ns
        self._clock.sleep_until_ns(self._due_ns)
