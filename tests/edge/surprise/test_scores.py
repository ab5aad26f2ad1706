"""The raw scores against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from edge.surprise.scores import heat_map, pool, token_errors, top_k


def test_error_is_the_mean_square_over_the_dimension() -> None:
    latent = np.array([[1.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    predicted = np.array([[1.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    found = token_errors(predicted, latent)
    assert found.dtype == np.float32
    assert found.tolist() == [2.0, 12.5]


@pytest.mark.parametrize(("tokens", "k"), [(1, 1), (3, 3), (4, 4), (100, 4), (192, 6), (768, 23)])
def test_pooling_takes_the_mean_of_the_largest(tokens: int, k: int) -> None:
    assert top_k(tokens) == k
    scores = np.random.default_rng(tokens).random((5, tokens), dtype=np.float32)
    expected = np.sort(scores, axis=1)[:, tokens - k :].mean(axis=1)
    assert np.allclose(pool(scores), expected)
    assert float(pool(scores[0])) == pytest.approx(float(expected[0]))


def test_one_hot_patch_is_not_averaged_away() -> None:
    scores = np.zeros(192, dtype=np.float32)
    scores[7] = 6.0
    assert float(pool(scores)) == 1.0


def test_heat_is_laid_out_row_by_row() -> None:
    assert heat_map(np.arange(6, dtype=np.float32), (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
