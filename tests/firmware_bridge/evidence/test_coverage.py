"""Recorded lives and fault sequences alone run every line of the core; a line that never runs is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence import coverage
from firmware_bridge.evidence.coverage import File, main, measure
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("gcov") is None, reason="no gcc with gcov on this machine")
def test_every_line_is_run_and_one_that_never_runs_is_named(tmp_path: Path) -> None:
    shutil.copytree(FIRMWARE, tmp_path / "firmware")
    file = tmp_path / "firmware" / "faults.c"
    source = file.read_text().splitlines()
    at = source.index("    fb_raise_faults(c);")
    source.insert(at, "    if (elapsed_us > 1000000000u)\n        c->faults = 0;")
    file.write_text("\n".join(source) + "\n")
    files = measure(tests=(), firmware=tmp_path / "firmware")
    assert set(files) == set(CORE_SOURCES)
    assert {name: each.uncovered for name, each in files.items() if each.uncovered} == {"faults.c": (at + 2,)}
    assert sum(each.lines for each in files.values()) > 700


def test_a_machine_without_gcov_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BridgeError, match=r"no gcov on this machine.*install gcc"):
        measure()


@pytest.mark.parametrize(("uncovered", "code"), [((), 0), ((7, 9), 1)])
def test_only_all_lines_are_enough(
    uncovered: tuple[int, ...], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coverage, "measure", lambda: {"core.c": File(100, uncovered)})
    monkeypatch.setattr("sys.argv", ["coverage"])
    assert main() == code
    assert ("98.0%  7 9" in capsys.readouterr().out) == (code == 1)
