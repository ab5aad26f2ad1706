"""The sections of a page on one board, and one sentence where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bridge import flash_help
from edge.errors import UserError
from tests.edge.bridge.conftest import Command

PAGE = "# Flashing\n\nBefore.\n\n## Build\n\nMake it.\n\n## Pico\n\nAn RP2040.\n\n## Uno\n\nAn AVR.\n"


def test_the_sections_on_a_board(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flash_help, "PAGE", tmp_path / "flashing.md")
    with pytest.raises(UserError, match="not part of this installation"):
        command("flash-help")
    flash_help.PAGE.write_text(PAGE)
    assert command("flash-help", "rp2040") == 0
    assert capsys.readouterr().out == "## Build\n\nMake it.\n\n## Pico\n\nAn RP2040.\n\nUnverified on hardware.\n"
    assert command("flash-help") == 0
    assert "Before." in capsys.readouterr().out
