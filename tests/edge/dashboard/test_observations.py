"""What is remembered of the loop, and how it is put into messages."""

from __future__ import annotations

import math
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge.clock import NS_PER_MS, NS_PER_S, FakeClock
from edge.dashboard.observations import HISTORY_NS, MAX_EVENTS, MAX_SAMPLES, Observations
from edge.dashboard.state import describe, heat_of, more, surprise_of, timings
from edge.messages import Assessment, Event, Tick
from tests.edge.dashboard.synthetic_ticks import PERIOD_NS, RecordingOperator, ticks


def test_a_minute_is_kept_and_no_more() -> None:
    seen = Observations(FakeClock())
    for index in range(1000):
        seen.observe(Tick(index, index * PERIOD_NS))
    samples = seen.samples()
    assert samples[-1].at_ns - samples[0].at_ns == HISTORY_NS
    assert [s.number for s in samples] == list(range(1000 - len(samples) + 1, 1001))


def test_memory_is_bounded_however_fast_the_loop_and_however_many_events() -> None:
    seen = Observations(FakeClock())
    for index in range(MAX_SAMPLES + 100):
        seen.observe(Tick(index, index * 1000, events=(Event("alarm", "late", "", 0, 0.0),)))
    assert (len(seen.samples()), len(seen.events())) == (MAX_SAMPLES, MAX_EVENTS)
    assert seen.event(1) is None and seen.event(MAX_SAMPLES + 100) is not None


def test_history_does_not_change_when_the_loop_reuses_its_dictionary() -> None:
    seen = Observations(FakeClock())
    reused = {"encode": 5}
    seen.observe(Tick(0, 0, timings_ns=reused))
    reused["encode"] = 9
    assert seen.samples()[0].timings_ns == {"encode": 5}


def test_age_is_counted_from_the_hand_over() -> None:
    clock = FakeClock(start_ns=100)
    seen = Observations(clock)
    assert seen.age_ns() is None
    seen.observe(Tick(0, 50))
    clock.advance_ns(7)
    assert seen.age_ns() == 7


def test_reading_while_the_loop_writes() -> None:
    seen = Observations(FakeClock())
    done = threading.Event()
    broken: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                numbers = [s.number for s in seen.samples()]
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
                timings(seen.samples())
        except (AssertionError, RuntimeError, IndexError, ValueError) as error:
            broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(20_000):
        seen.observe(Tick(index, index * NS_PER_MS * 20, timings_ns={"encode": index}))
    done.set()
    reader.join()
    assert broken == []


def test_percentiles_and_rate() -> None:
    seen = Observations(FakeClock())
    for index in range(101):
        stages = {"encode": index * NS_PER_MS} | ({"plan": NS_PER_MS} if index < 50 else {})
        seen.observe(Tick(index, index * PERIOD_NS, timings_ns=stages, total_ns=2 * NS_PER_MS))
    result = timings(seen.samples())
    encode, plan = result.stages
    assert (encode.name, encode.last, encode.p50, encode.p99, encode.max) == ("encode", 100.0, 50.0, 99.0, 100.0)
    assert (plan.name, plan.last, plan.p50) == ("plan", None, 1.0)
    assert result.rate_hz == pytest.approx(10.0)
    assert result.latency is None


@pytest.mark.parametrize(
    ("p_value", "surprise"),
    [(1.0, 0.0), (0.01, 2.0), (0.0, 12.0), (-1.0, 12.0), (2.0, 0.0), (math.nan, None), (None, None)],
)
def test_surprise_is_bounded(p_value: float | None, surprise: float | None) -> None:
    assert surprise_of(p_value) == (None if surprise is None else pytest.approx(surprise))


@given(npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(width=32)))
def test_any_heat_fits_its_bytes(heat: np.ndarray) -> None:
    sent = heat_of(heat)
    cells = np.frombuffer(sent.cells, np.uint8).reshape(sent.rows, sent.columns)
    usual = np.isfinite(heat) & (heat >= 0) & (heat <= 2.5)
    assert np.all(np.abs(cells[usual] / 100 - heat[usual]) <= 0.0051)
    assert np.all(cells[np.isnan(heat) | (heat < 0)] == 0)


def test_numbers_that_are_none_become_null_and_the_message_stays_valid_json() -> None:
    clock = FakeClock()
    seen = Observations(clock)
    broken = Assessment(math.nan, math.inf, math.nan, 0.01, False, False, "", None)
    seen.observe(Tick(0, 0, assessment=broken))
    newest = seen.newest()
    assert newest is not None
    state = msgspec.json.decode(msgspec.json.encode(describe(newest, 0, timings(seen.samples()), None, 0)))
    assert state["surprise"]["error"] is None and state["type"] == "state"
    points = msgspec.json.decode(msgspec.json.encode(more(seen.samples(), [])))
    assert points["surprise"] == [None] and points["unfamiliarity"] == [None]


def test_a_full_tick_is_described_completely() -> None:
    clock = FakeClock()
    seen = Observations(clock)
    operator = RecordingOperator()
    operator.arm()
    stream = ticks(operator, 10 * NS_PER_S)
    for _ in range(5):
        seen.observe(next(stream))
    newest = seen.newest()
    assert newest is not None
    clock.advance_ns(newest.tick.started_ns)
    state = describe(newest, clock.now_ns(), timings(seen.samples()), 100.0, 3)
    assert None not in (state.picture, state.heat, state.surprise, state.goal, state.plan, state.command, state.motors)
    assert state.picture is not None and state.picture.age_ms == pytest.approx(31.0)
    assert state.plan is not None and np.shape(state.plan.actions) == (12, 2)
    assert [s.name for s in state.stages] == ["camera", "encode", "belief", "surprise", "plan", "safety", "send"]
