"""The error bound of the clock estimate holds for every path that obeys causality."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.clock_sync import DRIFT_PPM, ClockSync

MS = 1_000_000


def device_ns(host_ns: int, offset_ns: int, ppm: float) -> int:
    return host_ns + offset_ns + int(host_ns * ppm / 1e6)


@given(
    offset_ns=st.integers(0, 2**62),
    ppm=st.floats(-DRIFT_PPM / 2, DRIFT_PPM / 2),
    paths=st.lists(
        st.tuples(st.integers(0, 30 * MS), st.integers(0, 30 * MS), st.integers(0, 5 * MS), st.integers(1, 3000 * MS)),
        min_size=1,
        max_size=80,
    ),
    later=st.integers(0, 60_000 * MS),
)
def test_the_bound_holds(offset_ns: int, ppm: float, paths: list[tuple[int, int, int, int]], later: int) -> None:
    """paths: there, back, inside the device, and the pause before the exchange, ns."""
    sync, now = ClockSync(), 0
    for there, back, inside, pause in paths:
        sent = now + pause
        rx, tx = sent + there, sent + there + inside
        now = tx + back
        sync.add(sent, device_ns(rx, offset_ns, ppm) // 1000, device_ns(tx, offset_ns, ppm) // 1000, now)
    assert sync.ready
    now += later
    truth_us = device_ns(now, offset_ns, ppm) // 1000
    error_us = (sync.to_device_us(now) - truth_us + 2**31) % 2**32 - 2**31
    assert abs(error_us) * 1000 <= sync.error_bound_ns(now) + 2000  # rounding to whole microseconds, twice


def test_the_shortest_round_trip_wins_until_it_is_old() -> None:
    sync = ClockSync()
    sync.add(0, 1_000, 1_000, 100_000)  # 0.1 ms: bound 50 us
    for turn in range(1, 4):
        sync.add(turn * 1000 * MS, 1_000_000 * turn + 9_000, 1_000_000 * turn + 9_000, turn * 1000 * MS + 10 * MS)
    assert sync.error_bound_ns(0) == 51_000 + 10
    assert sync.error_bound_ns(1000 * MS) == 51_000 + 99_990
    sync.add(20_000 * MS, 20_000_500, 20_000_500, 20_001 * MS)  # 1 ms: bound 500 us, tighter than one aged by 20 s
    assert sync.error_bound_ns(20_001 * MS) == 501_000


@pytest.mark.parametrize("exchange", [(10_000, 0, 0, 9_000), (0, 5, 4, 10_000), (0, 0, 9, 8_000)])
def test_impossible_exchanges_are_ignored(exchange: tuple[int, int, int, int]) -> None:
    sync = ClockSync()
    sync.add(*exchange)
    assert not sync.ready


@given(at=st.integers(0, 2**64), behind_us=st.integers(-(2**30), 2**30))
def test_device_time_comes_back_across_the_wrap(at: int, behind_us: int) -> None:
    sync = ClockSync()
    sync.add(0, 2**32 - 7, 2**32 - 7, 2_000)
    host = at + behind_us * 1000
    back = sync.to_host_ns(sync.to_device_us(host), at)
    assert abs(back - host) <= 2_000
