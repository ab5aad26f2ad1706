"""The coreset of what is normal: exact distances, bounded size, and coverage that survives forgetting."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.memory import Concepts, Memory

Open = Callable[..., Memory]

tokens_of_three = arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-50, 50, width=32))


def brute(tokens: np.ndarray, latents: np.ndarray) -> np.ndarray:
    difference = tokens[:, None].astype(np.float64) - latents[None].astype(np.float64)
    return np.sqrt((difference**2).sum(axis=2)).min(axis=1)


@settings(deadline=None)
@given(st.lists(tokens_of_three, min_size=1, max_size=8), tokens_of_three, st.integers(2, 20))
def test_never_more_than_its_places_and_every_token_is_counted(
    batches: list[np.ndarray], query: np.ndarray, capacity: int
) -> None:
    concepts = Concepts(3, capacity)
    offered = 0
    for batch in batches:
        concepts.learn(batch, 1.0)
        offered += len(batch)
        assert len(concepts) <= capacity
        assert concepts.counts.sum() == offered
    assert np.allclose(concepts.distance(query), brute(query, concepts.latents), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_distance_is_that_of_brute_force(offset: float) -> None:
    draw = np.random.default_rng(0)
    concepts = Concepts(64, 512)
    concepts.learn(draw.standard_normal((500, 64), dtype=np.float32) + np.float32(offset), 0.0)
    query = draw.standard_normal((192, 64), dtype=np.float32) + np.float32(offset)
    found = concepts.distance(query)
    assert found.dtype == np.float32 and found.shape == (192,)
    assert np.allclose(found, brute(query, concepts.latents), rtol=1e-4)


def test_what_was_learned_is_at_distance_zero_while_there_is_room() -> None:
    tokens = 100.0 + np.random.default_rng(1).standard_normal((50, 16), dtype=np.float32)
    concepts = Concepts(16, 64)
    assert concepts.learn(tokens, 0.0) == 50
    assert concepts.learn(tokens, 1.0) == 0
    assert not concepts.distance(tokens).any()
    assert (concepts.counts == 2).all()


def test_forgetting_costs_resolution_and_never_coverage() -> None:
    draw = np.random.default_rng(2)
    concepts = Concepts(4, 64)
    rare = np.full((1, 4), 40.0, dtype=np.float32)
    concepts.learn(rare, 0.0)
    everything = [rare]
    for _ in range(60):
        batch = draw.standard_normal((20, 4), dtype=np.float32)
        everything.append(batch)
        concepts.learn(batch, 1.0)
    assert len(concepts) <= 64
    # A chain of merges moves a token's concept by at most the sum of gates that grow by a quarter each: 1 / (1 - 0.8).
    assert concepts.distance(np.concatenate(everything)).max() <= 5.0 * concepts.radius
    assert concepts.distance(rare)[0] <= 1e-6, "the rare one was not pushed out by frequent ones"
    assert concepts.distance(np.full((1, 4), -40.0, dtype=np.float32))[0] > 60.0


def test_no_concepts_and_broken_tokens_are_infinitely_far() -> None:
    concepts = Concepts(2)
    assert np.isinf(concepts.distance(np.zeros((3, 2), dtype=np.float32))).all()
    concepts.learn(np.zeros((1, 2), dtype=np.float32), 0.0)
    query = np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, 0.0]], dtype=np.float32)
    assert concepts.distance(query).tolist() == [1.0, np.inf, np.inf]


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.zeros((2, 4), dtype=np.float32), np.zeros(3, dtype=np.float32)])
def test_other_shapes_and_float64_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="float32"):
        Concepts(3).distance(bad)


def test_broken_tokens_do_not_become_normal() -> None:
    concepts = Concepts(2)
    with pytest.raises(ValueError, match="not finite"):
        concepts.learn(np.array([[0.0, 0.0], [np.nan, 0.0]], dtype=np.float32), 0.0)
    assert len(concepts) == 0


def test_last_seen_is_kept() -> None:
    concepts = Concepts(1, 8)
    concepts.learn(np.array([[0.0], [10.0]], dtype=np.float32), 5.0)
    concepts.learn(np.array([[10.0]], dtype=np.float32), 9.0)
    snapshot = concepts.snapshot()
    assert dict(zip(snapshot.latents[:, 0].tolist(), snapshot.last_seen.tolist(), strict=True)) == {0.0: 5.0, 10.0: 9.0}


@pytest.mark.parametrize("capacity", [64, 16])
def test_concepts_survive_a_restart(open_memory: Open, capacity: int) -> None:
    concepts = Concepts(8, 64)
    concepts.learn(np.random.default_rng(0).standard_normal((40, 8), dtype=np.float32), 3.0)
    memory = open_memory()
    assert len(memory.load_concepts()) == 0
    memory.save_concepts(concepts)
    memory.close()
    memory = open_memory()
    assert memory.counts().concepts == 40
    found = memory.load_concepts(capacity)
    assert len(found) <= capacity == found.capacity
    assert found.counts.sum() == 40
    if capacity == 64:
        assert np.array_equal(found.latents, concepts.latents)
        query = np.random.default_rng(1).standard_normal((5, 8), dtype=np.float32)
        assert np.array_equal(found.distance(query), concepts.distance(query))


def test_damaged_concepts_are_not_used(open_memory: Open) -> None:
    concepts = Concepts(8, 64)
    concepts.learn(np.ones((1, 8), dtype=np.float32), 3.0)
    memory = open_memory()
    memory.save_concepts(concepts)
    memory.close()
    connection = sqlite3.connect(memory.folder / "memory.sqlite")
    connection.execute("UPDATE concepts SET latents = zeroblob(length(latents))")
    connection.commit()
    connection.close()
    assert len(open_memory().load_concepts()) == 0
