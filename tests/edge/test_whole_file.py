"""A file is the whole new one or the whole old one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge import whole_file
from edge.whole_file import write_whole


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_new_one_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "kept.json"
    write_whole(path, b"1")
    write_whole(path, b"2")
    assert path.read_bytes() == b"2"
    assert os.listdir(path.parent) == ["kept.json"]


@pytest.mark.parametrize(("module", "name"), [(whole_file.os, "fsync"), (Path, "replace")])
def test_a_failure_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    path = tmp_path / "kept.json"
    write_whole(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["kept.json"]
