"""What is normal here: a bounded coreset of token latents, and the distance of a new token to it.

The coreset is built by novelty-gated greedy k-centre insertion: of the tokens offered, the farthest from every concept
goes in first, until none is farther away than the gate ``radius`` (Gonzalez 1985). When all places are taken, the
forgetting rule of the streaming "doubling" algorithm (Charikar, Chekuri, Feder and Motwani 1997) makes room: the gate
grows by a quarter and every concept that now lies within the gate of a more often seen one is merged into it. So
resolution is forgotten, never coverage: what was learned stays near some concept, and rare things are not pushed out by
frequent ones. Nothing is forgotten merely because it was long ago; last-seen times are kept for a later rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.finite import finite
from edge.messages import Floats

DEFAULT_CAPACITY = 2048
_GATE_GROWTH = 1.25
_ROOM_TO_MAKE = 16  # one part in so many of the places is freed at a time, so that merging stays rare


@dataclass(frozen=True, slots=True, eq=False)
class ConceptSnapshot:
    """Concepts as they go into the ledger. latents: float32 (N, D). counts: int64 (N,). last_seen: float64 (N,)
    seconds since the epoch. radius: the gate."""

    latents: Floats
    counts: NDArray[np.int64]
    last_seen: NDArray[np.float64]
    radius: float


class Concepts:
    """At most ``capacity`` token latents that stand for everything normal. Not thread-safe."""

    def __init__(self, dim: int, capacity: int = DEFAULT_CAPACITY) -> None:
        if dim < 1 or capacity < 2:
            raise ValueError(f"concepts need dim >= 1 and capacity >= 2, not {dim} and {capacity}")
        self.dim = dim
        self.capacity = capacity
        self.radius = 0.0
        self._count = 0
        # One GEMM finds the nearest concept: the last column holds -|c|^2 / 2 and meets a 1 in the query, so that the
        # largest entry of a row of the product belongs to the smallest distance.
        self._table: Floats = np.zeros((capacity, dim + 1), dtype=np.float32)
        self._seen = np.zeros(capacity, dtype=np.int64)
        self._last_seen = np.zeros(capacity, dtype=np.float64)
        self._query: Floats = np.ones((0, dim + 1), dtype=np.float32)
        self._product: Floats = np.empty(0, dtype=np.float32)

    def __len__(self) -> int:
        return self._count

    @property
    def latents(self) -> Floats:
        """float32 (N, D), a view that is valid until the next :meth:`learn`."""
        return self._table[: self._count, : self.dim]

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 (N,): how many tokens each concept stands for."""
        return self._seen[: self._count]

    def distance(self, tokens: Floats) -> Floats:
        """Euclidean distance of each token to its nearest concept. float32 (T, D) -> float32 (T,).

        Infinite where a token is not finite, and everywhere while there are no concepts.
        """
        return self._nearest_to_one(tokens) if len(tokens) == 1 and self._count else self._nearest(tokens)[1]

    def learn(self, tokens: Floats, wall_s: float) -> int:
        """Take tokens (float32 (T, D)) into what is normal; returns how many became new concepts.

        wall_s: seconds since the epoch, the last-seen label. Usually costs about as much as :meth:`distance`; when the
        places run out it merges, which takes tens of milliseconds at 2048 places. Raises ValueError on tokens that are
        not finite: they must not become normal.
        """
        nearest, distances = self._nearest(tokens)
        if not np.isfinite(tokens).all():
            raise ValueError("concepts cannot learn tokens that are not finite: check the encoder engine")
        waiting = np.ones(len(tokens), dtype=bool)
        added = 0
        while True:
            farthest = int(np.argmax(np.where(waiting, distances, -1.0)))
            if not waiting[farthest] or not distances[farthest] > self.radius:
                break
            if self._count == self.capacity:
                self._make_room()
                nearest, distances = self._nearest(tokens)
                continue
            slot = self._insert(tokens[farthest], 1, wall_s)
            waiting[farthest] = False
            added += 1
            difference = tokens - tokens[farthest]
            to_new = np.sqrt(np.einsum("td,td->t", difference, difference))
            closer = to_new < distances
            distances[closer] = to_new[closer]
            nearest[closer] = slot
        np.add.at(self._seen, nearest[waiting], 1)
        self._last_seen[nearest[waiting]] = wall_s
        return added

    def snapshot(self) -> ConceptSnapshot:
        """A copy for the ledger."""
        n = self._count
        return ConceptSnapshot(self.latents.copy(), self._seen[:n].copy(), self._last_seen[:n].copy(), self.radius)

    @classmethod
    def restored(cls, snapshot: ConceptSnapshot, capacity: int = DEFAULT_CAPACITY) -> Concepts:
        """Concepts from a snapshot; with a smaller capacity they are merged by the forgetting rule until they fit."""
        stored = len(snapshot.latents)
        concepts = cls(snapshot.latents.shape[1], max(capacity, stored))
        concepts.radius = snapshot.radius
        for latent, count, last_seen in zip(snapshot.latents, snapshot.counts, snapshot.last_seen, strict=True):
            concepts._insert(latent, int(count), float(last_seen))
        while concepts._count > capacity:
            concepts._make_room()
        if concepts.capacity == capacity:
            return concepts
        return cls.restored(concepts.snapshot(), capacity)

    def _nearest(self, tokens: Floats) -> tuple[NDArray[np.intp], Floats]:
        self._refuse_misfits(tokens)
        count, rows = self._count, len(tokens)
        if count == 0:
            return np.zeros(rows, dtype=np.intp), np.full(rows, np.inf, dtype=np.float32)
        if len(self._query) != rows:
            self._query = np.ones((rows, self.dim + 1), dtype=np.float32)
        if self._product.size < rows * count:
            self._product = np.empty(rows * self.capacity, dtype=np.float32)
        self._query[:, : self.dim] = tokens
        product = self._product[: rows * count].reshape(rows, count)
        with np.errstate(invalid="ignore"):  # tokens that are not finite are answered below
            np.matmul(self._query, self._table[:count].T, out=product)
            nearest = product.argmax(axis=1)
            # The product form loses digits near zero; the winner's distance is therefore taken by plain subtraction.
            difference = tokens - self._table[nearest, : self.dim]
            distances = np.sqrt(np.einsum("td,td->t", difference, difference))
        return nearest, np.where(np.isfinite(distances), distances, np.float32(np.inf))

    def _nearest_to_one(self, tokens: Floats) -> Floats:
        """:meth:`distance` for a global latent: in the loop's cold caches a third of the time of the way for many."""
        self._refuse_misfits(tokens)
        token, table = tokens[0], self._table[: self._count]
        if not finite(token):
            return np.full(1, np.inf, dtype=np.float32)
        closeness = np.dot(table[:, : self.dim], token)
        closeness += table[:, self.dim]
        difference = token - table[closeness.argmax(), : self.dim]
        return np.array([math.sqrt(np.dot(difference, difference))], dtype=np.float32)

    def _refuse_misfits(self, tokens: Floats) -> None:
        if tokens.ndim != 2 or tokens.shape[1] != self.dim or tokens.dtype != np.float32:
            raise ValueError(f"concepts take float32 (T, {self.dim}) tokens, not {tokens.dtype} {tokens.shape}")

    def _insert(self, latent: Floats, count: int, last_seen: float) -> int:
        slot = self._count
        self._table[slot, : self.dim] = latent
        self._table[slot, self.dim] = -0.5 * float(latent @ latent)
        self._seen[slot] = count
        self._last_seen[slot] = last_seen
        self._count += 1
        return slot

    def _make_room(self) -> None:
        latents = self.latents
        half_norms = -self._table[: self._count, self.dim]
        halves = half_norms[:, None] + half_norms[None, :] - latents @ latents.T  # half the squared distances
        np.fill_diagonal(halves, np.inf)
        often_first = np.argsort(-self.counts, kind="stable")
        if self.radius == 0.0:
            self.radius = float(np.sqrt(2.0 * max(float(np.median(halves.min(axis=1))), 0.0)))
        target = self._count - max(1, self._count // _ROOM_TO_MAKE)
        while True:
            self.radius = max(self.radius * _GATE_GROWTH, float(np.finfo(np.float32).tiny))
            into = _merge_plan(halves, often_first, 0.5 * self.radius**2)
            kept = np.flatnonzero(into == np.arange(len(into)))
            if len(kept) <= target:
                break
        place = np.zeros(len(into), dtype=np.intp)
        place[kept] = np.arange(len(kept))
        seen = np.zeros(len(kept), dtype=np.int64)
        last_seen = np.zeros(len(kept), dtype=np.float64)
        np.add.at(seen, place[into], self.counts)
        np.maximum.at(last_seen, place[into], self._last_seen[: self._count])
        self._table[: len(kept)] = self._table[kept]
        self._seen[: len(kept)] = seen
        self._last_seen[: len(kept)] = last_seen
        self._count = len(kept)


def _merge_plan(halves: Floats, often_first: NDArray[np.intp], limit: float) -> NDArray[np.intp]:
    """For each concept the one it is merged into, itself if it stays; the often seen swallow the rare."""
    into = np.full(len(halves), -1, dtype=np.intp)
    for keeper in often_first:
        if into[keeper] >= 0:
            continue
        into[keeper] = keeper
        near = (halves[keeper] <= limit) & (into < 0)
        into[near] = keeper
    return into
