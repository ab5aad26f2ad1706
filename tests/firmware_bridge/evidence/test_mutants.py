"""Mutants are real changes, a test kills one that matters, and what became of them is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.evidence import mutants
from firmware_bridge.evidence.killers import Fate, Killers
from firmware_bridge.evidence.mutants import Mutant, Results, changed, everything, report
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE


def test_every_file_has_mutants_and_each_changes_its_line() -> None:
    found = everything()
    assert {each.file for each in found} == set(CORE_SOURCES)
    assert len(found) > 1_000 and len(set(found)) == len(found)
    for each in found:
        before = (FIRMWARE / each.file).read_text().splitlines()
        after = changed(each).splitlines()
        assert [k for k, line in enumerate(before, 1) if line != after[k - 1]] == [each.line]


@pytest.fixture(scope="module")
def killers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killers]:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    yield Killers(tmp_path_factory.mktemp("killers"), {"full": 40, "rover": 10})


def one(before: str, after: str) -> Mutant:
    return next(each for each in everything() if each.before.strip() == before and after in each.after)


@pytest.mark.parametrize(
    ("before", "after", "fate"),
    [
        ("return (int32_t)(now_us - deadline_us) >= 0;", ">= 1", "killed"),
        ("if (too_long) return FB_DECODE_OVERRUN;", "!(too", "killed"),
        ("if (elapsed_us > FB_MAX_TICK_US) elapsed_us = FB_MAX_TICK_US;", ">= FB", "same"),
        ("else if (*already_us < enough_us) *already_us += elapsed_us;", "-= elapsed", "killed"),
    ],
)
def test_a_mutant_that_matters_is_killed(killers: Killers, before: str, after: str, fate: str) -> None:
    mutant = one(before, after)
    assert killers.fate(mutant.file, changed(mutant)).of == fate


def test_what_does_not_compile_is_no_mutant(killers: Killers) -> None:
    assert killers.fate("core.c", "not C").of == "invalid"


def test_results_are_kept_as_long_as_they_are_of_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints = {True: "tests", False: "programs"}
    monkeypatch.setattr(mutants, "fingerprint", lambda tests: prints[tests])
    first, second = everything()[:2]
    results = Results(tmp_path / "build" / "mutants.jsonl")
    results.put(first, Fate("killed", "replay on full"))
    results.put(second, Fate("survived"))
    again = Results(tmp_path / "build" / "mutants.jsonl")
    assert (again.get(first), again.get(second)) == (Fate("killed", "replay on full"), Fate("survived"))
    prints[True] = "other tests"  # may kill what survived, but bring nothing back to life
    again = Results(tmp_path / "build" / "mutants.jsonl")
    assert (again.get(first), again.get(second)) == (Fate("killed", "replay on full"), None)
    prints[False] = "another core"
    assert Results(tmp_path / "build" / "mutants.jsonl").get(first) is None


@pytest.mark.parametrize(
    ("fates", "code", "said"),
    [
        (["killed"] * 9 + ["survived"], 0, "9 of 10 killed, 90.0%"),
        (["killed"] * 9 + ["same", "survived"], 1, "9 of 11 killed, 81.8%"),
        (["killed"] * 9 + ["same", "invalid"], 0, "9 of 10 killed, 90.0%"),
    ],
)
def test_the_score_counts_all_that_compile(
    fates: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = [(mutant, Fate(of)) for mutant, of in zip(everything(), fates, strict=False)]
    assert report(tried, len(tried)) == code
    assert said in capsys.readouterr().out
