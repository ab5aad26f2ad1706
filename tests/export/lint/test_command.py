"""``export lint`` as a person types it: what it prints, its exit codes, and what it says about files that are no models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.cli import main
from tests.conftest import ROOT
from tests.export.lint.graphs import linear

GOOD = linear().SerializeToString()
BAD = linear(zero=np.array(0, np.uint8), axis=0).SerializeToString()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def test_a_clean_graph_is_one_line_and_exit_code_0(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_bytes(GOOD)
    assert main(["export", "lint", str(model), "--target", "jetpack6"]) == 0
    assert capsys.readouterr().out == f"{model} for jetpack6 (TensorRT 10.3): nothing found\n"


def test_findings_are_one_line_each_and_exit_code_1(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_bytes(BAD)
    assert main(["export", "lint", str(model), "--target", "jetpack7"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["zero-point-uint8 (wrong)"] * 2 + [
        "weight-axis (costly)"
    ]
    assert "QuantizeLinear:xq" in lines[0]
    assert lines[-1].endswith("for jetpack7 (TensorRT 10.16 to 11.4): 2 wrong, 1 costly")


def test_json_is_one_object_with_one_object_per_finding(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_bytes(BAD)
    assert main(["export", "lint", str(model), "--target", "jetpack6", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["target"], report["tensorrt"]) == (str(model), "jetpack6", "10.3")
    assert [set(finding) for finding in report["findings"]] == [{"rule", "effect", "node", "reason", "fix"}] * 3
    model.write_bytes(GOOD)
    assert main(["export", "lint", str(model), "--target", "jetpack6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is no model\n",
        bytes(range(256)) * 8,
        *(GOOD[: len(GOOD) * k // 16] for k in range(1, 16)),
        GOOD[:-1],
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_what_is_no_model_is_one_sentence_and_exit_code_2(
    content: bytes, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.write_bytes(content)
    assert main(["export", "lint", str(model), "--target", "jetpack6"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(model) in said and f"({len(content)} bytes)" in said


def test_a_missing_file_and_a_folder_are_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "lint", str(model), "--target", "jetpack6"]) == 2
    assert capsys.readouterr().err == f"latentloop: there is no file {model}: give the path of an ONNX model\n"
    assert main(["export", "lint", str(model.parent), "--target", "jetpack6"]) == 2
    assert str(model.parent) in capsys.readouterr().err


def test_without_onnx_it_says_what_to_install(model: Path) -> None:
    model.write_bytes(GOOD)
    command = ["export", "lint", str(model), "--target", "jetpack6"]
    source = f"import sys; sys.modules['onnx'] = None; from edge.cli import main; sys.exit(main({command!r}))"
    ran = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr == "latentloop: this needs the package onnx: pip install 'latentloop[export]'\n"


def test_the_command_line_does_not_import_onnx_to_show_itself() -> None:
    source = "import sys; from edge.cli import make_parser; make_parser(); sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, timeout=60).returncode == 0
