"""What time is it on the device? The offset of its clock to the host's, from the exchange with the shortest round trip.

Each exchange bounds the offset: the device read its clock somewhere within the round trip, so the midpoint is wrong by
at most half of it (Mills, RFC 5905: theta and delta / 2). Two crystals drift apart, so a bound widens with age. The
estimate is the exchange whose bound is tightest now. An asymmetric path biases it, within the bound.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

DRIFT_PPM = 100
"""How far apart two uncalibrated crystals may run, with margin: 30 ppm each is usual."""
WINDOW = 64
_RESOLUTION_NS = 1_000


@dataclass(frozen=True, slots=True)
class _Exchange:
    offset_ns: int
    bound_ns: int
    at_ns: int

    def bound_at(self, now_ns: int) -> int:
        return self.bound_ns + abs(now_ns - self.at_ns) * DRIFT_PPM // 1_000_000


class ClockSync:
    """Host times are monotonic nanoseconds, device times microseconds. Not thread-safe."""

    def __init__(self) -> None:
        self._exchanges: deque[_Exchange] = deque(maxlen=WINDOW)
        self._best: _Exchange | None = None

    def add(self, sent_ns: int, device_rx_us: int, device_tx_us: int, received_ns: int) -> None:
        """One TIME_REQ and TIME_RSP: host, device, device, host. An impossible one (negative round trip) is ignored."""
        rx_ns, tx_ns = device_rx_us * 1_000, device_tx_us * 1_000
        delay = (received_ns - sent_ns) - (tx_ns - rx_ns)
        if delay <= -_RESOLUTION_NS or tx_ns < rx_ns:
            return
        delay = max(0, delay)
        offset = ((rx_ns - sent_ns) + (tx_ns - received_ns)) // 2
        self._exchanges.append(_Exchange(offset, delay // 2 + _RESOLUTION_NS, received_ns))
        # All bounds widen alike, so which is tightest changes only when one comes or goes, and not with every question.
        self._best = min(self._exchanges, key=lambda exchange: exchange.bound_at(received_ns))

    @property
    def ready(self) -> bool:
        return bool(self._exchanges)

    def error_bound_ns(self, now_ns: int) -> int:
        """The estimate is not further off than this. Raises ValueError before the first exchange."""
        return self._tightest().bound_at(now_ns)

    def to_device_us(self, host_ns: int) -> int:
        """Host time to device time modulo 2**32, rounded down."""
        return (host_ns + self._tightest().offset_ns) // 1_000 & 0xFFFFFFFF

    def to_host_ns(self, device_us: int, now_ns: int) -> int:
        """Device time modulo 2**32 to the host time nearest to now."""
        behind_us = (self.to_device_us(now_ns) - device_us + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        return now_ns - behind_us * 1_000

    def _tightest(self) -> _Exchange:
        if self._best is None:
            raise ValueError("the clocks have not been compared yet")
        return self._best
