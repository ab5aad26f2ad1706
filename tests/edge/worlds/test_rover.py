"""The rover's equations: walls, slew, lag, and that a batch is many rovers and not one."""

from __future__ import annotations

import numpy as np
import pytest

from edge.worlds.rover import SPEC, STEP_S, Rover, pose_distance, random_actions, random_pose

MIDDLE = np.array((1.0, 0.75, 0.0))
FULL = np.full((1, 2), SPEC.max_wheel_speed)


@pytest.mark.parametrize(
    ("heading", "axis", "wall"),
    [
        (0.0, 0, SPEC.arena_width - SPEC.body_radius),
        (np.pi, 0, SPEC.body_radius),
        (np.pi / 2, 1, SPEC.arena_height - SPEC.body_radius),
        (-np.pi / 2, 1, SPEC.body_radius),
    ],
)
def test_every_wall_stops_it_and_lets_it_go(heading: float, axis: int, wall: float) -> None:
    rover = Rover(np.array((1.0, 0.75, heading)))
    rover.drive(3.0, FULL)
    assert rover.pose[0, axis] == pytest.approx(wall, abs=1e-9)
    rover.drive(1.0, -FULL)
    assert abs(rover.pose[0, axis] - wall) > 0.1


def test_babbling_never_leaves_the_arena() -> None:
    rng = np.random.default_rng(0)
    rover = Rover(random_pose(rng, 50))
    actions = random_actions(rng, 50, 40)
    assert np.abs(actions).max() <= 1.0
    for step in range(40):
        rover.drive(STEP_S, actions[:, step] * SPEC.max_wheel_speed)
        assert (rover.pose[:, :2] >= SPEC.body_radius).all()
        assert (rover.pose[:, :2] <= (SPEC.arena_width - SPEC.body_radius, SPEC.arena_height - SPEC.body_radius)).all()
        assert (np.abs(rover.pose[:, 2]) <= np.pi).all()


def test_the_target_is_slewed_and_cut() -> None:
    rover = Rover(MIDDLE)
    rover.drive(SPEC.dt, 10 * FULL)
    change = SPEC.max_wheel_acceleration * SPEC.dt
    share = 1.0 - np.exp(-SPEC.dt / SPEC.motor_time_constant)
    assert rover.wheels == pytest.approx(np.full((1, 2), change * share))
    rover.drive(2.0, 10 * FULL)
    assert rover.wheels == pytest.approx(FULL, rel=1e-6)


@pytest.mark.parametrize("constants", [1, 2, 3])
def test_the_wheels_follow_with_a_first_order_lag(constants: int) -> None:
    rover = Rover(MIDDLE)
    rover.coast(constants * SPEC.motor_time_constant, np.full((1, 2), 4.0))
    assert rover.wheels == pytest.approx(4.0 * (1.0 - np.exp(-constants)))


def test_straight_ahead_and_on_the_spot() -> None:
    straight = Rover(MIDDLE, np.full((1, 2), 4.0))
    straight.coast(1.0, np.full((1, 2), 4.0))
    assert straight.pose[0] == pytest.approx((1.0 + 4.0 * SPEC.wheel_radius, 0.75, 0.0))
    turning = Rover(MIDDLE, np.array((-2.0, 2.0)))
    turning.coast(1.0, np.array(((-2.0, 2.0),)))
    assert turning.pose[0] == pytest.approx((1.0, 0.75, 4.0 * SPEC.wheel_radius / SPEC.track))


def test_no_time_means_no_change() -> None:
    rover = Rover(MIDDLE, FULL)
    rover.drive(0.0, -FULL)
    assert (rover.pose == MIDDLE).all() and (rover.wheels == FULL).all()


def test_a_copy_goes_its_own_way_from_the_same_state() -> None:
    rover = Rover(MIDDLE)
    rover.drive(0.03, FULL)  # in the middle of the slew, so that the hidden state matters
    twin = rover.copy()
    rover.drive(0.1, FULL)
    assert twin.pose[0, 0] < rover.pose[0, 0]
    twin.drive(0.1, FULL)
    np.testing.assert_array_equal(twin.pose, rover.pose)
    np.testing.assert_array_equal(twin.wheels, rover.wheels)


def test_a_repeated_rover_is_as_many_single_ones() -> None:
    rng = np.random.default_rng(2)
    rover = Rover(random_pose(rng, 1))
    rover.drive(0.03, FULL)
    targets = rng.uniform(-20.0, 20.0, (5, 2))
    many = rover.repeat(5)
    many.drive(STEP_S, targets)
    for row, target in enumerate(targets):
        one = rover.copy()
        one.drive(STEP_S, target[None])
        np.testing.assert_array_equal(many.pose[row], one.pose[0])
        np.testing.assert_array_equal(many.wheels[row], one.wheels[0])


def test_the_way_round_the_circle_is_the_short_one() -> None:
    metres, turn = pose_distance(np.array((0.0, 0.0, 3.0)), np.array((0.3, 0.4, -3.0)))
    assert (metres, turn) == pytest.approx((0.5, 2 * np.pi - 6.0))
