"""The graphs of this project and of the lint's tests, given by the device's own builder code to a parser and builder of
TensorRT's family, without a GPU.

tensorrt-rtx is neither TensorRT 10.3 nor 10.16 and knows no Jetson: what it builds may still fail there. It is near
enough to catch graphs that no TensorRT takes, and rules of the lint that claim too much.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edge.engines.engine import EngineError
from edge.engines.onnx_file import with_unsigned_activations
from edge.engines.onnx_half import with_half_floats
from edge.engines.tensorrt.builder import build_plan
from edge.engines.tensorrt.recipe import recipes
from export.lint.rules import RULES
from tests.conftest import ROOT
from tests.export.conftest import Exported
from tests.export.lint.test_options import CASES as OPTION_CASES
from tests.export.lint.test_rules import CASES as RULE_CASES

trt: Any = pytest.importorskip(
    "tensorrt_rtx",
    reason="the compile check needs tensorrt-rtx, which is large: pip install 'latentloop[compile-check]'",
)

# The device keeps a timing cache; this one has none any more and says so at every build.
pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*/*.onnx"))
EFFECTS = {rule.name: rule.effect for rule in RULES}


TYPED = recipes("11")[0]


def for_orins_nearest(config: Any) -> None:
    """Compute capability 8.6, because 8.7 is not among those that it knows."""
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)


def compile_error(model: bytes) -> str:
    """Why a graph does not parse or build as the device would build it; empty if it does."""
    try:
        build_plan(trt, model, TYPED, adjust=for_orins_nearest)
    except EngineError as error:
        return str(error)
    return ""


REFUSED_ELSEWHERE = {
    "invalid-(graph)": "it works shapes out for itself and does not look at those that are written down",
    "opset-(graph)": "it reads opset 8 and 25 without a word; the lint keeps to what is documented",
    "fp16-scale-opset-QuantizeLinear:xq": "onnxruntime refuses it",
    "unknown-operator-Attention:y": "TensorRT 10.3 has no Attention; this one has",
    "does not sort": "documented as refused for TensorRT 10.1 and 10.15",
    "(N, C, H, W)": "documented as refused for TensorRT 10.1 and 10.15",
    "batch first": "documented as refused for TensorRT 10.1 and 10.15",
    "(N, heads, S, D)": "documented as refused for TensorRT 10.15",
}
"""Graphs that the lint calls rejected and that compile here, and why the lint is right."""
REFUSED_HERE = {
    "zero-point-uint8-DequantizeLinear:xd": "a uint8 zero point of 128 is refused, one of 0 taken for int8",
}
"""Graphs that the lint calls wrong or costly and that do not compile here."""
GOOD_BUT_REFUSED_HERE = {
    "data-dependent-shape-NonZero:y": "TensorRT has NonZero, this one has not",
}


class Trial(NamedTuple):
    name: str
    effect: str
    bad: bytes
    good: bytes


TRIALS = [
    *(
        Trial(
            f"{case.rule}-{case.node}", EFFECTS[case.rule], case.bad.SerializeToString(), case.good.SerializeToString()
        )
        for case in RULE_CASES
    ),
    *(
        Trial(case.reason, "rejected", case.bad.SerializeToString(), case.good.SerializeToString())
        for case in OPTION_CASES
    ),
]


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_what_the_lint_calls_rejected_is_rejected_and_nothing_else(trial: Trial) -> None:
    refused = bool(compile_error(trial.bad))
    if trial.name in REFUSED_ELSEWHERE or trial.name in REFUSED_HERE:
        assert refused == (trial.name in REFUSED_HERE)
    else:
        assert refused == (trial.effect == "rejected")


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_what_the_lint_calls_clean_compiles(trial: Trial) -> None:
    assert bool(compile_error(trial.good)) == (trial.name in GOOD_BUT_REFUSED_HERE)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_graphs_compile(path: Path) -> None:
    assert compile_error(path.read_bytes()) == ""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_half_forms_of_shipped_graphs_compile(path: Path) -> None:
    assert compile_error(with_half_floats(path.read_bytes())) == ""


def test_fresh_exports_compile_in_int8_and_in_float(exported: Exported) -> None:
    paths = sorted(exported.bundle.folder.glob("*.onnx"))
    assert len(paths) == 6
    assert {path.name: compile_error(path.read_bytes()) for path in paths} == dict.fromkeys((p.name for p in paths), "")


def test_the_dialect_of_x86_does_not_compile() -> None:
    master = ROOT / "edge" / "bundles" / "camera" / "encoder.onnx"
    assert "zero point" in compile_error(with_unsigned_activations(master.read_bytes()))
