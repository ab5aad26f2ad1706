"""What time is it on the device? A line through the exchanges, and the band in which causality keeps the truth.

The device's clock minus the host's is ``offset``; it changes slowly, because two crystals differ by some ppm. Each exchange
says two things for certain: the device read its clock after the question was sent, so ``offset <= rx - sent``; and before the
answer came, so ``offset >= tx - received``. The tightest of each kind so far, widened by ``DRIFT_PPM`` of their age, are the
band.

The estimate inside of it is a straight line, fitted by least squares with exponential forgetting to ``rx - sent`` over the
time sent, minus half of the shortest round trip (Klipper's clocksync rests on the same two quantities). Only the way *to* the
device enters the line: on USB the way back waits for the host's polling and for an FTDI chip's latency timer, and so says
little. The shortest round trip ages, because a line may become slower for good. An asymmetric path biases the estimate within
the band; no filter can know that.
"""

from __future__ import annotations

DRIFT_PPM = 100
"""How far apart two uncalibrated crystals may run, with margin: 30 ppm each is usual."""
MEMORY = 30
"""Exchanges that the line remembers."""
RTT_AGEING = 100e3 / 3600e9
"""The shortest round trip counts as 100 us longer for every hour of its age."""
LATE_NS = 500_000
LATE_SIGMAS = 5.0
"""A question that took longer than both of these beyond the line was held up, and does not move it."""
LATE_FOR_NS = 10_000_000_000
"""After so long of nothing but late ones it is the line that is wrong."""
_RESOLUTION_NS = 1_000


class ClockSync:
    """Host times are monotonic nanoseconds, device times microseconds. Not thread-safe."""

    def __init__(self) -> None:
        self.ready = False
        self._upper_ns = self._lower_ns = 0  # the band of the offset, each as of its own time
        self._upper_at_ns = self._lower_at_ns = 0
        self._shortest_ns = self._shortest_at_ns = 0
        self._origin_ns = self._origin_offset_ns = 0  # the line's coordinates, so that floats are exact enough
        self._count = 0
        self._x = self._y = self._xx = self._xy = self._scatter = self._slope = 0.0
        self._in_line_ns = 0

    def add(self, sent_ns: int, device_rx_us: int, device_tx_us: int, received_ns: int) -> None:
        """One TIME_REQ and TIME_RSP: host, device, device, host. An impossible one (negative round trip) is ignored."""
        rx_ns, tx_ns = device_rx_us * 1_000, device_tx_us * 1_000
        round_trip_ns = (received_ns - sent_ns) - (tx_ns - rx_ns)
        if round_trip_ns <= -_RESOLUTION_NS or tx_ns < rx_ns:
            return
        round_trip_ns = max(0, round_trip_ns)
        upper_ns, lower_ns = rx_ns + _RESOLUTION_NS - sent_ns, tx_ns - received_ns
        if self.ready and (self._offset(received_ns)[0] > upper_ns or self._offset(sent_ns)[2] < lower_ns):
            self.__init__()  # type: ignore[misc]  # the device's clock has jumped: nothing of before counts
        if not self.ready or upper_ns <= self._offset(sent_ns)[2]:
            self._upper_ns, self._upper_at_ns = upper_ns, sent_ns
        if not self.ready or lower_ns >= self._offset(received_ns)[0]:
            self._lower_ns, self._lower_at_ns = lower_ns, received_ns
        aged_ns = self._shortest_ns + (received_ns - self._shortest_at_ns) * RTT_AGEING
        if not self.ready or round_trip_ns <= aged_ns:
            self._shortest_ns, self._shortest_at_ns = round_trip_ns, received_ns
        if not self.ready:
            self._origin_ns, self._origin_offset_ns, self._in_line_ns = sent_ns, upper_ns, sent_ns
            self.ready = True
        self._fit(sent_ns, upper_ns)

    def error_bound_ns(self, now_ns: int) -> int:
        """The estimate is not further off than this. Raises ValueError before the first exchange."""
        lower_ns, offset_ns, upper_ns = self._offset(now_ns)
        return max(upper_ns - offset_ns, offset_ns - lower_ns) + _RESOLUTION_NS

    def to_device_us(self, host_ns: int) -> int:
        """Host time to device time modulo 2**32, rounded down."""
        return (host_ns + self._offset(host_ns)[1]) // 1_000 & 0xFFFFFFFF

    def to_host_ns(self, device_us: int, now_ns: int) -> int:
        """Device time modulo 2**32 to the host time nearest to now."""
        behind_us = (self.to_device_us(now_ns) - device_us + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        return now_ns - behind_us * 1_000

    def _offset(self, at_ns: int) -> tuple[int, int, int]:
        """The band's lower edge, the estimate, and the upper edge."""
        if not self.ready:
            raise ValueError("the clocks have not been compared yet")
        lower_ns = self._lower_ns - abs(at_ns - self._lower_at_ns) * DRIFT_PPM // 1_000_000
        upper_ns = self._upper_ns + abs(at_ns - self._upper_at_ns) * DRIFT_PPM // 1_000_000
        along = self._y + self._slope * (at_ns - self._origin_ns - self._x)
        offset_ns = self._origin_offset_ns + round(along) - self._shortest_ns // 2
        return lower_ns, max(lower_ns, min(upper_ns, offset_ns)), upper_ns

    def _fit(self, sent_ns: int, offset_ns: int) -> None:
        x, y = float(sent_ns - self._origin_ns), float(offset_ns - self._origin_offset_ns)
        off = y - (self._y + self._slope * (x - self._x))
        if off > LATE_NS and off * off > LATE_SIGMAS**2 * self._scatter and self._count:
            if sent_ns - self._in_line_ns < LATE_FOR_NS:
                return
            self._count = 0
        self._in_line_ns = sent_ns
        if self._count == 0:
            self._x, self._y, self._xx, self._xy, self._scatter = x, y, 0.0, 0.0, 0.0
            off = 0.0
        self._count += 1
        weight = max(1.0 / self._count, 1.0 / MEMORY)
        dx, dy = x - self._x, y - self._y
        self._x += weight * dx
        self._y += weight * dy
        self._xx = (1.0 - weight) * (self._xx + weight * dx * dx)
        self._xy = (1.0 - weight) * (self._xy + weight * dx * dy)
        self._scatter = (1.0 - weight) * (self._scatter + weight * off * off)
        steepest = DRIFT_PPM * 1e-6
        self._slope = max(-steepest, min(steepest, self._xy / self._xx)) if self._xx > 0.0 else 0.0
