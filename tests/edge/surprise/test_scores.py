"""The raw scores against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from edge.messages import Belief
from edge.surprise.scores import Scores, heat_map, places, pool, token_errors


def test_error_is_the_mean_square_over_the_dimension() -> None:
    latent = np.array([[1.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    predicted = np.array([[1.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    found = token_errors(predicted, latent)
    assert found.dtype == np.float32
    assert found.tolist() == [2.0, 12.5]


def test_the_score_of_a_place_is_the_mean_of_the_three_largest_around() -> None:
    scores = np.random.default_rng(0).random((2, 20), dtype=np.float32)
    found = places(scores, (4, 5)).reshape(2, 4, 5)
    for frame, grid in enumerate(scores.reshape(2, 4, 5)):
        for row, column in np.ndindex(4, 5):
            around = grid[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            assert found[frame, row, column] == pytest.approx(np.sort(around.ravel())[-3:].mean())
    assert places(scores, None) is scores


def test_what_is_in_one_place_counts_for_more_than_the_same_in_three() -> None:
    together, apart = np.zeros(48, np.float32), np.zeros(48, np.float32)
    together[[9, 10, 17]] = 3.0
    apart[[9, 13, 33]] = 3.0
    assert float(pool(places(together, (6, 8)))) == 3.0
    assert float(pool(places(apart, (6, 8)))) == 1.0


def test_a_global_latent_has_a_score_in_every_frame_and_patches_only_for_what_lasts() -> None:
    latent = np.ones((6, 4), np.float32)
    belief = Belief(latent, latent * np.float32(3.0), latent[None], np.zeros((0, 0), np.float32), 0, 0)
    one, patches = Scores(None), Scores((2, 3))
    errors = one.errors(belief)
    assert errors is not None and errors.tolist() == [4.0] * 6
    assert patches.errors(belief) is None
    assert one.unfamiliarities(latent[:, 0]).tolist() == [1.0] * 6
    assert patches.unfamiliarities(latent[:, 0]).tolist() == [0.0] * 6


def test_heat_is_laid_out_row_by_row() -> None:
    assert heat_map(np.arange(6, dtype=np.float32), (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
