"""The arena's pictures: the same again for the same seed, and the rover where it is."""

from __future__ import annotations

import numpy as np
import pytest

from edge.worlds.arena import HEIGHT, WIDTH, ArenaPainter
from edge.worlds.rover import SPEC

POSE = np.array((0.6, 0.9, 0.7))


def test_a_seed_is_a_sequence_of_pictures() -> None:
    one, same, other = (ArenaPainter(seed) for seed in (3, 3, 4))
    first, second = one.paint(POSE), one.paint(POSE)
    assert (first.shape, first.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_array_equal(first, same.paint(POSE))
    np.testing.assert_array_equal(second, same.paint(POSE))
    assert (first != second).any() and (first != other.paint(POSE)).any()


def test_without_noise_painting_is_drawing() -> None:
    painter = ArenaPainter(noise_sigma=0.0)
    drawn = painter.floor.copy()
    painter.draw(drawn, POSE)
    np.testing.assert_array_equal(painter.paint(POSE), drawn)


def test_the_noise_has_the_strength_it_was_given_and_moves_no_colour() -> None:
    painter = ArenaPainter(noise_sigma=6.0)
    drawn = painter.floor.copy()
    painter.draw(drawn, POSE)
    noise = painter.paint(POSE).astype(np.float64)[20:-20, 20:-20] - drawn[20:-20, 20:-20]
    assert noise.std() == pytest.approx(6.0, abs=0.2)
    assert noise.mean() == pytest.approx(0.0, abs=0.1)


def test_the_lamp_scales_the_light() -> None:
    painter = ArenaPainter(noise_sigma=0.0)
    bright, dim = painter.paint(POSE).astype(np.float64), painter.paint(POSE, light=0.5).astype(np.float64)
    assert np.abs(dim - bright / 2).max() <= 0.5


@pytest.mark.parametrize("heading", [0.0, 1.2, np.pi / 2, -2.5])
@pytest.mark.parametrize("at", [(1.0, 0.75), (0.3, 1.2), (SPEC.body_radius, SPEC.body_radius)])
def test_the_rover_is_where_it_is_and_looks_ahead(at: tuple[float, float], heading: float) -> None:
    painter = ArenaPainter(noise_sigma=0.0)
    picture = painter.paint(np.array((*at, heading)))
    scale = WIDTH / SPEC.arena_width
    rows, columns = np.nonzero((picture != painter.floor).any(axis=2))
    assert columns.mean() / scale == pytest.approx(at[0], abs=0.006)
    assert rows.mean() / scale == pytest.approx(at[1], abs=0.006)
    assert 2 * SPEC.body_radius - 0.01 < (columns.max() - columns.min()) / scale < 2.5 * SPEC.body_radius  # wheels stick out
    rows, columns = np.nonzero((picture[..., 2] > 240) & (picture[..., 0] < 80))  # the yellow eye
    ahead = np.arctan2(rows.mean() / scale - at[1], columns.mean() / scale - at[0])
    assert ahead == pytest.approx(heading, abs=0.1)


def test_the_empty_floor_stays_empty() -> None:
    painter = ArenaPainter()
    floor = painter.floor.copy()
    painter.paint(POSE)
    np.testing.assert_array_equal(painter.floor, floor)
