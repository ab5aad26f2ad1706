"""Episodes, recall, forgetting and the belief checkpoint, over the real ledger."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import NS_PER_S, FakeClock
from edge.memory import KINDS, BeliefCheckpoint, Episode, Memory, MemoryUnavailable, pooled
from edge.memory import memory as module
from edge.messages import Belief, MemoryCounts

Open = Callable[..., Memory]
Make = Callable[..., Episode]

texts = st.text(max_size=40)
pictures = st.binary(max_size=300)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.lists(finite, min_size=8, max_size=8).map(lambda v: np.array(v, dtype=np.float32))
actions = st.one_of(
    st.just(np.zeros(0, dtype=np.float32)),
    st.lists(finite, min_size=2, max_size=2).map(lambda v: np.array(v, dtype=np.float32)),
)
episodes = st.builds(
    Episode,
    kind=st.sampled_from(KINDS),
    cause=texts,
    detail=texts,
    at_ns=st.integers(0, 2**62),
    wall_s=st.floats(0, 4e9),
    latent=vectors,
    action=actions,
    p_value=st.floats(0, 1),
    thumbnail=pictures,
    before=st.lists(pictures, max_size=3).map(tuple),
    after=st.lists(pictures, max_size=3).map(tuple),
)


def same(one: Episode, other: Episode) -> bool:
    scalars = ("kind", "cause", "detail", "at_ns", "wall_s", "p_value", "thumbnail", "before", "after")
    return (
        all(getattr(one, name) == getattr(other, name) for name in scalars)
        and one.latent.tobytes() == other.latent.tobytes()
        and one.action.tobytes() == other.action.tobytes()
    )


@settings(deadline=None, max_examples=15)
@given(st.lists(episodes, min_size=1, max_size=6))
def test_episodes_come_back_as_they_went_in(batch: list[Episode]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keys = {"bundle_sha256": "x", "tokens": 4, "dim": 8, "actions": 2, "clock": FakeClock()}
        memory = Memory.open(Path(folder), **keys)
        ids = [memory.remember(episode) for episode in batch]
        memory.close()
        memory = Memory.open(Path(folder), **keys)
        try:
            found = memory.episodes(limit=10)
        finally:
            memory.close()
        assert ids == [1 + number for number in range(len(batch))]
        assert [episode.id for episode in found] == ids[::-1]
        assert all(same(one, other) for one, other in zip(batch, found[::-1], strict=True))


def test_ids_go_on_after_a_restart_even_if_the_last_episode_was_forgotten(open_memory: Open, episode: Make) -> None:
    memory = open_memory(max_episodes=1)
    assert memory.remember(episode(1, "alarm")) == 1
    assert memory.remember(episode(2, "novel")) == 2  # forgotten at once: alarms stay longer
    memory.flush()
    assert memory.committed_id == 2
    assert [e.id for e in memory.episodes()] == [1]
    memory.close()
    memory = open_memory(max_episodes=1)
    assert memory.committed_id == 2
    assert memory.remember(episode(3)) == 3


def test_counts_follow_what_is_committed(open_memory: Open, episode: Make) -> None:
    memory = open_memory()
    assert memory.counts().episodes == 0
    for number in range(5):
        memory.remember(episode(number))
    memory.flush()
    counts = memory.counts()
    assert counts == MemoryCounts(episodes=5, concepts=0, bytes=counts.bytes)
    assert counts.bytes > 0
    memory.close()
    assert open_memory().counts().episodes == 5


def test_episodes_can_be_asked_for_by_kind_and_cause(open_memory: Open, episode: Make) -> None:
    memory = open_memory()
    for number, kind in enumerate(("alarm", "novel", "alarm", "fault"), 1):
        memory.remember(episode(number, kind, cause=f"cause{number}"))
    assert [e.id for e in memory.episodes(kind="alarm")] == [3, 1]
    assert [e.id for e in memory.episodes(kind="alarm", cause="cause1")] == [1]
    assert [e.id for e in memory.episodes(limit=2)] == [4, 3]
    found = memory.episode(2)
    assert found is not None and found.kind == "novel"
    assert memory.episode(99) is None


def test_two_versions_of_one_episode_in_a_batch_take_one_place(open_memory: Open, episode: Make) -> None:
    memory = open_memory(max_episodes=3)
    for number in range(3):
        memory.remember(episode(number))
    memory.flush()
    first = episode(3)
    newest = memory.remember(first)
    memory.remember(replace(first, id=newest, after=(b"later",)))
    assert [(kept.id, kept.after) for kept in memory.episodes()] == [(newest, (b"later",)), (3, ()), (2, ())]


def test_an_episode_with_an_id_replaces_the_stored_one(open_memory: Open, episode: Make) -> None:
    memory = open_memory()
    first = episode(1, before=(b"b",))
    number = memory.remember(first)
    memory.flush()
    memory.remember(replace(first, id=number, after=(b"later",), latent=np.full(8, 9.0, dtype=np.float32)))
    memory.flush()
    (found,) = memory.episodes()
    assert (found.before, found.after) == ((b"b",), (b"later",))
    assert memory.counts().episodes == 1
    assert memory.nearest(np.full(8, 9.0, dtype=np.float32), 3)[0].distance == 0.0


def test_recall_finds_what_brute_force_finds_before_and_after_forgetting_and_restart(
    open_memory: Open, episode: Make
) -> None:
    memory = open_memory(max_episodes=100)
    for number in range(1, 181):
        memory.remember(episode(number))
    memory.flush()
    kept = {number: episode(number).latent for number in range(81, 181)}
    for step in range(2):
        for seed in range(20):
            query = np.random.default_rng(1000 + seed).standard_normal(8, dtype=np.float32)
            true = sorted(kept, key=lambda number: float(np.linalg.norm(kept[number] - query)))[:5]
            found = memory.nearest(query, 5)
            assert [match.id for match in found] == true, step
            assert found[0].distance == pytest.approx(float(np.linalg.norm(kept[true[0]] - query)), rel=1e-5)
        assert memory.nearest(kept[100], 1)[0] == module.Match(100, 0.0)
        memory.close()
        memory = open_memory(max_episodes=100)
    assert len(memory.nearest(kept[100], 1000)) == 100


def test_recall_of_nothing_is_empty(open_memory: Open) -> None:
    assert open_memory().nearest(np.zeros(8, dtype=np.float32), 3) == []


def test_the_oldest_of_the_least_valuable_kind_is_forgotten_first(open_memory: Open, episode: Make) -> None:
    memory = open_memory(max_episodes=3)
    kept: list[list[int]] = []
    for number, kind in enumerate(("alarm", "novel", "fault", "novel", "alarm", "goal", "alarm", "alarm"), 1):
        memory.remember(episode(number, kind))
        memory.flush()
        kept.append(sorted(e.id for e in memory.episodes()))
    assert kept == [[1], [1, 2], [1, 2, 3], [1, 3, 4], [1, 3, 5], [1, 3, 5], [1, 5, 7], [5, 7, 8]]


def test_bytes_are_bounded_too(open_memory: Open, episode: Make) -> None:
    memory = open_memory(max_bytes=module.MIN_BYTES)
    for number in range(1, 201):
        memory.remember(episode(number, thumbnail=bytes([number]) * 60_000))
        if number % 40 == 0:
            memory.flush()
    memory.flush()
    ids = sorted(e.id for e in memory.episodes(limit=1000))
    assert ids == list(range(201 - len(ids), 201)), "the newest stay, without gaps"
    assert 50 <= len(ids) <= 70
    memory.close()
    # One batch above the limit is what the file may have grown to before its pages were free for reuse.
    assert (memory.folder / "memory.sqlite").stat().st_size < module.MIN_BYTES + 40 * 64_000
    assert sum(path.stat().st_size for path in memory.folder.glob("*-wal")) == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"latent": np.zeros(7, dtype=np.float32)}, "latent"),
        ({"latent": np.zeros(8, dtype=np.float64)}, "float64"),
        ({"action": np.zeros(3, dtype=np.float32)}, "action"),
        ({"kind": "boring"}, "kind"),
        ({"p_value": 1.5}, "p_value"),
        ({"p_value": float("nan")}, "p_value"),
        ({"id": 7}, "never given"),
        ({"thumbnail": bytes(2 << 20)}, "smaller pictures"),
    ],
)
def test_a_misfit_is_refused_before_it_is_queued(
    open_memory: Open, episode: Make, change: dict[str, object], word: str
) -> None:
    memory = open_memory()
    with pytest.raises(ValueError, match=word):
        memory.remember(replace(episode(), **change))
    memory.flush()
    assert memory.counts().episodes == 0


def test_a_full_queue_drops_the_oldest_and_counts_them(open_memory: Open, episode: Make) -> None:
    memory = open_memory()
    blocker = sqlite3.connect(memory.folder / "memory.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # holds the writer up as a stalled disk would
    try:
        for number in range(1, module.QUEUE_ROWS + 51):
            memory.remember(episode(number))
        with pytest.raises(MemoryUnavailable, match="cannot be written"):
            memory.flush()
        assert memory.dropped == 50
        assert memory.committed_id == 0
        assert "locked" in memory.degraded
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    memory.flush()
    assert memory.degraded == ""
    found = sorted(e.id for e in memory.episodes(limit=1000))
    assert found == list(range(51, module.QUEUE_ROWS + 51))
    assert memory.committed_id == module.QUEUE_ROWS + 50
    assert memory.dropped == 50


def test_a_closed_memory_says_so(open_memory: Open, episode: Make) -> None:
    memory = open_memory()
    memory.remember(episode())
    memory.close()
    memory.close()
    for call in (memory.flush, memory.episodes, lambda: memory.remember(episode())):
        with pytest.raises(MemoryUnavailable, match="closed"):
            call()
    assert open_memory().counts().episodes == 1, "closing commits"


def checkpoint(context: int = 3, seed: int = 0, camera: str = "") -> BeliefCheckpoint:
    draw = np.random.default_rng(seed)
    return BeliefCheckpoint(
        draw.standard_normal((context, 4, 8), dtype=np.float32),
        draw.uniform(-1, 1, (context - 1, 2)).astype(np.float32),
        captured_ns=77,
        camera=camera,
    )


def test_the_newest_belief_comes_back_with_its_age(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory()
    memory.save_belief(checkpoint(seed=1))
    memory.save_belief(checkpoint(seed=2))
    memory.close()
    clock.advance_ns(3 * NS_PER_S)
    found = open_memory().restore_belief(5.0, context=3)
    assert isinstance(found, BeliefCheckpoint)
    assert found.context.tobytes() == checkpoint(seed=2).context.tobytes()
    assert found.actions.tobytes() == checkpoint(seed=2).actions.tobytes()
    assert (found.captured_ns, found.age_s) == (77, 3.0)


@pytest.mark.parametrize(
    ("seconds", "context", "camera", "restored"),
    [
        (5.0, 3, "c", None),
        (5.1, 3, "c", "5.1 s old"),
        (1.0, 4, "c", "3 context frames and the bundle wants 4"),
        (1.0, 3, "d", "another camera"),
    ],
)
def test_a_belief_is_restored_only_if_all_fits(
    open_memory: Open, clock: FakeClock, seconds: float, context: int, camera: str, restored: str | None
) -> None:
    memory = open_memory()
    memory.save_belief(checkpoint(camera="c"))
    memory.close()
    clock.advance_ns(round(seconds * NS_PER_S))
    found = open_memory().restore_belief(5.0, context=context, camera=camera)
    if restored is None:
        assert isinstance(found, BeliefCheckpoint)
    else:
        assert isinstance(found, str) and restored in found


@pytest.mark.parametrize(
    ("wall_then", "wall_now", "reason"),
    [(100.0, 104.0, None), (100.0, 106.0, "6.0 s old"), (100.0, 99.0, "clock was set back")],
)
def test_across_boots_the_wall_clock_decides(
    open_memory: Open, clock: FakeClock, wall_then: float, wall_now: float, reason: str | None
) -> None:
    memory = open_memory(boot="first", wall_s=lambda: wall_then)
    memory.save_belief(checkpoint())
    memory.close()
    found = open_memory(boot="second", wall_s=lambda: wall_now).restore_belief(5.0, context=3)
    assert isinstance(found, BeliefCheckpoint) if reason is None else reason in str(found)


def test_no_belief_a_damaged_one_and_a_broken_one_are_cold_starts(open_memory: Open) -> None:
    memory = open_memory()
    assert memory.restore_belief(5.0, context=3) == "no belief was saved"
    broken = checkpoint()
    broken.context[0, 0, 0] = np.nan
    memory.save_belief(broken)
    assert "not finite" in str(memory.restore_belief(5.0, context=3))
    memory.save_belief(checkpoint())
    memory.close()
    with sqlite3.connect(memory.folder / "memory.sqlite") as connection:
        connection.execute("UPDATE belief SET context = zeroblob(length(context))")
    connection.close()
    assert "damaged" in str(open_memory().restore_belief(5.0, context=3))


def test_a_belief_of_other_shapes_is_refused(open_memory: Open) -> None:
    memory = open_memory()
    good = checkpoint()
    for bad in (
        replace(good, context=good.context[:, :3]),
        replace(good, actions=good.actions[:1]),
        replace(good, context=good.context.astype(np.float64)),
        replace(good, context=good.context[:0]),
    ):
        with pytest.raises(ValueError, match="a belief of this bundle"):
            memory.save_belief(bad)


def test_a_checkpoint_is_taken_from_a_belief() -> None:
    good = checkpoint()
    belief = Belief(good.context[-1], None, good.context, good.actions, 5, 0)
    taken = BeliefCheckpoint.of(belief, "cam")
    assert taken.context is good.context and taken.actions is good.actions
    assert (taken.captured_ns, taken.camera) == (5, "cam")


def test_pooling_is_the_mean_over_tokens() -> None:
    tokens = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert pooled(tokens).tolist() == [4.0, 5.0, 6.0, 7.0]
    assert pooled(tokens).dtype == np.float32
