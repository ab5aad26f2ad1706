"""The two raw scores of surprise, per token, and how they become one number and a picture.

Each score alone is blind: the prediction error sees what moves unlike the model expects, the unfamiliarity sees what
does not look like anything normal here. Anomalies are small, so tokens are pooled by the mean of the few largest and
never by the mean of all.
"""

from __future__ import annotations

import numpy as np

from edge.messages import Floats

_SHARE = 0.03
_FEWEST = 4


def token_errors(predicted: Floats, latent: Floats) -> Floats:
    """Prediction error per token: mean square over D. float32 (T, D), (T, D) -> float32 (T,)."""
    difference = latent - predicted
    return np.asarray(np.einsum("td,td->t", difference, difference) / np.float32(latent.shape[1]), dtype=np.float32)


def top_k(tokens: int) -> int:
    """Over how many of the largest token scores to take the mean: 3 % of the tokens, at least 4, at most all."""
    return min(tokens, max(_FEWEST, round(_SHARE * tokens)))


def pool(scores: Floats) -> Floats:
    """Mean of the largest :func:`top_k` token scores; for one token the score itself. float32 (..., T) -> (...)."""
    tokens = scores.shape[-1]
    k = top_k(tokens)
    if k == tokens:
        return np.asarray(scores.mean(axis=-1), dtype=np.float32)
    return np.asarray(np.partition(scores, tokens - k, axis=-1)[..., tokens - k :].mean(axis=-1), dtype=np.float32)


def heat_map(scores: Floats, grid: tuple[int, int]) -> Floats:
    """Token scores as a picture, row by row. float32 (gh * gw,) -> float32 (gh, gw)."""
    return scores.reshape(grid)
