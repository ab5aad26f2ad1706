"""How far a build is, from phases as TensorRT reports them: begun inside of each other, and ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.engines.tensorrt.phases import Phases


def test_a_phase_counts_as_the_step_of_the_one_that_it_is_in() -> None:
    phases = Phases()
    phases.begin("Building engine", None, 4)
    phases.begin("Optimizing", "Building engine", 10)
    assert phases.step("Optimizing", 5) == pytest.approx(0.5 / 4)
    phases.end("Optimizing")
    assert phases.step("Building engine", 1) == pytest.approx(1 / 4)
    phases.begin("Tactics", "Building engine", 2)
    phases.begin("Layer", "Tactics", 4)
    assert phases.step("Layer", 2) == pytest.approx((1 + 0.5 / 2) / 4)
    phases.end("Layer")
    assert phases.step("Tactics", 2) == pytest.approx(2 / 4)
    phases.end("Tactics")
    assert phases.step("Building engine", 4) == 1.0


def test_what_makes_no_sense_is_no_error() -> None:
    phases = Phases()
    assert phases.step("never begun", 3) == 0.0
    phases.begin("empty", None, 0)
    assert phases.step("empty", 1) == 0.0
    phases.begin("counted over", "unknown parent", 2)
    assert phases.step("counted over", 5) == 1.0
    phases.end("never begun")


names = st.sampled_from(["a", "b", "c"])
calls = st.one_of(
    st.tuples(st.just("begin"), names, st.sampled_from([None, "a", "b", "z"]), st.integers(0, 5)),
    st.tuples(st.just("step"), names, st.integers(0, 9)),
    st.tuples(st.just("end"), names),
)


@given(st.lists(calls, max_size=30))
def test_the_share_never_falls_and_stays_between_nothing_and_all(sequence: list[tuple[str, ...]]) -> None:
    phases, before = Phases(), 0.0
    for name, *arguments in sequence:
        share = getattr(phases, name)(*arguments)
        if share is not None:
            assert before <= share <= 1.0
            before = share
