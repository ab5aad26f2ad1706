"""The graphs that this project makes: the shipped bundles, and fresh exports before and after quantization."""

from __future__ import annotations

import onnx
import pytest

from edge.engines.onnx_file import with_unsigned_activations
from export.lint.rules import lint
from export.lint.target import TARGETS, Target
from tests.conftest import ROOT
from tests.export.conftest import Exported

SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*/*.onnx"))


def test_there_are_shipped_graphs() -> None:
    assert {path.parent.name for path in SHIPPED} >= {"rover", "camera"}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_graphs_are_clean(path: object, target: Target) -> None:
    assert lint(onnx.load(path), target) == []


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_fresh_exports_are_clean_in_int8_and_in_float(exported: Exported, target: Target) -> None:
    paths = sorted(exported.bundle.folder.glob("*.onnx"))
    assert any(path.name.endswith(".fp32.onnx") for path in paths)
    assert {path.name: lint(onnx.load(path), target) for path in paths if lint(onnx.load(path), target)} == {}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_dialect_of_x86_is_not_for_tensorrt(target: Target) -> None:
    master = ROOT / "edge" / "bundles" / "camera" / "encoder.onnx"
    dialect = onnx.load_from_string(with_unsigned_activations(master.read_bytes()))
    assert {finding.rule for finding in lint(dialect, target)} == {"zero-point-uint8"}
