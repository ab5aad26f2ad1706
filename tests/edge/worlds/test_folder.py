"""Where a simulated world lives: its sockets' paths fit, however long the path of the usual temporary folder is."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from edge.errors import UserError
from edge.worlds.folder import LONGEST, checked, short_parent

LONGEST_NAME = "motors"


@pytest.mark.parametrize("length", [5, 60, LONGEST, 200])
def test_a_new_folder_has_room_for_sockets(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = "/tmp/" + "x" * (length - 5)
    monkeypatch.setattr(tempfile, "tempdir", usual)
    parent = short_parent()
    assert (parent is None) == (length <= 60), "the usual folder is left only where it must be"
    checked(Path(parent or usual) / "latentloop-motors-12345678")


def test_the_longest_folder_that_passes_takes_a_socket() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name, socket.socket(socket.AF_UNIX) as listener:
        folder = Path(name) / ("x" * (LONGEST - len(name) - 1))
        folder.mkdir()
        listener.bind(str(checked(folder) / LONGEST_NAME))
        with pytest.raises(UserError, match="too long a path for sockets"):
            checked(folder.with_name(folder.name + "x"))
