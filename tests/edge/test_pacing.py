"""A beat that never drifts, whatever the machine does between two of its ticks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_MS, FakeClock
from edge.pacing import Pacer

PERIOD = 100 * NS_PER_MS


def test_an_overshooting_clock_makes_no_drift() -> None:
    clock = FakeClock(start_ns=7, overshoot_ns=3 * NS_PER_MS)
    pacer = Pacer(clock, PERIOD)
    pacer.wait()
    for beat in range(1, 1001):
        pacer.wait()
        assert clock.now_ns() == 7 + beat * PERIOD + 3 * NS_PER_MS
    assert pacer.overruns == 0


@pytest.mark.parametrize(
    ("work_ms", "overruns", "next_ms"),
    [(0, 0, 100), (99, 0, 100), (100, 0, 100), (101, 1, 200), (199, 1, 200), (250, 2, 300), (1001, 10, 1100)],
)
def test_missed_beats_are_counted_and_the_phase_is_kept(work_ms: int, overruns: int, next_ms: int) -> None:
    clock = FakeClock()
    pacer = Pacer(clock, PERIOD)
    pacer.wait()
    clock.advance_ns(work_ms * NS_PER_MS)
    pacer.wait()
    assert (pacer.overruns, clock.now_ns()) == (overruns, next_ms * NS_PER_MS)


@given(st.lists(st.integers(0, 5 * PERIOD), max_size=40))
def test_every_tick_is_on_a_beat_and_every_beat_is_a_tick_or_an_overrun(work: list[int]) -> None:
    clock = FakeClock()
    pacer = Pacer(clock, PERIOD)
    pacer.wait()
    for ns in work:
        clock.advance_ns(ns)
        pacer.wait()
        assert clock.now_ns() % PERIOD == 0
    assert clock.now_ns() // PERIOD == len(work) + pacer.overruns


def test_period_0_never_waits() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 0)
    for _ in range(10):
        pacer.wait()
    assert (clock.now_ns(), pacer.overruns) == (0, 0)


def test_a_negative_period_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 ns"):
        Pacer(FakeClock(), -1)
