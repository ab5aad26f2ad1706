"""The ledger file: opening and checking it, setting a damaged one aside, and all SQL that is spoken to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from edge.errors import UserError
from edge.memory.concepts import ConceptSnapshot
from edge.memory.episode import BeliefCheckpoint, Episode
from edge.messages import Floats

FILE_NAME = "memory.sqlite"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x4C4C4D31  # "LLM1", so that somebody else's database is never written to

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE episodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, cause TEXT NOT NULL, detail TEXT NOT NULL,
    at_ns INTEGER NOT NULL, wall_s REAL NOT NULL, p_value REAL NOT NULL, size INTEGER NOT NULL, crc INTEGER NOT NULL,
    latent BLOB NOT NULL, action BLOB NOT NULL, thumbnail BLOB NOT NULL, frames BLOB NOT NULL);
CREATE TABLE belief (
    id INTEGER PRIMARY KEY CHECK (id = 1), wall_s REAL NOT NULL, at_ns INTEGER NOT NULL, boot TEXT NOT NULL,
    camera TEXT NOT NULL, captured_ns INTEGER NOT NULL, steps INTEGER NOT NULL, crc INTEGER NOT NULL,
    context BLOB NOT NULL, actions BLOB NOT NULL);
CREATE TABLE concepts (
    id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, radius REAL NOT NULL, crc INTEGER NOT NULL,
    latents BLOB NOT NULL, counts BLOB NOT NULL, last_seen BLOB NOT NULL);
"""
_COLUMNS = "id, kind, cause, detail, at_ns, wall_s, p_value, crc, latent, action, thumbnail, frames"


class MemoryUnavailable(UserError):
    """The memory cannot be used; the message is one sentence: what is wrong, where, what to do."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Whose latents a ledger holds: they mean nothing to another bundle."""

    bundle_sha256: str
    tokens: int
    dim: int
    actions: int


