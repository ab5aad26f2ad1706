"""What nobody foresaw and what stays: the prediction error of patch latents over half a second.

At ten frames a second hardly anything is surprising from one frame to the next, and whatever moves is a little. So every
patch is compared with what was predicted ``HELD_STEPS`` frames ago, and that in a way that leaves motion alone:

* *from beside*: the error of a patch is its distance to the nearest of the patches predicted in its 3x3 neighbourhood. What
  was next to it has merely moved there.
* *still there*: the error that counts is the smallest since then, in the later half the largest of the neighbourhood, so that
  a thing may move by a patch. What passes through leaves no trace; what has appeared and stays does.
* *in a restless place*: where the predictions of the last frames before failed as well, an error says less. The error is
  divided by how wrong they were (a running estimate of its scale). Along the edge anything may come in at any time, so that is
  the least scale there.

A thing that appears from nowhere thus scores high, once, half a second later; one that walks in does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edge.messages import Belief, Floats

HELD_STEPS = 5
RECENT_STEPS = 2
REST = 0.5
"""Root-mean-square error per dimension that a quiet place has anyway; latents have variance 1."""
EDGE = 1.0
"""The same along the edge of the picture."""


@dataclass(slots=True)
class _Forecast:
    """beside: float32 (9, gh, gw, D), what was predicted here and around. scale: float32 (gh, gw). errors: one float32
    (gh, gw) per frame since."""

    beside: Floats
    scale: Floats
    errors: list[Floats] = field(default_factory=list)

    def compare(self, latents: Floats) -> None:
        difference = self.beside - latents
        squares = np.einsum("nijd,nijd->nij", difference, difference).min(axis=0)
        self.errors.append(np.sqrt(squares / np.float32(latents.shape[-1])))

    def unforeseen(self) -> Floats:
        half = -(-len(self.errors) // 2)
        lasting = np.minimum(np.min(self.errors[:half], axis=0), largest_around(np.min(self.errors[half:], axis=0), 1))
        return np.asarray(lasting / self.scale, np.float32)


class Unforeseen:
    """Follows beliefs over patch latents, one after the other. grid: (gh, gw)."""

    def __init__(self, grid: tuple[int, int]) -> None:
        self._grid = grid
        self._forecasts: deque[_Forecast] = deque(maxlen=HELD_STEPS)
        self._recent: deque[Floats] = deque(maxlen=RECENT_STEPS)

    def update(self, belief: Belief) -> Floats | None:
        """Error per patch, float32 (T,), in units of its scale; None for the first frames after a cold start."""
        if belief.predicted is None:
            self.forget()
            return None
        latents = belief.latent.reshape(*self._grid, -1)
        beside = np.stack(list(_shifted(belief.predicted.reshape(latents.shape), 1)))
        forecast = _Forecast(beside, self._scale())
        warm = len(self._recent) == RECENT_STEPS
        if warm:
            self._forecasts.append(forecast)
        for open_forecast in self._forecasts:
            open_forecast.compare(latents)
        if not warm:
            forecast.compare(latents)
        self._recent.append(forecast.errors[0])
        if len(self._forecasts) < HELD_STEPS:
            return None
        return self._forecasts[0].unforeseen().ravel()

    def forget(self) -> None:
        """Start cold."""
        self._forecasts.clear()
        self._recent.clear()

    def _scale(self) -> Floats:
        wrong = np.zeros(self._grid, np.float32)
        for errors in self._recent:
            wrong = np.maximum(wrong, errors)
        wrong = largest_around(wrong, 2)
        for edge in (wrong[0], wrong[-1], wrong[:, 0], wrong[:, -1]):
            np.maximum(edge, np.float32(EDGE), out=edge)
        return np.asarray(1.0 + wrong / np.float32(REST), np.float32)


class Lasting:
    """The smallest of the last ``steps`` scores, token by token."""

    def __init__(self, steps: int = HELD_STEPS) -> None:
        self._recent: deque[Floats] = deque(maxlen=steps)

    def update(self, scores: Floats) -> Floats:
        """float32 (T,) -> float32 (T,); zeros until there were ``steps`` of them."""
        self._recent.append(scores)
        if len(self._recent) < (self._recent.maxlen or 0):
            return np.zeros_like(scores)
        return np.asarray(np.min(self._recent, axis=0), np.float32)

    def forget(self) -> None:
        """Start cold."""
        self._recent.clear()


def largest_around(scores: Floats, reach: int) -> Floats:
    """The largest score within ``reach`` patches in each direction. float32 (gh, gw) -> float32 (gh, gw)."""
    return np.asarray(np.max(list(_shifted(scores[..., None], reach)), axis=0)[..., 0], np.float32)


def _shifted(grid: Floats, reach: int) -> Iterator[Floats]:
    """(gh, gw, D) moved by up to ``reach`` patches in each direction; the border patches stand for what lies outside."""
    height, width = grid.shape[:2]
    padded = np.pad(grid, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    for row in range(2 * reach + 1):
        for column in range(2 * reach + 1):
            yield padded[row : row + height, column : column + width]
