"""A calibrated motor is told what makes its wheel turn as wanted; limits of the motor are limits of the action."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import FakeClock
from edge.config import AxisConfig, ConfigError, SafetyConfig, WayConfig
from edge.motors import CalibratedMotors, action_axis, check_names, drive_of
from edge.safety import ActionAxis, _limits_of
from firmware_bridge.controller import Axis, AxisMode
from tests.edge.test_safety import PERIOD, RecordingMotors

WEAK = WayConfig(dead_band=1.6, friction=1.0, gain=0.5, max_speed=9.0)
STRONG = WayConfig(dead_band=0.0, friction=0.0, gain=2.0, max_speed=30.0)


@pytest.mark.parametrize(
    ("speed", "told"),
    [
        (0.0, 0.0),
        (4.0, 9.0),  # 4 / 0.5 + 1
        (0.3, 1.6),  # exactly the slowest it can
        (0.2, 1.6),  # nearer to the slowest than to nothing
        (0.14, 0.0),  # nearer to nothing
        (-4.0, -2.0),
        (-0.01, -0.005),
    ],
)
def test_the_command_is_the_inverse_of_the_motor(speed: float, told: float) -> None:
    assert drive_of(AxisConfig(forward=WEAK, backward=STRONG))(speed) == pytest.approx(told)
    assert drive_of(AxisConfig(reversed=True, forward=WEAK, backward=STRONG))(speed) == pytest.approx(-told)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_does_not_become_finite(bad: float) -> None:
    """The controller refuses it, and must still see it."""
    assert not math.isfinite(drive_of(AxisConfig(forward=WEAK, backward=STRONG))(bad))


@given(st.floats(-30.0, 30.0))
def test_the_wheel_is_never_off_by_more_than_half_its_slowest_speed(speed: float) -> None:
    told = drive_of(AxisConfig(reversed=True, forward=WEAK, backward=WEAK))(speed)
    turns = 0.0 if abs(told) <= 1.59 else WEAK.gain * (abs(told) - WEAK.friction)
    assert abs(turns - abs(speed)) <= 0.5 * WEAK.slowest + 1e-9
    assert told * speed <= 0.0


def test_only_calibrated_axes_and_reversed_encoders_are_touched() -> None:
    behind = RecordingMotors(FakeClock(10 * PERIOD))
    axis = AxisConfig(reversed=True, encoder_reversed=True, forward=WEAK, backward=WEAK)
    motors = CalibratedMotors(behind, {"left": axis})
    motors.send((4.0, 4.0), 1)
    assert behind.sent == [(-9.0, 4.0)]
    assert motors.axes == behind.axes
    plain = CalibratedMotors(behind, {"left": AxisConfig(forward=WEAK, backward=WEAK)})
    raw = behind.telemetry()
    behind.telemetry = lambda: raw  # type: ignore[method-assign]
    assert plain.telemetry() is raw
    assert motors.telemetry() is motors.telemetry()


def test_the_motors_limits_are_limits_of_the_action() -> None:
    axis = action_axis("left", -20.0, 20.0, AxisConfig(max_slew=40.0, forward=WEAK, backward=STRONG))
    assert axis == ActionAxis("left", -20.0, 20.0, -30.0, 9.0, 40.0)
    assert _limits_of(axis, SafetyConfig(), 0.1) == pytest.approx((-1.0, 0.45, 0.2))
    assert _limits_of(axis, SafetyConfig(speed=0.3, slew=1.0), 0.1) == pytest.approx((-0.3, 0.3, 0.1))
    assert action_axis("left", -20.0, 20.0, None) == ActionAxis("left", -20.0, 20.0)


WHEEL = Axis("left", AxisMode.VELOCITY, "rad/s", -5.0, 5.0, 5.0, 50.0)
JOINT = Axis("left", AxisMode.POSITION, "rad", -0.2, 1.0, 2.0, 50.0)


@pytest.mark.parametrize(
    ("found", "board", "wanted"),
    [
        (None, WHEEL, (-5.0, 5.0, 50.0)),
        (None, JOINT, (-0.2, 1.0, 2.0)),  # how fast a target moves is how fast the joint does
        (AxisConfig(forward=WEAK, backward=STRONG), WHEEL, (-10.0, 2.0, 25.0)),  # 0.5 * (5 - 1), 2 * 5, 0.5 * 50
        (AxisConfig(max_slew=40.0, reversed=True, forward=WEAK, backward=WEAK), WHEEL, (-2.0, 2.0, 25.0)),
    ],
)
def test_the_limits_set_in_the_board_are_limits_of_the_action(
    found: AxisConfig | None, board: Axis, wanted: tuple[float, float, float]
) -> None:
    axis = action_axis("left", -20.0, 20.0, found, board)
    assert (axis.bottom, axis.top, axis.slew) == pytest.approx(wanted)


def test_an_axis_that_the_robot_has_not() -> None:
    axes = {"lift": AxisConfig(forward=WEAK, backward=WEAK)}
    with pytest.raises(ConfigError, match=r"\[axes\.lift\] is for no axis of this robot \(its axes are left, right\)"):
        check_names(axes, ["left", "right"])
