"""Exact nearest-neighbour search over episode latents in RAM; the ledger can always rebuild it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.messages import Floats

# The float32 inner-product form loses digits near zero, so a few more candidates than asked for are measured exactly.
_SPARE_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Match:
    """One found episode. distance: Euclidean, in latent units."""

    id: int
    distance: float


class LatentIndex:
    """A float32 matrix with one row per episode. Not thread-safe: the owner locks."""

    def __init__(self, dim: int) -> None:
        self._rows: Floats = np.empty((64, dim), dtype=np.float32)
        self._half_norms: Floats = np.empty(64, dtype=np.float32)
        self._ids: NDArray[np.int64] = np.empty(64, dtype=np.int64)
        self._row_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, episode_id: int) -> bool:
        return episode_id in self._row_of

    def put(self, episode_id: int, latent: Floats) -> None:
        """Add or replace. latent: float32 (D,)."""
        row = self._row_of.get(episode_id)
        if row is None:
            row = len(self._row_of)
            if row == len(self._ids):
                self._grow()
            self._row_of[episode_id] = row
        self._rows[row] = latent
        with np.errstate(over="ignore", invalid="ignore"):  # a broken latent is kept, and is far from everything
            self._half_norms[row] = 0.5 * float(latent @ latent)
        self._ids[row] = episode_id

    def remove(self, episode_id: int) -> None:
        """Forget one row; unknown ids are ignored."""
        row = self._row_of.pop(episode_id, None)
        if row is None:
            return
        last = len(self._row_of)
        if row != last:
            self._rows[row] = self._rows[last]
            self._half_norms[row] = self._half_norms[last]
            self._ids[row] = self._ids[last]
            self._row_of[int(self._ids[row])] = row

    def nearest(self, latent: Floats, k: int) -> list[Match]:
        """The k nearest rows, nearest first; fewer if there are fewer. latent: float32 (D,)."""
        count = len(self._row_of)
        k = min(k, count)
        if k <= 0:
            return []
        query = np.asarray(latent, dtype=np.float32)  # a float64 query would upcast the whole matrix
        with np.errstate(over="ignore", invalid="ignore"):
            closeness = self._rows[:count] @ query - self._half_norms[:count]
            keep = min(count, k + _SPARE_CANDIDATES)
            candidates = np.argpartition(-closeness, keep - 1)[:keep]
            difference = self._rows[candidates] - query
            distances = np.sqrt(np.einsum("nd,nd->n", difference, difference))
        order = np.argsort(distances, kind="stable")[:k]
        return [Match(int(self._ids[candidates[i]]), float(distances[i])) for i in order]

    def _grow(self) -> None:
        self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._half_norms = np.concatenate([self._half_norms, np.empty_like(self._half_norms)])
        self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
