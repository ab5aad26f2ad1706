"""Mutants are real changes, and a test kills one that matters."""

from __future__ import annotations

import shutil

import pytest

from firmware_bridge.evidence.mutants import everything, fate
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE


def test_every_file_has_mutants_and_each_changes_its_line() -> None:
    found = everything()
    assert {each.file for each in found} == set(CORE_SOURCES)
    assert len(found) > 1_000 and len(set(found)) == len(found)
    for each in found:
        assert (FIRMWARE / each.file).read_text().splitlines()[each.line - 1] == each.before != each.after


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")
@pytest.mark.parametrize(
    ("before", "after"),
    [("return (int32_t)(now_us - deadline_us) >= 0;", ">= 1"), ("if (too_long) return FB_DECODE_OVERRUN;", "!(too")],
)
def test_a_mutant_that_matters_is_killed(before: str, after: str) -> None:
    mutant = next(each for each in everything() if each.before.strip() == before and after in each.after)
    assert fate(mutant) == "killed"