@dataclass(frozen=True, slots=True)
class SavedBelief:
    """A belief checkpoint as found in the ledger, with what is needed to judge its age."""

    checkpoint: BeliefCheckpoint
    wall_s: float
    at_ns: int
    boot: str


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What is kept in RAM of every episode. latent: float32 (D,)."""

    id: int
    kind: str
    size: int
    latent: Floats


def lock_folder(folder: Path) -> IO[str]:
    """Make the folder and hold it for this process until the returned file is closed. Raises MemoryUnavailable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "memory.lock").open("a+")
    except OSError as error:
        raise MemoryUnavailable(
            f"the memory folder {folder} cannot be written ({error.strerror or error}): "
            "choose a folder on a writable disk that this user may write to"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise MemoryUnavailable(
            f"the memory in {folder} is in use by another running latentloop: stop that one or choose another folder"
        ) from None
    return handle


def open_ledger(folder: Path, signature: Signature, notes: list[str]) -> sqlite3.Connection:
    """The one writing connection to the folder's ledger, made if it is not there. Blocks for a whole-file check.

    A damaged file is moved aside and said so in ``notes``. Raises MemoryUnavailable (unwritable or full disk, another
    program's file, other format version, other bundle or shapes).
    """
    path = folder / FILE_NAME
    if path.exists():
        damage = find_damage(path)
        if damage:
            aside = _move_aside(path)
            notes.append(f"the memory {path} was damaged ({damage}): it was moved to {aside} and an empty one begun")
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.2)
        _prepare(connection, path, signature)
    except (sqlite3.Error, MemoryUnavailable) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, MemoryUnavailable):
            raise
        raise MemoryUnavailable(
            f"the memory {path} cannot be written ({error}): "
            "free some space, check the permissions or choose another folder"
        ) from None
    return connection


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """A connection that never writes, also beside a running latentloop. Raises MemoryUnavailable."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise MemoryUnavailable(f"there is no memory in {folder}: give the folder of a robot or camera with --folder")
    try:
        connection = _connect_read_only(path)
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    except sqlite3.Error as error:
        raise MemoryUnavailable(
            f"the memory {path} cannot be read ({error}): "
            "start latentloop with this folder to have it set aside, or restore a copy"
        ) from None
    if empty:  # killed between making the file and its first commit
        connection.close()
        raise MemoryUnavailable(f"the memory {path} was never written to: start latentloop with this folder first")
    if found != APPLICATION_ID or version != SCHEMA_VERSION:
        connection.close()
        raise _wrong_format(path, found, version)
    return connection


def find_damage(path: Path) -> str:
    """Empty if SQLite finds the file sound, else what is wrong. Reads the whole file, changes nothing."""
    try:
        with contextlib.closing(_connect_read_only(path)) as connection:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return ""  # cannot be read at all: the writing connection will say why, and the file stays where it is
    except sqlite3.DatabaseError as error:
        return str(error)
    found = "" if answer is None else str(answer[0])
    return "" if found == "ok" else found.splitlines()[-1]


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    try:
        connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=2.0)
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # On read-only media SQLite cannot make its shared-memory file; without a log there is nothing it would add.
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size > 0:
            raise
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, timeout=2.0)
    return connection


def _move_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        for suffix in ("-wal", "-shm", ""):  # the file itself last: until then the damage is found again
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise MemoryUnavailable(
            f"the memory {path} is damaged and cannot be moved aside ({error.strerror}): "
            "make the folder writable or choose another"
        ) from None
    return aside


def _wrong_format(path: Path, application: int, version: int) -> MemoryUnavailable:
    if application != APPLICATION_ID:
        return MemoryUnavailable(f"{path} is not a latentloop memory: choose another folder")
    return MemoryUnavailable(
        f"the memory {path} has format version {version} and this program writes version {SCHEMA_VERSION}: "
        "use the matching latentloop or choose another folder"
    )


def _prepare(connection: sqlite3.Connection, path: Path, signature: Signature) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # the owner checkpoints, where it can see the result
    connection.execute("PRAGMA journal_size_limit = 4194304")
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        with transaction(connection):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            rows = [(name, str(getattr(signature, name))) for name in Signature.__slots__]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID or version != SCHEMA_VERSION:
        raise _wrong_format(path, application, version)
    meta = read_meta(connection)
    if meta.get("bundle_sha256") != signature.bundle_sha256:
        raise MemoryUnavailable(
            f"the memory {path} belongs to bundle {meta.get('bundle_sha256', '?')[:12]} and this is bundle "
            f"{signature.bundle_sha256[:12]}, whose latents differ: use that bundle or choose another folder"
        )
    for name in ("tokens", "dim", "actions"):
        if meta.get(name) != str(getattr(signature, name)):
            raise MemoryUnavailable(
                f"the memory {path} holds latents with {name} = {meta.get(name)} and the bundle says "
                f"{getattr(signature, name)}: choose another folder"
            )
    with transaction(connection):  # a real write: an unwritable or full disk shows now, not at the first alarm
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('opened', 'yes')")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite rolls back by itself on some errors, a full disk is one
            connection.execute("ROLLBACK")
        raise


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT key, value FROM meta"))


def write_episode(connection: sqlite3.Connection, episode: Episode) -> None:
    """Insert, or replace the one with the same id, so that a batch may be written twice without harm."""
    blobs = (
        np.ascontiguousarray(episode.latent).tobytes(),
        np.ascontiguousarray(episode.action).tobytes(),
        episode.thumbnail,
        msgspec.msgpack.encode((episode.before, episode.after)),
    )
    labels = (episode.kind, episode.cause, episode.detail)
    connection.execute(
        "INSERT OR REPLACE INTO episodes (id, kind, cause, detail, at_ns, wall_s, p_value, size, crc, "
        "latent, action, thumbnail, frames) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            episode.id, *labels, episode.at_ns, episode.wall_s, episode.p_value, episode.payload_bytes(),
            _checksum(*(label.encode() for label in labels), *blobs), *blobs,
        ),
    )  # fmt: skip


def delete_episodes(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    connection.executemany("DELETE FROM episodes WHERE id = ?", [(episode_id,) for episode_id in ids])


def read_episodes(
    connection: sqlite3.Connection, limit: int, kind: str | None = None, cause: str | None = None
) -> list[Episode]:
    """The newest first; rows whose checksum does not fit are left out (``verify`` names them)."""
    sql = f"SELECT {_COLUMNS} FROM episodes"
    values: list[str] = []
    for name, wanted in (("kind", kind), ("cause", cause)):
        if wanted is not None:
            sql += (" AND " if values else " WHERE ") + f"{name} = ?"
            values.append(wanted)
    rows = connection.execute(f"{sql} ORDER BY id DESC LIMIT ?", (*values, limit))
    return [episode for episode in map(_episode, rows) if episode is not None]


def read_episode(connection: sqlite3.Connection, episode_id: int) -> Episode | None:
    if not 0 < episode_id < 1 << 63:
        return None
    row = connection.execute(f"SELECT {_COLUMNS} FROM episodes WHERE id = ?", (episode_id,)).fetchone()
    return None if row is None else _episode(row)


def unreadable_episodes(connection: sqlite3.Connection) -> list[int]:
    """Ids of rows whose content does not fit its checksum. Reads every row."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM episodes ORDER BY id")
    return [int(row[0]) for row in rows if _episode(row) is None]


def read_index(connection: sqlite3.Connection, dim: int) -> Iterator[IndexRow]:
    """What the index in RAM is rebuilt from, oldest first."""
    for episode_id, kind, size, latent in connection.execute("SELECT id, kind, size, latent FROM episodes ORDER BY id"):
        if len(latent) == 4 * dim:
            yield IndexRow(episode_id, kind, size, np.frombuffer(latent, dtype=np.float32))


