"""The raw scores against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from edge.messages import Belief
from edge.surprise.scores import Scores, heat_map, pool, token_errors


def test_error_is_the_mean_square_over_the_dimension() -> None:
    latent = np.array([[1.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    predicted = np.array([[1.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    found = token_errors(predicted, latent)
    assert found.dtype == np.float32
    assert found.tolist() == [2.0, 12.5]


@pytest.mark.parametrize(("tokens", "k"), [(1, 1), (2, 2), (3, 3), (4, 3), (192, 3)])
def test_pooling_takes_the_mean_of_the_three_largest(tokens: int, k: int) -> None:
    scores = np.random.default_rng(tokens).random((5, tokens), dtype=np.float32)
    expected = np.sort(scores, axis=1)[:, tokens - k :].mean(axis=1)
    assert np.allclose(pool(scores), expected)
    assert float(pool(scores[0])) == pytest.approx(float(expected[0]))


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
