"""The ``memory`` command on real folders."""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import UserError
from edge.memory import Episode, Memory, cli

Open = Callable[..., Memory]
Make = Callable[..., Episode]


def run(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="latentloop")
    cli.register(parser.add_subparsers())
    args = parser.parse_args([str(word) for word in words])
    return int(args.run(args))


def refusal(*words: object) -> str:
    """The one line that the command line prints for it before it exits with 2."""
    with pytest.raises(UserError) as refused:
        run(*words)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def folder(open_memory: Open, episode: Make) -> Path:
    memory = open_memory()
    memory.remember(
        episode(1, "alarm", cause="unfamiliar", thumbnail=b"\xff\xd8jpeg", before=(b"a", b"b"), after=(b"c",))
    )
    memory.remember(episode(2, "novel"))
    memory.close()
    return memory.folder


def test_list_shows_the_newest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("memory", "list", "--folder", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert run("memory", "list", "--folder", folder, "--json", "--kind", "alarm") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["id"], found["kind"], found["cause"], found["detail"]) == (1, "alarm", "unfamiliar", "number 1")


def test_list_works_beside_a_running_memory(
    open_memory: Open, episode: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = open_memory()
    memory.remember(episode(1))
    memory.flush()
    assert run("memory", "list", "--folder", memory.folder, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    memory.remember(episode(2))
    memory.flush()
    assert run("memory", "verify", "--folder", memory.folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2


def test_show_writes_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("memory", "show", 1, "--folder", folder, "--json", "--pictures", tmp_path / "pictures") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["frames_before"], found["frames_after"], found["latent_dim"]) == (2, 1, 8)
    assert [Path(name).read_bytes() for name in found["pictures"]] == [b"\xff\xd8jpeg", b"a", b"b", b"c"]
    assert run("memory", "show", 1, "--folder", folder) == 0
    assert "unfamiliar" in capsys.readouterr().out
    beyond_a_file = folder / "memory.sqlite" / "x"
    assert "cannot be written" in refusal("memory", "show", 1, "--folder", folder, "--pictures", beyond_a_file)


def test_unknown_episode_and_missing_folder(folder: Path, tmp_path: Path) -> None:
    assert "no readable episode 99" in refusal("memory", "show", 99, "--folder", folder)
    for words in (("list",), ("show", 1), ("verify",)):
        assert "there is no memory in" in refusal("memory", *words, "--folder", tmp_path / "nothing")
    assert run("memory") == 2


@pytest.mark.parametrize("words", [("list", "--limit", "0"), ("show", "one"), ("list", "--kind", "boring")])
def test_bad_usage_exits_with_two(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("memory", *words)
    assert stopped.value.code == 2


def test_verify_names_rows_that_lost_bits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("memory", "verify", "--folder", folder, "--json") == 0
    sound = json.loads(capsys.readouterr().out)
    assert (sound["ok"], sound["episodes"], sound["bundle_sha256"]) == (True, 2, "b" * 64)
    connection = sqlite3.connect(folder / "memory.sqlite")
    connection.execute("UPDATE episodes SET latent = zeroblob(32) WHERE id = 2")
    connection.commit()
    connection.close()
    assert run("memory", "verify", "--folder", folder, "--json") == 1
    assert json.loads(capsys.readouterr().out)["unreadable_episodes"] == [2]


def test_verify_finds_a_damaged_file_and_leaves_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "memory.sqlite"
    broken = path.read_bytes()[:4096] + b"\xff" * 8192
    path.write_bytes(broken)
    assert run("memory", "verify", "--folder", folder) == 1
    assert "is damaged" in capsys.readouterr().out
    assert path.read_bytes() == broken
    assert "cannot be read" in refusal("memory", "list", "--folder", folder)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("memory", "--help")
    assert stopped.value.code == 0
    assert "latentloop memory list --folder" in capsys.readouterr().out
