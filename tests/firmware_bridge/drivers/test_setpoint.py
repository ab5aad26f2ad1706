"""The limits of one axis hold for every target at every moment, whatever the turns of the loop look like."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.controller import Axis, AxisMode
from firmware_bridge.drivers.setpoint import LONGEST_STEP_S, Setpoint

ARM = Axis("joint", AxisMode.POSITION, "rad", -1.0, 1.5, 2.0, 8.0)
WHEEL = Axis("wheel", AxisMode.VELOCITY, "rad/s", -5.0, 5.0, 5.0, 20.0)
MODES = (AxisMode.POSITION, AxisMode.VELOCITY)
targets = st.one_of(st.none(), st.floats(-1e6, 1e6), st.floats(-3, 3), st.sampled_from([0.0, 1.5, -1.0]))
steps = st.lists(st.tuples(targets, st.floats(0.0, 0.5)), max_size=60)


@pytest.mark.parametrize("asked", MODES)
@given(start=st.floats(-1.0, 1.5), steps=steps)
def test_an_arm_keeps_its_range_speed_and_acceleration(
    asked: AxisMode, start: float, steps: list[tuple[float | None, float]]
) -> None:
    setpoint = Setpoint(ARM, asked)
    setpoint.start(start)
    for target, elapsed_s in steps:
        at, speed = setpoint.value, setpoint.speed
        setpoint.advance(target, elapsed_s)
        step_s = min(elapsed_s, LONGEST_STEP_S)
        assert ARM.low <= setpoint.value <= ARM.high
        assert abs(setpoint.value - at) <= ARM.max_speed * step_s + 1e-9
        at_the_end = setpoint.value in (ARM.low, ARM.high)
        assert at_the_end or abs(setpoint.speed - speed) <= ARM.max_acceleration * step_s + 1e-9


@given(steps=steps)
def test_a_wheel_keeps_its_speed_and_acceleration(steps: list[tuple[float | None, float]]) -> None:
    setpoint = Setpoint(WHEEL, AxisMode.VELOCITY)
    for target, elapsed_s in steps:
        before = setpoint.value
        setpoint.advance(target, elapsed_s)
        assert abs(setpoint.value) <= WHEEL.max_speed
        assert abs(setpoint.value - before) <= WHEEL.max_acceleration * min(elapsed_s, LONGEST_STEP_S) + 1e-9


@given(start=st.floats(-4.0, 4.0), steps=steps)
def test_an_arm_outside_of_its_range_never_goes_further_out(start: float, steps: list[tuple[float | None, float]]) -> None:
    setpoint = Setpoint(ARM, AxisMode.VELOCITY)
    setpoint.start(start)
    for target, elapsed_s in steps:
        before = setpoint.value
        setpoint.advance(target, elapsed_s)
        assert min(ARM.low, before) <= setpoint.value <= max(ARM.high, before)


@pytest.mark.parametrize("step_s", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("target", [1.5, -1.0, 0.3, 99.0])
def test_an_arm_arrives_without_overshooting_by_more_than_a_braking_step(target: float, step_s: float) -> None:
    setpoint = Setpoint(ARM, AxisMode.POSITION)
    reached = max(ARM.low, min(ARM.high, target))
    furthest = 0.0
    for _ in range(round(3 / step_s)):
        furthest = max(furthest, abs(setpoint.advance(target, step_s)))
    assert setpoint.value == pytest.approx(reached, abs=1e-3)
    assert furthest <= abs(reached) + ARM.max_acceleration * step_s * step_s / 2 + 1e-3


@pytest.mark.parametrize("step_s", [0.005, 0.02, 0.1])
def test_a_velocity_moves_an_arm_just_so_far_and_holds_when_it_ends(step_s: float) -> None:
    setpoint = Setpoint(ARM, AxisMode.VELOCITY)
    for _ in range(round(0.5 / step_s)):
        setpoint.advance(1.0, step_s)
    assert setpoint.value == pytest.approx(0.5, abs=0.1)
    for _ in range(round(0.5 / step_s)):
        setpoint.advance(None, step_s)
    held = setpoint.value
    assert setpoint.speed == 0.0 and setpoint.advance(None, step_s) == held
    for _ in range(round(5 / step_s)):
        setpoint.advance(1.0, step_s)
    assert setpoint.value == pytest.approx(ARM.high, abs=0.01)  # it ends at the end of the range


def test_a_pause_is_not_made_up_for_by_a_jump() -> None:
    setpoint = Setpoint(ARM, AxisMode.VELOCITY)
    setpoint.speed = 2.0
    setpoint.start(0.0)
    assert setpoint.advance(2.0, 60.0) <= ARM.max_acceleration * LONGEST_STEP_S * LONGEST_STEP_S
    assert math.isfinite(setpoint.advance(2.0, -1.0))
