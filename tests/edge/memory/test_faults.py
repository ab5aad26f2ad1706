"""What the ledger stands: kills, damage, foreign files, full disks. Real processes, real file systems."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.memory import Episode, Memory, MemoryUnavailable, kill_test
from edge.memory import memory as module

Open = Callable[..., Memory]
Make = Callable[..., Episode]
ROOT = Path(module.__file__).resolve().parents[2]


def test_twenty_random_kills_lose_nothing_committed(tmp_path: Path) -> None:
    report = kill_test.run_kills(tmp_path, kills=20, seed=random.SystemRandom().randrange(2**32))
    assert (report.kills, report.lost, report.damaged) == (20, 0, 0), report
    assert report.writing >= 15, "the kills must hit writing children"


def test_the_kill_count_can_fail(tmp_path: Path, open_memory: Open) -> None:
    """A ledger that lost its last episodes must show up as a loss, or the test above proves nothing."""
    keys = {"bundle_sha256": "kill-test", "tokens": 1, "dim": 16, "actions": 0}
    memory = open_memory(tmp_path, **keys)
    for number in range(1, 11):
        memory.remember(kill_test._episode(number))
    memory.close()
    assert kill_test._losses(tmp_path, 10) == (0, 0)
    assert kill_test._losses(tmp_path, 12) == (2, 0)
    connection = sqlite3.connect(tmp_path / "memory.sqlite")
    connection.execute("UPDATE episodes SET detail = 'half written' WHERE id = 4")
    connection.commit()
    connection.close()
    assert kill_test._losses(tmp_path, 10) == (1, 1)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "scribbled"])
def test_a_damaged_file_is_set_aside_and_said_so(open_memory: Open, episode: Make, damage: str) -> None:
    for round_number in (1, 2):
        memory = open_memory()
        for number in range(30):
            memory.remember(episode(number, thumbnail=bytes(5000)))
        memory.close()
        path = memory.folder / "memory.sqlite"
        content = path.read_bytes()
        broken = {
            "garbage": b"this is not a database" * 1000,
            "truncated": content[: len(content) // 2],
            "scribbled": content[:4096] + b"\xff" * 8192 + content[12288:],
        }[damage]
        path.write_bytes(broken)
        reopened = open_memory()
        assert reopened.counts().episodes == 0
        (note,) = reopened.notes
        assert "damaged" in note and f"damaged-{round_number}" in note
        assert (memory.folder / f"memory.sqlite.damaged-{round_number}").read_bytes() == broken
        assert reopened.remember(episode(1)) == 1
        reopened.flush()
        reopened.close()


def test_random_damage_never_gives_anything_but_a_memory_or_a_sentence(open_memory: Open, episode: Make) -> None:
    draw = random.Random(5)
    memory = open_memory()
    for number in range(40):
        memory.remember(episode(number, thumbnail=draw.randbytes(3000)))
    memory.close()
    path = memory.folder / "memory.sqlite"
    good = path.read_bytes()
    for _ in range(40):
        broken = bytearray(good)
        for _ in range(draw.randint(1, 6)):
            place = draw.choice((draw.randrange(len(broken)), draw.randrange(200)))
            broken[place : place + 4] = draw.randbytes(4)
        path.write_bytes(broken)
        try:
            reopened = open_memory()
        except MemoryUnavailable as error:
            assert str(path.parent) in str(error) and "Traceback" not in str(error)
            continue
        for found in reopened.episodes(limit=100):  # what is shown is as it was written
            if not reopened.notes:
                assert found.detail == f"number {found.id - 1}"
        reopened.close()


def test_a_row_that_lost_bits_is_left_out(open_memory: Open, episode: Make) -> None:
    memory = open_memory()
    for number in range(1, 4):
        memory.remember(episode(number))
    memory.close()
    connection = sqlite3.connect(memory.folder / "memory.sqlite")
    connection.execute("UPDATE episodes SET thumbnail = x'00' WHERE id = 2")
    connection.commit()
    connection.close()
    assert [e.id for e in open_memory().episodes()] == [3, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bundle_sha256": "c" * 64}, ("belongs to bundle bbbbbbbbbbbb", "choose another folder")),
        ({"tokens": 5}, ("tokens = 4", "5")),
        ({"dim": 9}, ("dim = 8", "9")),
        ({"actions": 3}, ("actions = 2", "3")),
    ],
)
def test_the_memory_of_another_bundle_is_refused_and_left_alone(
    open_memory: Open, episode: Make, change: dict[str, object], words: tuple[str, ...]
) -> None:
    memory = open_memory()
    memory.remember(episode())
    memory.close()
    with pytest.raises(MemoryUnavailable) as refused:
        open_memory(**change)
    assert all(word in str(refused.value) for word in words)
    assert open_memory().counts().episodes == 1


@pytest.mark.parametrize(
    ("statement", "words"),
    [("PRAGMA user_version = 2", "format version 2"), ("PRAGMA application_id = 5", "is not a latentloop memory")],
)
def test_other_formats_are_refused(open_memory: Open, statement: str, words: str) -> None:
    memory = open_memory()
    memory.close()
    connection = sqlite3.connect(memory.folder / "memory.sqlite")
    connection.execute(statement)
    connection.close()
    with pytest.raises(MemoryUnavailable, match=words):
        open_memory()


def test_one_folder_one_process(open_memory: Open) -> None:
    memory = open_memory()
    with pytest.raises(MemoryUnavailable, match="in use by another running latentloop"):
        open_memory()
    memory.close()
    open_memory()


def test_a_folder_that_cannot_be_made_is_one_sentence(open_memory: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    with pytest.raises(MemoryUnavailable, match=r"cannot be written .*choose a folder on a writable disk"):
        open_memory(tmp_path / "file" / "memory")


@pytest.mark.parametrize("limits", [{"max_episodes": 0}, {"max_bytes": module.MIN_BYTES - 1}])
def test_senseless_limits_are_refused(open_memory: Open, limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="memory needs"):
        open_memory(**limits)


_FILL = """
import resource, sys
from pathlib import Path
import numpy as np
from edge.clock import FakeClock
from edge.memory import Episode, Memory, MemoryUnavailable
memory = Memory.open(Path(sys.argv[1]), bundle_sha256="x", tokens=1, dim=4, actions=0, clock=FakeClock())
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
latent = np.zeros(4, dtype=np.float32)
sent = 0
try:
    while sent < 200:
        sent += 1
        memory.remember(Episode("alarm", "", "", 0, 0.0, latent, thumbnail=bytes(20_000)))
        memory.flush()
