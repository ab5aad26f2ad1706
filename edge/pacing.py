"""Keeping a beat: when the next tick is due, and what happened to those that were missed.

Phase rule: ticks are due at start + n * period for ever. A tick that overruns makes the loop skip the beats it covered,
each counted, and go on at the next one; a late tick never makes the following ones late, and never makes them hurry.
"""

from __future__ import annotations

from edge.cameras.camera import Camera
from edge.clock import NS_PER_MS, NS_PER_S, Clock

PICTURES = 5
BEHIND_NS = 5 * NS_PER_MS


def first_beat_ns(camera: Camera, clock: Clock, period_ns: int) -> int:
    """When to begin, so that every tick meets a fresh picture: shortly after one should have come, with room for a little
    jitter. Blocks until a few pictures have come; a camera that gives none decides nothing.

    A picture's age at the tick is part of every command's latency, and left to chance it is up to a camera period.
    """
    delays = []
    due_ns = clock.now_ns()
    for _ in range(PICTURES):
        camera.wait(1.0)
        frame = camera.latest(NS_PER_S)
        if frame is None:
            return clock.now_ns()
        delays.append(clock.now_ns() - frame.captured_ns)
        due_ns = frame.captured_ns + min(delays) + BEHIND_NS
    while due_ns < clock.now_ns() and period_ns:
        due_ns += period_ns
    return due_ns


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
