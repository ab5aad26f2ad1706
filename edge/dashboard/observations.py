"""What the dashboard remembers of the loop: the newest tick, a minute of numbers, the last events.

Written by the loop's thread, read by the dashboard's. The writer takes no lock and keeps references only, so
watching costs the loop a few microseconds however many people watch.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeVar

from edge.clock import NS_PER_S, Clock
from edge.messages import Event, Tick

HISTORY_NS = 60 * NS_PER_S
MAX_SAMPLES = 4096
MAX_EVENTS = 200

_T = TypeVar("_T")


class Sample(NamedTuple):
    """One tick's numbers. Times in ns; nan-free: a missing number is None."""

    number: int
    at_ns: int
    p_value: float | None
    alarm_p: float | None
    error: float | None
    unfamiliarity: float | None
    alarmed: bool
    total_ns: int
    engine_ns: int
    capture_to_command_ns: int | None
    timings_ns: dict[str, int]


class Seen(NamedTuple):
    """An event with its place in the order of all events since the start."""

    number: int
    event: Event


class Newest(NamedTuple):
    """The newest tick and when it was handed over, in ns of the dashboard's clock."""

    number: int
    tick: Tick
    observed_ns: int


class Observations:
    """Bounded by time (one minute) and by count; the oldest goes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self._events: deque[Seen] = deque(maxlen=MAX_EVENTS)
        self._newest: Newest | None = None
        self._ticks = 0
        self._event_count = 0

    def observe(self, tick: Tick) -> None:
        """Remember a finished tick. Called by one thread only, the loop's; never blocks."""
        number = self._ticks = self._ticks + 1
        seen = tick.assessment
        samples = self._samples
        samples.append(
            Sample(
                number,
                tick.started_ns,
                None if seen is None else seen.p_value,
                None if seen is None else seen.alarm_p,
                None if seen is None else seen.error,
                None if seen is None else seen.unfamiliarity,
                seen is not None and seen.alarmed,
                tick.total_ns,
                tick.engine_ns,
                tick.capture_to_command_ns,
                dict(tick.timings_ns),
            )
        )
        horizon = tick.started_ns - HISTORY_NS
        while samples[0].at_ns < horizon:
            samples.popleft()
        for event in tick.events:
            self._event_count += 1
            self._events.append(Seen(self._event_count, event))
        self._newest = Newest(number, tick, self._clock.now_ns())

    def newest(self) -> Newest | None:
        """The newest tick, or None before the first."""
        return self._newest

    def age_ns(self) -> int | None:
        """Time since the loop last handed over a tick, or None if it never did."""
        newest = self._newest
        return None if newest is None else max(0, self._clock.now_ns() - newest.observed_ns)

    def samples(self) -> list[Sample]:
        """The last minute, oldest first."""
        return _copy(self._samples)

    def events(self) -> list[Seen]:
        """The last events, oldest first."""
        return _copy(self._events)

    def event(self, number: int) -> Event | None:
        """The event with that number, or None if it is gone or never was."""
        return next((seen.event for seen in self.events() if seen.number == number), None)

    @property
    def ticks(self) -> int:
        """Ticks observed since the start."""
        return self._ticks


def _copy(items: deque[_T]) -> list[_T]:
    # The writer appends without a lock; a copy that it interrupts raises, and the next try succeeds.
    while True:
        try:
            return list(items)
        except RuntimeError:
            continue
