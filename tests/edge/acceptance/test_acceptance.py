"""The acceptance on a machine without a GPU: the CPU part runs for real, the GPU part is said not to have run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge import doctor
from edge.acceptance.command import run
from edge.acceptance.page import page
from edge.acceptance.report import Acceptance, Check, GpuEngine, Timing
from edge.acceptance.running import accept, gpu_checks, machine_facts
from edge.bundle import load
from edge.engines.tensorrt.layers import Layers
from edge.engines.tensorrt.library import Library, Machine, NoTensorRt
from edge.engines.tensorrt.making import candidates
from edge.engines.tensorrt.record import Record
from edge.engines.trial import Distance, Verdict
from edge.errors import UserError

ORIN = Machine("10.3.0", "Orin", "8.7")
PASSED = Verdict(True, "", Distance(0.9999, 0.001), Distance(0.9999, 0.001), 2.0, 9.0, 8)
REFUSED = Verdict(False, "the cosine is <b>0.9</b>", Distance(0.9, 0.4), Distance(0.9999, 0.001), 1.0, 9.0, 8)


def none() -> Library:
    raise NoTensorRt("there is no NVIDIA GPU here")


@pytest.fixture(scope="module")
def found() -> Acceptance:
    return accept(load("camera"), seconds=0.01, library=none)


def record(part: str, recipe: str = "int8", verdict: Verdict | None = PASSED, **more: Any) -> Record:
    bundle = load("rover")
    known = next(each for each in candidates(bundle, ORIN) if each.part == part and each.recipe.name == recipe)
    layers = Layers(40, 20, 17, 2, 1, True)
    return Record(known.key, "rover", known.part, recipe, "int8", **{"built": 1.0, "verdict": verdict, "layers": layers, **more})


# -- without a GPU -----------------------------------------------------------------------------------------------


def test_the_cpu_part_is_run_and_the_gpu_part_is_said_not_to_be(found: Acceptance) -> None:
    assert not found.accepted and found.gpu == [] and found.gpu_not_run == "there is no NVIDIA GPU here"
    assert [part.part for part in found.cpu] == ["encoder", "predictor"]
    for part in found.cpu:
        assert part.integer_gemms == part.quantized_linears > 0
        assert part.timing.calls >= 10 and 0 < part.timing.p50 <= part.timing.p90 <= part.timing.p99 <= part.timing.worst
        assert 0 < part.distance.relative_error < 0.05 and part.distance.cosine > 0.999
        for figures in part.outputs.values():
            assert figures["std"] > 0 and len(figures["first"]) == 8
    outcomes = {check.what: check.outcome for check in found.checks}
    assert outcomes["encoder on the CPU: integer products"] == "passed"
    assert {outcome for what, outcome in outcomes.items() if "TensorRT" in what} == {"not run"} and len(outcomes) == 6
    assert not any("attention" in what for what in outcomes)  # there is none in these graphs


def test_the_reference_is_the_same_every_time(found: Acceptance) -> None:
    again = accept(load("camera"), seconds=0.01, library=none)
    assert [part.output_sha256 for part in again.cpu] == [part.output_sha256 for part in found.cpu]
    assert found.cpu[0].output_sha256 != found.cpu[1].output_sha256


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_the_command_writes_both_files_and_says_it_is_not_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("camera", tmp_path / "new" / "out", seconds=0.01, as_json=False) == 1
    assert "not accepted, the GPU part was not run: there is no NVIDIA GPU" in capsys.readouterr().out
    written = json.loads((tmp_path / "new" / "out" / "acceptance.json").read_text())
    assert written["accepted"] is False and written["gpu"] == []
    assert "not accepted" in (tmp_path / "new" / "out" / "acceptance.html").read_text()
    assert str(Path.home()) not in json.dumps(written) and str(load("camera").folder) not in json.dumps(written)


def test_a_folder_that_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Acceptance) -> None:
    monkeypatch.setattr("edge.acceptance.command.accept", lambda *args, **more: found)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .* give another folder with --out"):
        run("camera", tmp_path / "file", seconds=0.01, as_json=True)


def test_json_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Acceptance, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edge.acceptance.command.accept", lambda *args, **more: found)
    assert run("camera", tmp_path, seconds=0.01, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "acceptance.json").read_text())


def test_the_doctor_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    called: list[Any] = []
    monkeypatch.setattr("edge.acceptance.command.run", lambda *args, **more: called.append((args, more)) or 7)
    parser = argparse.ArgumentParser()
    doctor.register(parser.add_subparsers())
    args = parser.parse_args(["doctor", "--acceptance", "rover", "--out", str(tmp_path), "--seconds", "2"])
    assert args.run(args) == 7
    assert called == [(("rover", tmp_path), {"seconds": 2.0, "as_json": False})]
    with pytest.raises(SystemExit):
        parser.parse_args(["doctor", "--acceptance", "rover", "--seconds", "0"])


# -- what the GPU has to show, by what is recorded ----------------------------------------------------------------


def outcomes(records: list[Record]) -> dict[str, str]:
    return {check.what: check.outcome for check in gpu_checks(load("rover"), records)}


def test_everything_shown_is_everything_passed() -> None:
    records = [record(part) for part in ("encoder", "predictor", "rollout")]
    assert set(outcomes(records).values()) == {"passed"}
    assert {
        "predictor in TensorRT: fused attention",
        "rollout in TensorRT: integer tactics",
        "encoder in TensorRT: agrees with onnxruntime",
    } <= outcomes(records).keys()


@pytest.mark.parametrize(
    ("predictor", "failed"),
    [
        (record("predictor", layers=Layers(40, 20, 0, 2, 1, True)), {"integer tactics"}),
        (record("predictor", layers=Layers(40, 20, 17, 0, 1, True)), {"fused attention"}),
        (record("predictor", layers=Layers(40, 0, 0, 0, 0, False)), {"integer tactics", "fused attention"}),
        (record("predictor", layers=None), {"integer tactics", "fused attention"}),
        (record("predictor", verdict=REFUSED), {"integer tactics", "fused attention", "agrees with onnxruntime"}),
        (record("predictor", verdict=None), {"integer tactics", "fused attention", "agrees with onnxruntime"}),
    ],
)
def test_what_was_not_shown_fails(predictor: Record, failed: set[str]) -> None:
    found = outcomes([record("encoder"), predictor, record("rollout")])
    assert {what for what, outcome in found.items() if outcome == "failed"} == {f"predictor in TensorRT: {what}" for what in failed}


def test_another_recipe_may_show_what_one_does_not() -> None:
    other = record("predictor", "int8-fp16", layers=Layers(40, 20, 17, 3, 1, True))
    found = outcomes([record("encoder"), record("predictor", layers=Layers(40, 20, 17, 0, 1, True)), other, record("rollout")])
    assert set(found.values()) == {"passed"}


def test_nothing_checked_is_not_accepted(found: Acceptance) -> None:
    assert not msgspec.structs.replace(found, checks=[]).accepted
    passed = [Check(check.what, "passed", "") for check in found.checks]
    assert msgspec.structs.replace(found, checks=passed).accepted
    assert not msgspec.structs.replace(found, checks=[*passed, Check("one more", "failed", "")]).accepted


# -- the page ----------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_found_and_escapes_it(found: Acceptance) -> None:
    timing = Timing(100, 1.25, 1.5, 2.0, 9.0, {"VDD_IN W": {"mean": 7.1, "max": 8.25}})
    engines = [GpuEngine(record("predictor"), timing, True), GpuEngine(record("rollout", verdict=REFUSED), None, False)]
    checks = [Check("a <script>", "failed", "because & so")]
    text = page(msgspec.structs.replace(found, gpu=engines, gpu_not_run="", checks=checks))
    for piece in (
        "not accepted: 1 of 1 checks failed",
        "a &lt;script&gt;",
        "because &amp; so",
        "1.250",
        "VDD_IN 7.1 (8.2) W",
        "int8 (CUDA graph)",
        "17 of 20 products in integers, 2 fused attention, 1 reformats, 40 in all",
        "&lt;b&gt;0.9&lt;/b&gt;",
    ):
        assert piece in text
    assert "<script" not in text and "http" not in text.replace("<!doctype html>", "")


def test_the_page_without_a_gpu_says_so_first(found: Acceptance) -> None:
    text = page(found)
    assert text.index("the GPU part was not run") < text.index("What had to be shown") < text.index('<p class="open">not run</p>')


def test_machine_facts_name_a_jetson(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 1")
    (tmp_path / "var/lib/nvpmodel").mkdir(parents=True)
    (tmp_path / "var/lib/nvpmodel/status").write_text("pmode:0002\n")
    facts = machine_facts(tmp_path)
    assert (facts["L4T"], facts["JetPack"], facts["power mode"]) == ("36.4.3", "6", "pmode:0002")
    assert facts["processor"].startswith("unknown, ") and "onnxruntime" in facts
    assert "Jetson" not in machine_facts()
