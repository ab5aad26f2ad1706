"""Kills a writing memory at random instants and counts what was lost: ``python -m edge.memory.kill_test --kills 100``.

Each round starts a real child process on the same folder. The child remembers episodes as fast as it can, whose content
follows from their number, and prints the highest committed id. The parent kills it with SIGKILL after a random time,
start-up included, opens the ledger as a fresh process would and looks for every id the child had called committed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge.clock import MonotonicClock
from edge.memory import ledger
from edge.memory.episode import Episode
from edge.memory.ledger import MemoryUnavailable
from edge.memory.memory import Memory

_DIM = 16
_KEEP = 400
_BUNDLE = "kill-test"
_START_DEADLINE_S = 30.0


@dataclass
class KillReport:
    """What the kills did. lost: committed episodes that were gone. damaged: rounds after which SQLite or a checksum
    complained. writing: rounds in which the child had committed something before it died."""

    kills: int = 0
    writing: int = 0
    committed: int = 0
    lost: int = 0
    damaged: int = 0
    seconds: float = 0.0


def run_kills(folder: Path, kills: int, seed: int) -> KillReport:
    """Kill ``kills`` children that write into ``folder``; blocks about a quarter of a second for each."""
    draw = random.Random(seed)
    report = KillReport()
    began = time.monotonic()
    floor = 0
    for round_number in range(kills):
        # Every fifth child dies during start-up and recovery, the others while they write.
        first_words = 0 if round_number % 5 == 4 else draw.randint(1, 12)
        committed = _one_kill(folder, first_words, draw.uniform(0.0, 0.1 if first_words else 0.25))
        report.kills += 1
        report.writing += committed > 0
        floor = max(floor, committed)
        lost, damaged = _losses(folder, floor)
        report.lost += lost
        report.damaged += damaged
    report.committed = floor
    report.seconds = round(time.monotonic() - began, 2)
    return report


def _one_kill(folder: Path, words: int, after_s: float) -> int:
    """Let a child print ``words`` lines, wait ``after_s`` longer, kill it; the highest id it called committed."""
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        [sys.executable, "-m", "edge.memory.kill_test", "--child", str(folder.absolute())],
        stdin=subprocess.PIPE,  # the child leaves when this end closes, so a dying parent leaves nothing behind
        stdout=subprocess.PIPE,
        cwd=root,
        bufsize=0,
    )
    assert child.stdout is not None and child.stdin is not None
    spoken = b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + _START_DEADLINE_S
            while spoken.count(b"\n") < words:
                if not selector.select(deadline - time.monotonic()):
                    raise TimeoutError(f"the writing child said nothing for {_START_DEADLINE_S:.0f} s")
                piece = os.read(child.stdout.fileno(), 65536)
                if not piece:
                    raise ChildProcessError(f"the writing child ended by itself with status {child.wait()}")
                spoken += piece
            time.sleep(after_s)
    finally:
        child.kill()
        spoken += child.stdout.read() or b""
        child.wait()
        child.stdout.close()
        child.stdin.close()
    complete = spoken.rpartition(b"\n")[0].split()
    return int(complete[-1]) if complete else 0


def _losses(folder: Path, committed: int) -> tuple[int, int]:
    """(lost, damaged) after a kill; the forgetting rule may have taken ids up to ``committed - _KEEP``."""
    path = folder / ledger.FILE_NAME
    if ledger.find_damage(path):
        return committed, 1
    try:
        reader = ledger.open_for_reading(folder)
    except MemoryUnavailable:  # right only if it died before its first commit: then committed is 0
        return committed, 0
    with contextlib.closing(reader) as connection:
        found = {episode.id: episode for episode in ledger.read_episodes(connection, 10 * _KEEP)}
        half_written = len(ledger.unreadable_episodes(connection))
    newest = max(found, default=0)
    due = range(max(1, newest - _KEEP + 1), committed + 1)
    wrong = sum(not _same(episode, _episode(episode_id)) for episode_id, episode in found.items())
    return sum(episode_id not in found for episode_id in due), int(bool(half_written or wrong))


def _episode(number: int) -> Episode:
    """The episode that belongs to a number: a few hundred bytes up to some pages."""
    draw = np.random.default_rng(number)
    latent = draw.standard_normal(_DIM, dtype=np.float32)
    picture = draw.bytes(int(draw.integers(0, 12_000)))
    return Episode("alarm", "unexpected", f"episode {number}", number, float(number), latent, thumbnail=picture)


def _same(one: Episode, other: Episode) -> bool:
    return (
        one.detail == other.detail
        and one.thumbnail == other.thumbnail
        and one.latent.tobytes() == other.latent.tobytes()
    )


def _write_until_killed(folder: Path) -> None:
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    memory = Memory.open(
        folder, bundle_sha256=_BUNDLE, tokens=1, dim=_DIM, actions=0, clock=MonotonicClock(), max_episodes=_KEEP
    )
    number = memory.committed_id
    said = 0
    while True:
        number += 1
        given = memory.remember(_episode(number))
        assert given == number
        if number % 8 == 0:
            memory.flush()
        if memory.committed_id > said:
            said = memory.committed_id
            print(said, flush=True)


def _leave_with_the_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 if nothing was lost, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m edge.memory.kill_test", description="Kill a writing memory at random instants; count losses."
    )
    parser.add_argument("--kills", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random instants (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child is not None:
        _write_until_killed(args.child)
    if args.kills < 1:
        parser.error(f"--kills {args.kills}: at least one kill is needed")
    with tempfile.TemporaryDirectory(prefix="latentloop-kills-") as folder:
        report = run_kills(Path(folder), args.kills, args.seed)
    if args.json:
        print(json.dumps(asdict(report)))
    else:
        print(
            f"{report.kills} kills, {report.writing} of them while writing: {report.committed} episodes committed, "
            f"{report.lost} lost, {report.damaged} times damaged"
        )
    return 1 if report.lost or report.damaged else 0


if __name__ == "__main__":
    sys.exit(main())
