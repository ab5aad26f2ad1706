"""The C core does, step by step, what the reference did in its recorded lives; one that does not is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from firmware_bridge.evidence.build import BOARDS, build
from firmware_bridge.evidence.lockstep import measure, record, replay
from firmware_bridge.host_firmware import FIRMWARE

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


@pytest.mark.parametrize("board", ["rover", "arm", "full"])
def test_the_core_does_what_the_reference_did(board: str) -> None:
    figure = measure(60, board=board)
    assert figure.differs is None
    assert figure.lives == 60 and figure.steps > 15_000


def test_lives_are_the_same_every_time() -> None:
    board = BOARDS["full"]
    assert record(3, board) == record(3, board)
    assert record(3, board) != record(3, board, seed=2)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lives") / "record"
    path.write_bytes(record(150, BOARDS["full"]))
    return path


@pytest.mark.parametrize(
    ("file", "line", "instead", "differs"),
    [
        ("motion.c", "c->slew_rest[i] = (uint32_t)(budget % NRAD);", "c->slew_rest[i] = 0;", "speed"),
        ("link.c", "if (c->events == FB_EVENTS)", "if (c->events + 1 == FB_EVENTS)", "counters"),
        ("settings.c", "*low = SHORTEST_LEASE_CAP_MS;", "*low = 0;", "tx"),
        ("core.c", "c->tasks = 0;", "", "watchdog"),
    ],
)
def test_a_core_that_does_not_is_seen(file: str, line: str, instead: str, differs: str, recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(FIRMWARE, tmp_path / "firmware")
    source = (tmp_path / "firmware" / file).read_text()
    assert source.count(line) == 1
    (tmp_path / "firmware" / file).write_text(source.replace(line, instead))
    program = build("replay", tmp_path, BOARDS["full"], firmware=tmp_path / "firmware")
    assert replay(program, recorded).differs == differs
