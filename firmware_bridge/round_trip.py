"""How long to wait for an answer before asking again, from the round trips measured so far (RFC 6298)."""

from __future__ import annotations

SHORTEST_NS, LONGEST_NS = 25_000_000, 400_000_000
UNMEASURED_NS = 100_000_000
_GRANULARITY_NS = 1_000_000


class RoundTrip:
    """Not thread-safe. Times in ns."""

    def __init__(self) -> None:
        self._smoothed_ns: float | None = None
        self._variation_ns = 0.0
        self._timeout_ns = UNMEASURED_NS

    @property
    def timeout_ns(self) -> int:
        """After so long without an answer, ask again; 25 to 400 ms."""
        return self._timeout_ns

    def measured(self, took_ns: int) -> None:
        """One exchange that was asked once and answered; an answer to a repeated question must not be given here, because
        nobody knows which of the questions it answers (Karn's rule)."""
        if self._smoothed_ns is None:
            self._smoothed_ns, self._variation_ns = took_ns, took_ns / 2
        else:
            self._variation_ns += (abs(self._smoothed_ns - took_ns) - self._variation_ns) / 4
            self._smoothed_ns += (took_ns - self._smoothed_ns) / 8
        wanted = round(self._smoothed_ns + max(_GRANULARITY_NS, 4 * self._variation_ns))
        self._timeout_ns = min(LONGEST_NS, max(SHORTEST_NS, wanted))

    def expired(self) -> None:
        """A question went unanswered for that long: wait twice as long, until a round trip is measured again. Without this, a
        line that has become slower would have every question repeated and none measured."""
        self._timeout_ns = min(LONGEST_NS, 2 * self._timeout_ns)
