"""The two raw scores of surprise, per token, and how they become one number and a picture.

Each score alone is blind: the prediction error sees what moves unlike the model expects, the unfamiliarity sees what
does not look like anything normal here. Anomalies are small and in one place, so the score of a frame is that of its worst
place, three patches that touch, and never the mean of all.

Of a global latent every frame has a score of its own, and the alarm rule counts them. Of patches only what lasts has one
(see :mod:`edge.surprise.unforeseen`), so that the frames that make up an alarm are all about the same place.
"""

from __future__ import annotations

import numpy as np

from edge.messages import Belief, Floats
from edge.surprise.unforeseen import HELD_STEPS, Lasting, Unforeseen

_LARGEST = 3


class Scores:
    """Both scores of one belief after the other. grid: (gh, gw) of patch latents, None for a global latent."""

    def __init__(self, grid: tuple[int, int] | None) -> None:
        self._unforeseen = None if grid is None else Unforeseen(grid)
        self._lasting = None if grid is None else Lasting(HELD_STEPS)

    def errors(self, belief: Belief) -> Floats | None:
        """Prediction error, float32 (T,); None while there is nothing to compare with."""
        if self._unforeseen is not None:
            return self._unforeseen.update(belief)
        return None if belief.predicted is None else token_errors(belief.predicted, belief.latent)

    def unfamiliarities(self, distances: Floats) -> Floats:
        """Distances to the nearest concept, float32 (T,), as far as they last."""
        return distances if self._lasting is None else self._lasting.update(distances)

    def forget(self) -> None:
        """Start cold."""
        if self._unforeseen is not None:
            self._unforeseen.forget()
        if self._lasting is not None:
            self._lasting.forget()


def token_errors(predicted: Floats, latent: Floats) -> Floats:
    """Prediction error per token: mean square over D. float32 (T, D), (T, D) -> float32 (T,)."""
    difference = latent - predicted
    difference *= difference
    errors: Floats = np.add.reduce(difference, axis=1)
    errors /= np.float32(latent.shape[1])
    return errors


def places(scores: Floats, grid: tuple[int, int] | None) -> Floats:
    """Mean of the three largest scores among a patch and its eight neighbours: a thing is larger than one patch, and what
    happens by chance in two places is no thing. float32 (..., T) -> (..., T); unchanged without a grid."""
    if grid is None:
        return scores
    rows, columns = grid
    padded = np.zeros((*scores.shape[:-1], rows + 2, columns + 2), np.float32)
    padded[..., 1:-1, 1:-1] = scores.reshape(*scores.shape[:-1], rows, columns)
    around = np.stack([padded[..., r : r + rows, c : c + columns] for r in range(3) for c in range(3)], axis=-1)
    largest = np.partition(around, -_LARGEST, axis=-1)[..., -_LARGEST:]
    return np.asarray(largest.mean(axis=-1).reshape(scores.shape), np.float32)


def pool(scores: Floats) -> Floats:
    """The worst place. float32 (..., T) -> (...)."""
    return np.asarray(np.maximum.reduce(scores, axis=-1), np.float32)


def heat_map(scores: Floats, grid: tuple[int, int]) -> Floats:
    """Token scores as a picture, row by row. float32 (gh * gw,) -> float32 (gh, gw)."""
    return scores.reshape(grid)
