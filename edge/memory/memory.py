"""Memory that outlives the process: one writer thread, one SQLite connection, an exact index in RAM."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from edge.clock import Clock
from edge.memory import ledger
from edge.memory.concepts import DEFAULT_CAPACITY, Concepts, ConceptSnapshot
from edge.memory.episode import KINDS, MAX_EPISODE_BYTES, MAX_ID, BeliefCheckpoint, Episode
from edge.memory.index import LatentIndex, Match
from edge.memory.ledger import MemoryUnavailable, SavedBelief, Signature
from edge.messages import Floats, MemoryCounts

log = logging.getLogger(__name__)
T = TypeVar("T")

COMMIT_EVERY_S = 0.5
BATCH_ROWS = 64
QUEUE_ROWS = 256
RETRY_AFTER_S = 1.0
CHECKPOINT_AT_BYTES = 2 << 20
MIN_BYTES = 4 << 20


class Memory:
    """Episodes, concepts and the belief checkpoint of one robot or camera, in one folder.

    All methods may be called from any thread. ``remember``, ``save_belief``, ``save_concepts``, ``counts`` and
    ``nearest`` are for the loop: they touch no disk. ``flush``, ``episodes``, ``episode``, ``load_concepts``,
    ``restore_belief`` and ``close`` wait for the writer thread and are for everybody else.
    """

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        lock: IO[str],
        signature: Signature,
        limits: tuple[int, int],
        clock: Clock,
        wall_s: Callable[[], float],
        boot: str,
        notes: list[str],
    ) -> None:
        self.folder = folder
        self.notes = tuple(notes)
        self._connection = connection
        self._lock_file = lock
        self._signature = signature
        self._max_episodes, self._max_bytes = limits
        self._clock = clock
        self._wall_s = wall_s
        self._boot = boot

        self._changed = threading.Condition()  # guards everything down to the blank line
        self._queue: deque[Episode] = deque()
        self._belief: SavedBelief | None = None
        self._concepts: ConceptSnapshot | None = None
        self._requests: list[Callable[[], None]] = []
        self._pending_since: float | None = None
        self._retry_at = 0.0
        self._closing = False
        self._dropped = 0
        self._degraded = ""

        self._index_lock = threading.Lock()
        self._index = LatentIndex(signature.dim)
        self._sizes: dict[str, dict[int, int]] = {kind: {} for kind in KINDS}  # kind -> id -> bytes, oldest first
        for row in ledger.read_index(connection, signature.dim):
            self._index.put(row.id, row.latent)
            self._sizes.setdefault(row.kind, {})[row.id] = row.size
        self._next_id = ledger.highest_id(connection) + 1
        self._committed_id = self._next_id - 1
        concepts = ledger.read_concepts(connection, signature.dim)
        self._saved_concepts = 0 if isinstance(concepts, str) else len(concepts.latents)
        self._counts = self._count()
        self._writer = threading.Thread(target=self._run, name="memory", daemon=True)
        self._writer.start()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        bundle_sha256: str,
        tokens: int,
        dim: int,
        actions: int,
        clock: Clock,
        max_episodes: int = 20_000,
        max_bytes: int = 512 << 20,
        wall_s: Callable[[], float] = time.time,
        boot: str = "",
    ) -> Memory:
        """Open the folder's memory, or begin an empty one. Blocks while the whole file is checked.

        tokens, dim, actions: T, D and A of the bundle. boot: names this boot of the machine, empty to ask the kernel.
        A damaged file is moved aside, which :attr:`notes` then say (one sentence each, for the status page).
        Raises MemoryUnavailable; ValueError on limits that make no sense.
        """
        if max_episodes < 1 or max_bytes < MIN_BYTES:
            raise ValueError(
                f"memory needs max_episodes >= 1 and max_bytes >= {MIN_BYTES}, not {max_episodes} and {max_bytes}"
            )
        signature = Signature(bundle_sha256, tokens, dim, actions)
        notes: list[str] = []
        lock = ledger.lock_folder(folder)
        try:
            connection = ledger.open_ledger(folder, signature, notes)
        except MemoryUnavailable:
            lock.close()
            raise
        for note in notes:
            log.warning(note)
        limits = (max_episodes, max_bytes)
        try:
            return cls(folder, connection, lock, signature, limits, clock, wall_s, boot or _boot_id(), notes)
        except sqlite3.Error as error:
            connection.close()
            lock.close()
            raise MemoryUnavailable(
                f"the memory in {folder} cannot be read ({error}): check the disk or choose another folder"
            ) from None

    # -- for the loop: never blocks on the disk ------------------------------------------------------------------

    def remember(self, episode: Episode) -> int:
        """Queue an episode for the ledger and return its id at once.

        With ``episode.id`` set it replaces that episode (frames after the moment arrive later than the moment). A full
        queue drops its oldest entry and counts it in :attr:`dropped`. Raises ValueError on shapes that do not belong to
        this bundle, MemoryUnavailable after :meth:`close`.
        """
        self._refuse_misfit(episode)
        with self._changed:
            self._refuse_closed()
            episode_id = episode.id
            if episode_id == 0:
                episode_id = self._next_id
                self._next_id += 1
            self._queue.append(replace(episode, id=episode_id))
            self._drop_old()
            self._note_pending()
        return episode_id

    def save_belief(self, checkpoint: BeliefCheckpoint) -> None:
        """Queue the newest belief; an older one still waiting is replaced. Raises ValueError on wrong shapes."""
        s = self._signature
        steps = len(checkpoint.context)
        fits = (
            steps > 0
            and checkpoint.context.shape == (steps, s.tokens, s.dim)
            and checkpoint.actions.shape == (steps - 1, s.actions)
            and checkpoint.context.dtype == checkpoint.actions.dtype == np.float32
        )
        if not fits:
            raise ValueError(
                f"a belief of this bundle is float32 (C, {s.tokens}, {s.dim}) with actions float32 "
                f"(C - 1, {s.actions}), not {checkpoint.context.dtype} {checkpoint.context.shape} "
                f"with {checkpoint.actions.shape}"
            )
        saved = SavedBelief(checkpoint, self._wall_s(), self._clock.now_ns(), self._boot)
        with self._changed:
            self._refuse_closed()
            self._belief = saved
            self._note_pending()

    def save_concepts(self, concepts: Concepts) -> None:
        """Queue a copy of all concepts (N x D x 4 bytes: not for every tick); replaces one still waiting."""
        if concepts.dim != self._signature.dim:
            raise ValueError(f"these concepts have dim {concepts.dim} and the bundle {self._signature.dim}")
        snapshot = concepts.snapshot()
        with self._changed:
            self._refuse_closed()
            self._concepts = snapshot
            self._note_pending()

    def nearest(self, latent: Floats, k: int = 5) -> list[Match]:
        """The k committed episodes with the nearest pooled latents, nearest first. latent: float32 (D,)."""
        if latent.shape != (self._signature.dim,):
            raise ValueError(f"recall takes a pooled latent of shape ({self._signature.dim},), not {latent.shape}")
        with self._index_lock:
            return self._index.nearest(latent, k)

    def counts(self) -> MemoryCounts:
        """What is surely in the ledger."""
        return self._counts

    @property
    def committed_id(self) -> int:
        """Every episode with an id up to this one is in the ledger, was forgotten by the rule or counted as dropped."""
        return self._committed_id

    @property
    def dropped(self) -> int:
        """Episodes lost before they were written, since opening: queue full, or still unwritable at closing."""
        return self._dropped

    @property
    def degraded(self) -> str:
        """Why nothing can be written at the moment, one sentence; empty when all is well."""
        return self._degraded

    # -- for everybody else: waits for the writer ----------------------------------------------------------------

    def flush(self) -> None:
        """Block until everything queued so far is committed. Raises MemoryUnavailable if it cannot be."""
        degraded = self._ask(lambda: self._degraded)
        if degraded:
            raise MemoryUnavailable(degraded)

    def episodes(self, limit: int = 50, kind: str | None = None, cause: str | None = None) -> list[Episode]:
        """The newest episodes first, including those queued just now."""
        return self._ask(lambda: ledger.read_episodes(self._connection, limit, kind, cause))

    def episode(self, episode_id: int) -> Episode | None:
        """One episode, or None if it is unknown or forgotten."""
        return self._ask(lambda: ledger.read_episode(self._connection, episode_id))

    def load_concepts(self, capacity: int = DEFAULT_CAPACITY) -> Concepts:
        """The saved concepts; empty ones if none were saved or they do not fit their checksum (which is logged)."""
        found = self._ask(lambda: ledger.read_concepts(self._connection, self._signature.dim))
        if isinstance(found, str):
            log.info("starting with empty concepts: %s", found)
            return Concepts(self._signature.dim, capacity)
        return Concepts.restored(found, capacity)

    def restore_belief(self, max_age_s: float, *, context: int, camera: str = "") -> BeliefCheckpoint | str:
        """The saved belief if it may still be believed, else the reason for a cold start.

        context: C of the bundle. camera: the fingerprint now. Its age counts by the monotonic clock within one boot
        and by the wall clock across boots; a wall clock that went backwards is a reason, not an age.
        """
        found = self._ask(lambda: ledger.read_belief(self._connection, self._signature))
        if isinstance(found, str):
            return found
        checkpoint = found.checkpoint
        if found.boot == self._boot:
            age_s = (self._clock.now_ns() - found.at_ns) / 1e9
        else:
            age_s = self._wall_s() - found.wall_s
        if age_s < 0.0:
            return "the saved belief is from the future: the clock was set back"
        if age_s > max_age_s:
            return f"the saved belief is {age_s:.1f} s old and may be {max_age_s:.1f} s at most"
        if len(checkpoint.context) != context:
            return f"the saved belief has {len(checkpoint.context)} context frames and the bundle wants {context}"
        if checkpoint.camera != camera:
            return "the saved belief was seen with another camera or camera calibration"
        if not (np.isfinite(checkpoint.context).all() and np.isfinite(checkpoint.actions).all()):
            return "the saved belief is not finite"
        return replace(checkpoint, age_s=age_s)

    def close(self) -> None:
        """Commit what can be committed and give the folder back. Safe to call twice; never raises."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join(timeout=10.0)
        if self._writer.is_alive():
            log.warning("the memory in %s is still waiting for its disk and was left behind", self.folder)

    # -- the writer thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:
            log.exception("the memory writer stopped")
            with self._changed:
                self._degraded = f"the memory writer stopped ({error}): restart latentloop and report this"
        finally:
            with self._changed:
                self._closing = True
                self._dropped += len(self._queue)
                self._queue.clear()
                late, self._requests = self._requests, []
            for request in late:
                request()
            try:
                self._connection.close()
            except sqlite3.Error as error:
                log.warning("closing the memory %s: %s", self.folder, error)
            self._lock_file.close()

    def _turn(self) -> bool:
        with self._changed:
            while (wait_s := self._seconds_until_due()) is None or wait_s > 0.0:
                self._changed.wait(wait_s)
            closing = self._closing
            requests, self._requests = self._requests, []
        while self._commit_batch():
            pass
        for request in requests:
            request()
        return not closing

    def _seconds_until_due(self) -> float | None:
        if self._closing or self._requests:
            return 0.0
        if self._pending_since is None:
            return None
        due = 0.0 if len(self._queue) >= BATCH_ROWS else self._pending_since + COMMIT_EVERY_S
        return max(due, self._retry_at) - time.monotonic()

    def _commit_batch(self) -> bool:
        """Write one batch; True if there may be more to write at once."""
        with self._changed:
            taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_ROWS))]
            batch = list({episode.id: episode for episode in taken}.values())  # of two versions the newer counts
            belief, self._belief = self._belief, None
            concepts, self._concepts = self._concepts, None
            if not batch and belief is None and concepts is None:
                self._pending_since = None
                return False
        try:
            with ledger.transaction(self._connection):
                for episode in batch:
                    ledger.write_episode(self._connection, episode)
                if belief is not None:
                    ledger.write_belief(self._connection, belief)
                if concepts is not None:
                    ledger.write_concepts(self._connection, concepts)
                forgotten = self._forget(batch)
        except sqlite3.Error as error:
            self._keep_for_later(batch, belief, concepts, error)
            return False
        with self._index_lock:
            for episode in batch:
                self._index.put(episode.id, episode.latent)
                for sizes in self._sizes.values():
                    sizes.pop(episode.id, None)
                self._sizes[episode.kind][episode.id] = episode.payload_bytes()
            for episode_id in forgotten:
                self._index.remove(episode_id)
                for sizes in self._sizes.values():
                    sizes.pop(episode_id, None)
        if concepts is not None:
            self._saved_concepts = len(concepts.latents)
        if batch:
            self._committed_id = max(self._committed_id, *(episode.id for episode in batch))
        self._counts = self._count()
        self._recover()
        self._checkpoint()
        return True

    def _forget(self, batch: list[Episode]) -> list[int]:
        """Delete, inside the open transaction, what is over the limits: kinds in the order of KINDS, oldest first."""
        order = self._first_forgotten(batch)
        total = len(self._index) + sum(episode.id not in self._index for episode in batch)
        victims = [episode_id for episode_id, _ in islice(order, max(0, total - self._max_episodes))]
        ledger.delete_episodes(self._connection, victims)
        while (over := ledger.used_bytes(self._connection) - self._max_bytes) > 0:
            more: list[int] = []
            for episode_id, size in order:
                more.append(episode_id)
                over -= size
                if over <= 0:
                    break
            if not more:
                break
            ledger.delete_episodes(self._connection, more)
            victims += more
        return victims

    def _first_forgotten(self, batch: list[Episode]) -> Iterator[tuple[int, int]]:
        """(id, bytes) of all episodes in the order of forgetting; lazily, because mostly none is wanted."""
        new = {episode.id for episode in batch}
        for kind in (*(k for k in self._sizes if k not in KINDS), *KINDS):
            yield from ((i, size) for i, size in self._sizes.get(kind, {}).items() if i not in new)
            yield from ((e.id, e.payload_bytes()) for e in batch if e.kind == kind)

    def _keep_for_later(
        self, batch: list[Episode], belief: SavedBelief | None, concepts: ConceptSnapshot | None, error: sqlite3.Error
    ) -> None:
        reason = (
            f"the memory {self.folder / ledger.FILE_NAME} cannot be written ({error}): "
            "free some space or check the disk; what was committed is safe and the newest episodes wait in RAM"
        )
        with self._changed:
            self._queue.extendleft(reversed(batch))
            self._drop_old()
            self._belief = self._belief or belief
            self._concepts = self._concepts or concepts
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            if self._closing:
                self._dropped += len(self._queue)
                self._queue.clear()
            changed, self._degraded = self._degraded != reason, reason
        if changed:
            log.warning(reason)

    def _recover(self) -> None:
        with self._changed:
            was, self._degraded, self._retry_at = self._degraded, "", 0.0
        if was:
            log.warning("the memory %s can be written again", self.folder)

    def _checkpoint(self) -> None:
        try:
            if ledger.bytes_on_disk(self.folder, log_only=True) > CHECKPOINT_AT_BYTES:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:  # the commit itself is safe in the log; the next one tries again
            log.info("the memory log of %s could not be folded in yet: %s", self.folder, error)

    def _count(self) -> MemoryCounts:
        return MemoryCounts(len(self._index), self._saved_concepts, ledger.bytes_on_disk(self.folder))

    # -- helpers of the callers ----------------------------------------------------------------------------------

    def _ask(self, question: Callable[[], T]) -> T:
        """Let the writer answer after it has committed what was queued before."""
        answer: Future[T] = Future()

        def request() -> None:
            try:
                answer.set_result(question())
            except sqlite3.Error as error:
                answer.set_exception(
                    MemoryUnavailable(f"the memory in {self.folder} cannot be read ({error}): check the disk")
                )
            except Exception as error:  # noqa: BLE001 - it belongs to the asker, who would otherwise wait for ever
                answer.set_exception(error)

        with self._changed:
            self._refuse_closed()
            self._requests.append(request)
            self._changed.notify_all()
        return answer.result()

    def _note_pending(self) -> None:
        if self._pending_since is None:
            self._pending_since = time.monotonic()
            self._changed.notify_all()
        elif len(self._queue) == BATCH_ROWS:
            self._changed.notify_all()

    def _drop_old(self) -> None:
        while len(self._queue) > QUEUE_ROWS:
            self._queue.popleft()
            self._dropped += 1

    def _refuse_closed(self) -> None:
        if self._closing:
            raise MemoryUnavailable(self._degraded or f"the memory in {self.folder} is closed: open it again")

    def _refuse_misfit(self, episode: Episode) -> None:
        s = self._signature
        if episode.latent.shape != (s.dim,) or episode.latent.dtype != np.float32:
            raise ValueError(
                f"an episode's latent is float32 ({s.dim},), not {episode.latent.dtype} {episode.latent.shape}"
            )
        if episode.action.shape not in ((0,), (s.actions,)) or episode.action.dtype != np.float32:
            raise ValueError(
                f"an episode's action is float32 ({s.actions},) or (0,), "
                f"not {episode.action.dtype} {episode.action.shape}"
            )
        if episode.kind not in KINDS:
            raise ValueError(f"an episode's kind is one of {', '.join(KINDS)}, not {episode.kind!r}")
        if not 0 <= episode.id < MAX_ID or (episode.id and episode.id >= self._next_id):
            raise ValueError(f"episode id {episode.id} was never given: leave it 0 for a new episode")
        if not 0.0 <= episode.p_value <= 1.0:
            raise ValueError(f"an episode's p_value lies in [0, 1], not {episode.p_value}")
        if episode.payload_bytes() > MAX_EPISODE_BYTES:
            raise ValueError(
                f"an episode may take {MAX_EPISODE_BYTES} bytes, not {episode.payload_bytes()}: send smaller pictures"
            )


def _boot_id() -> str:
    """Names this boot of the machine, so that monotonic times of two boots are never compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"unknown-{time.time_ns()}"
