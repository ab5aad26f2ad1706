"""The ``engines`` command on a machine without TensorRT, and what it says of what is in the cache."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import BundleError, load
from edge.engines.tensorrt import commands
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.commands import Progress
from edge.engines.tensorrt.library import Library, Machine, NoTensorRt
from edge.engines.tensorrt.making import candidates
from edge.engines.tensorrt.record import Record
from edge.engines.trial import Distance, Verdict

ORIN = Machine("10.3.0", "Orin", "8.7")
THOR = Machine("10.16.1", "Thor", "11.0")
without_tensorrt = pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())
    args = parser.parse_args(["engines", *words])
    code: int = args.run(args)
    return code


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanCache:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return PlanCache()


@pytest.fixture
def filled(cache: PlanCache) -> PlanCache:
    """Of the camera bundle: an encoder that passed as int8 and one that was refused."""
    for candidate in candidates(load("camera"), ORIN):
        if candidate.part == "encoder":
            passed = candidate.recipe.name == "int8"
            verdict = Verdict(passed, "" if passed else "too far off", Distance(0.9999, 0.001), None, 2.0, 9.0, 8)
            known = Record(candidate.key, "camera", "encoder", candidate.recipe.name, "int8", built=1.0, verdict=verdict)
            cache.finish(known, b"plan")
    return cache


def here(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """The commands take this for the machine; nothing of a GPU is there, and no plan can be loaded."""
    monkeypatch.setattr(commands, "find_library", lambda: Library(None, None, None, True, machine))


@without_tensorrt
@pytest.mark.parametrize("what", ["build", "check"])
def test_without_tensorrt_it_is_one_sentence_with_the_remedy(cache: PlanCache, what: str) -> None:
    with pytest.raises(NoTensorRt, match="No module named 'tensorrt'") as caught:
        run(what, "rover")
    assert "\n" not in str(caught.value) and not cache.folder.exists()


def test_a_bundle_that_is_none_is_told_before_anything_else() -> None:
    with pytest.raises(BundleError, match="there is no bundle at 'nothing'"):
        run("build", "nothing")


@without_tensorrt
def test_the_list_works_without_tensorrt(filled: PlanCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    text = capsys.readouterr().out
    assert "none can be built or used here: there is no NVIDIA GPU" in text and "camera       encoder    int8 " in text
    assert "> not used: it needs TensorRT 10.3.0 on 'Orin'" in text
    assert run("list", "rover") == 0
    assert f"no engine of rover is in {filled.folder}\nnone can be built" in capsys.readouterr().out
    assert run("list", "rover", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["machine"], listed["engines"]) == (None, []) and "no NVIDIA GPU" in listed["no_tensorrt"]


def test_the_list_says_what_is_used_and_why_not(
    filled: PlanCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, ORIN)
    assert run("list", "camera") == 1
    text = capsys.readouterr().out
    assert "4.5 times as fast (2.00 ms, onnxruntime 9.00 ms), error 0.0010 on noise" in text and "refused, too far off" in text
    assert "without an engine that passed here: predictor; onnxruntime runs them" in text and "not used" not in text
    here(monkeypatch, THOR)
    assert run("list", "camera", "--json") == 1
    listed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert listed["machine"]["gpu"] == "Thor" and len(listed["engines"]) == 2
    assert all("built by TensorRT 10.3.0 and this is 10.16.1" in row["not_used"] for row in listed["engines"])
    assert run("list") == 0  # also without a bundle: a cache that was copied from another machine
    assert "> not used: it was built by TensorRT 10.3.0 and this is 10.16.1" in capsys.readouterr().out


def test_engines_of_an_older_graph_do_not_count(
    filled: PlanCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, ORIN)
    monkeypatch.setattr(commands, "graph_hashes", lambda bundle, part: {"int8": "of today"})
    assert run("list", "camera") == 1
    assert "without an engine that passed here: encoder, predictor" in capsys.readouterr().out


def test_an_empty_cache_says_where_it_is_and_what_fills_it(
    cache: PlanCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, ORIN)
    assert run("list") == 0
    assert capsys.readouterr().out == f"no engine is in {cache.folder}\nto build some: latentloop engines build BUNDLE\n"
    assert run("check", "camera") == 1
    said = capsys.readouterr().out
    assert f"no engine of camera is in {cache.folder}" in said and "'latentloop engines build camera' builds them" in said


def test_a_check_finds_nothing_to_check_on_another_machine(
    filled: PlanCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, THOR)
    assert run("check", "camera") == 1
    said = capsys.readouterr().out
    assert "without an engine that passed here: encoder, predictor" in said
    assert "> not used: it was built by TensorRT 10.3.0" in said and "no engine" not in said


def test_a_check_of_a_damaged_plan_fails(
    filled: PlanCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, ORIN)
    next(filled.folder.glob("*.plan")).write_bytes(b"other")
    assert run("check", "camera") == 1
    assert "is damaged" in capsys.readouterr().out
    assert filled.records()[0].bundle == "camera"  # what is recorded stays


@pytest.mark.parametrize("words", [["--level", "6"], ["--dla", "2"], ["--workspace-mb", "0"], ["--workspace-mb", "x"]])
def test_arguments_out_of_range_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("build", "rover", *words)
    assert ended.value.code == 2


def test_progress_is_a_line_now_and_then_or_a_count_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Progress(terminal=False, every_s=0.0)
    plain.say("encoder as int8: building")
    plain.step("Tactics", 0.5)
    plain.step("Tactics", 0.667)
    assert capsys.readouterr().err == "encoder as int8: building\n  Tactics: 50 %\n  Tactics: 67 %\n"
    rare = Progress(terminal=False, every_s=3600.0)
    rare.step("Tactics", 0.5)
    assert capsys.readouterr().err == ""