def highest_id(connection: sqlite3.Connection) -> int:
    """The highest id ever given, also if that episode is forgotten by now."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'episodes'").fetchone()
    return 0 if row is None else int(row[0])


def write_belief(connection: sqlite3.Connection, belief: SavedBelief) -> None:
    checkpoint = belief.checkpoint
    blobs = (np.ascontiguousarray(checkpoint.context).tobytes(), np.ascontiguousarray(checkpoint.actions).tobytes())
    connection.execute(
        "INSERT OR REPLACE INTO belief VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            belief.wall_s, belief.at_ns, belief.boot, checkpoint.camera, checkpoint.captured_ns,
            len(checkpoint.context), _checksum(*blobs), *blobs,
        ),
    )  # fmt: skip


def read_belief(connection: sqlite3.Connection, signature: Signature) -> SavedBelief | str:
    """The checkpoint, or why there is none."""
    row = connection.execute("SELECT * FROM belief").fetchone()
    if row is None:
        return "no belief was saved"
    _, wall_s, at_ns, boot, camera, captured_ns, steps, crc, context, actions = row
    token_bytes, action_bytes = 4 * signature.tokens * signature.dim, 4 * signature.actions
    sizes_fit = len(context) == steps * token_bytes and len(actions) == (steps - 1) * action_bytes
    if crc != _checksum(context, actions) or not sizes_fit:
        return "the saved belief is damaged (its checksum or size does not fit)"
    checkpoint = BeliefCheckpoint(
        np.frombuffer(context, dtype=np.float32).reshape(steps, signature.tokens, signature.dim),
        np.frombuffer(actions, dtype=np.float32).reshape(steps - 1, signature.actions),
        captured_ns,
        camera,
    )
    return SavedBelief(checkpoint, wall_s, at_ns, boot)


def write_concepts(connection: sqlite3.Connection, snapshot: ConceptSnapshot) -> None:
    blobs = (snapshot.latents.tobytes(), snapshot.counts.tobytes(), snapshot.last_seen.tobytes())
    connection.execute(
        "INSERT OR REPLACE INTO concepts VALUES (1, ?, ?, ?, ?, ?, ?)",
        (len(snapshot.latents), snapshot.radius, _checksum(*blobs), *blobs),
    )


def read_concepts(connection: sqlite3.Connection, dim: int) -> ConceptSnapshot | str:
    """The concepts, or why there are none."""
    row = connection.execute("SELECT * FROM concepts").fetchone()
    if row is None:
        return "no concepts were saved"
    _, number, radius, crc, latents, counts, last_seen = row
    if crc != _checksum(latents, counts, last_seen) or len(latents) != 4 * dim * number:
        return "the saved concepts are damaged (their checksum or size does not fit)"
    return ConceptSnapshot(
        np.frombuffer(latents, dtype=np.float32).reshape(number, dim),
        np.frombuffer(counts, dtype=np.int64),
        np.frombuffer(last_seen, dtype=np.float64),
        radius,
    )


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes in use inside the file, also within an open transaction; freed pages are used again and do not count."""
    page_size, pages, free = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    return page_size * (pages - free)


def bytes_on_disk(folder: Path, *, log_only: bool = False) -> int:
    """Size of the ledger and its write-ahead log as the disk sees it."""
    total = 0
    for suffix in ("-wal",) if log_only else ("", "-wal"):
        with contextlib.suppress(OSError):
            total += os.stat(folder / (FILE_NAME + suffix)).st_size
    return total


def _episode(row: tuple[object, ...]) -> Episode | None:
    episode_id, kind, cause, detail, at_ns, wall_s, p_value, crc, latent, action, thumbnail, frames = row
    if not (isinstance(kind, str) and isinstance(cause, str) and isinstance(detail, str)):
        return None
    blobs = [blob for blob in (latent, action, thumbnail, frames) if isinstance(blob, bytes)]
    if len(blobs) != 4 or crc != _checksum(kind.encode(), cause.encode(), detail.encode(), *blobs):
        return None
    before, after = msgspec.msgpack.decode(blobs[3], type=tuple[tuple[bytes, ...], tuple[bytes, ...]])
    return replace(
        Episode(kind, cause, detail, _whole(at_ns), _real(wall_s), np.frombuffer(blobs[0], dtype=np.float32)),
        action=np.frombuffer(blobs[1], dtype=np.float32),
        p_value=_real(p_value),
        thumbnail=blobs[2],
        before=before,
        after=after,
        id=_whole(episode_id),
    )


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value


def _real(value: object) -> float:
    assert isinstance(value, (int, float))
    return float(value)


def _checksum(*parts: bytes) -> int:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, zlib.crc32(len(part).to_bytes(8, "little"), crc))
    return crc
