"""A beat that never drifts, whatever the machine does between two of its ticks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.camera import CameraStatus
from edge.clock import NS_PER_MS, FakeClock
from edge.messages import Frame
from edge.pacing import Pacer, first_beat_ns

PERIOD = 100 * NS_PER_MS


class SteadyCamera:
    """Catches a picture every 30 ms, the first at 10 ms; picture k comes delays[k] ms later, and after those none."""

    fingerprint = "steady"

    def __init__(self, clock: FakeClock, delays: list[int]) -> None:
        self._clock = clock
        self._pictures = [((10 + 30 * k) * NS_PER_MS, delay * NS_PER_MS) for k, delay in enumerate(delays)]

    def start(self) -> None: ...

    def wait(self, timeout_s: float) -> None:
        if self._pictures:
            caught, delay = self._pictures[0]
            self._clock.advance_ns(max(0, caught + delay - self._clock.now_ns()))

    def latest(self, max_age_ns: int) -> Frame | None:
        if not self._pictures:
            return None
        caught, _ = self._pictures.pop(0)
        return Frame(np.zeros((2, 2, 3), dtype=np.uint8), caught, 0)

    def status(self) -> CameraStatus:
        return CameraStatus()

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("delays", "begins_ms"),
    [
        pytest.param([8, 8, 8, 8, 8], 130 + 8 + 5, id="just after the fifth"),
        pytest.param([8, 9, 8, 10, 12], 130 + 8 + 5, id="jitter: as if it had been punctual"),
        pytest.param([8, 8, 8, 8, 25], 130 + 8 + 5 + 100, id="the fifth was too late for that: one period on"),
        pytest.param([60, 8, 8, 8, 8], 130 + 8 + 5, id="the first had waited"),
        pytest.param([8, 8], 40 + 8, id="a camera that stops decides nothing"),
        pytest.param([], 0, id="nor one that gives nothing"),
    ],
)
def test_the_beat_begins_just_behind_the_pictures(delays: list[int], begins_ms: int) -> None:
    clock = FakeClock()
    assert first_beat_ns(SteadyCamera(clock, delays), clock, PERIOD) == begins_ms * NS_PER_MS


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