except MemoryUnavailable as error:
    print(memory.committed_id, str(error).replace(chr(10), " "))
memory.remember(Episode("alarm", "", "", 0, 0.0, latent))
assert memory.degraded
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
memory.flush()
print(memory.committed_id, sent + 1, memory.dropped, repr(memory.degraded), len(memory.episodes(limit=1000)))
memory.close()
"""


def test_writing_goes_on_after_the_disk_refused(tmp_path: Path) -> None:
    """The file-size limit of the operating system refuses writes in the middle of a run, then allows them again."""
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, recovered = done.stdout.splitlines()
    committed, _, sentence = refused.partition(" ")
    assert 0 < int(committed) < 200
    assert "memory.sqlite cannot be written" in sentence and "what was committed is safe" in sentence
    last, sent, dropped, degraded, found = recovered.split()
    assert (last, dropped, degraded, found) == (sent, "0", "''", sent), "nothing was lost, not even what came meanwhile"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let us mount: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_that_fills_up_loses_nothing_committed(small_disk: Path, open_memory: Open, episode: Make) -> None:
    memory = open_memory(small_disk)
    for number in range(1, 100):
        memory.remember(episode(number, thumbnail=bytes(20_000)))
        try:
            memory.flush()
        except MemoryUnavailable as error:
            assert "free some space" in str(error)
            break
    else:
        pytest.fail("100 pictures of 20 kB did not fill a disk of 1 MB")
    committed = memory.committed_id
    assert 5 < committed < 60
    assert memory.remember(episode(committed + 2)) == committed + 2, "the loop goes on"
    assert memory.counts().episodes == committed
    memory.close()
    assert memory.dropped == 2
    # Full at the start: one sentence.
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    with pytest.raises(MemoryUnavailable, match="cannot be written"):
        open_memory(small_disk / "new")
    filler.unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    reopened = open_memory(small_disk)
    assert sorted(e.id for e in reopened.episodes(limit=1000)) == list(range(1, committed + 1))


def test_a_read_only_disk_is_one_sentence_and_can_still_be_read(
    small_disk: Path, open_memory: Open, episode: Make
) -> None:
    from edge.memory import ledger

    memory = open_memory(small_disk)
    memory.remember(episode(1))
    memory.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(MemoryUnavailable, match="cannot be written"):
        open_memory(small_disk)
    connection = ledger.open_for_reading(small_disk)
    assert [e.id for e in ledger.read_episodes(connection, 10)] == [1]
    connection.close()


def test_the_log_is_folded_in_and_stays_small(open_memory: Open, episode: Make) -> None:
    memory = open_memory()
    for number in range(1, 400):
        memory.remember(episode(number, thumbnail=bytes(30_000)))
        if number % 20 == 0:
            memory.flush()
    memory.flush()
    log = memory.folder / "memory.sqlite-wal"
    deadline = time.monotonic() + 5.0
    while log.stat().st_size > 2 * module.CHECKPOINT_AT_BYTES and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log.stat().st_size <= 2 * module.CHECKPOINT_AT_BYTES
