"""Lines of a build, written by the child and read by the runtime."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import load
from edge.engines.tensorrt.library import Machine
from edge.engines.tensorrt.making import candidates
from edge.engines.tensorrt.telling import BUILDING, Plan, Step, read

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)


def test_what_is_written_of_every_plan_is_read_again() -> None:
    found = list(candidates(load("camera"), Machine("10.3.0", "Orin", "8.7"), dla=0))
    assert {each.recipe.name for each in found} == {"int8", "int8-fp16", "int8-fp16-dla0"}
    for each in found:
        for outcome in (BUILDING, "refused, TensorRT 10.3.0: the plan cannot be loaded (a: b)"):
            plan = Plan(f"{each.part} as {each.recipe.name}", outcome)
            assert read(str(plan)) == plan


@given(PRINTABLE.filter(lambda text: text.strip() == text), st.integers(0, 100))
def test_steps_are_read_again(phase: str, percent: int) -> None:
    assert read(str(Step(phase, percent / 100))) == Step(phase, percent / 100)


@pytest.mark.parametrize("line", ["", "latentloop: there is no NVIDIA GPU on this machine", "  Tactics", "Traceback: x"])
def test_other_lines_are_other_lines(line: str) -> None:
    assert read(line) is None


@given(st.text())
def test_nothing_that_a_child_prints_is_an_error(line: str) -> None:
    told = read(line)
    assert not isinstance(told, Step) or 0.0 <= told.share <= 1.0
