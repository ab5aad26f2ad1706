"""The builder code that the device runs, run here with tensorrt-rtx, whose builder needs no GPU. It stands in for TensorRT
as far as their interfaces agree; what it builds is never run."""

from __future__ import annotations

from typing import Any

import pytest

from edge.bundle import load
from edge.engines import EngineError
from edge.engines.tensorrt.builder import Effort, build_plan
from edge.engines.tensorrt.recipe import recipes

trt: Any = pytest.importorskip(
    "tensorrt_rtx",
    reason="the builder runs here with tensorrt-rtx, which is large: pip install 'latentloop[compile-check]'",
)
pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
TYPED = recipes("11")[0]


@pytest.fixture(scope="module")
def model() -> bytes:
    bundle = load("camera")
    return (bundle.folder / bundle.graph("predictor").file).read_bytes()


def test_a_plan_is_built_with_progress_and_what_was_set_arrives(model: bytes) -> None:
    seen: list[tuple[str, float]] = []
    configured: list[Any] = []

    def look(config: Any) -> None:
        workspace = config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
        configured.append((config.builder_optimization_level, workspace, config.max_aux_streams, config.profiling_verbosity))

    built = build_plan(
        trt, model, TYPED, Effort(level=1, workspace_mb=64), progress=lambda *step: seen.append(step), adjust=look
    )
    assert len(built.plan) > 100_000
    assert configured == [(1, 64 << 20, 0, trt.ProfilingVerbosity.DETAILED)]
    shares = [share for _, share in seen]
    assert len({phase for phase, _ in seen}) >= 2 and shares == sorted(shares)
    assert 0.0 < shares[0] < 0.2 and len({round(share, 1) for share in shares}) >= 5 and 0.8 < shares[-1] <= 1.0


def test_a_timing_cache_that_is_none_is_left_unused(model: bytes) -> None:
    assert build_plan(trt, model, TYPED, timing_cache=b"not a timing cache").plan


def test_an_exception_from_progress_ends_the_build_and_comes_out(model: bytes) -> None:
    calls: list[str] = []

    def interrupt(phase: str, share: float) -> None:
        calls.append(phase)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(trt, model, TYPED, progress=interrupt)
    assert 1 <= len(calls) < 50


@pytest.mark.parametrize(("damage", "says"), [(b"\xff" * 40, "cannot read the graph"), (b"", "cannot")])
def test_what_is_no_graph_is_refused_in_one_sentence(damage: bytes, says: str) -> None:
    with pytest.raises(EngineError, match=says) as caught:
        build_plan(trt, damage, TYPED)
    assert "\n" not in str(caught.value)


def test_an_operator_that_it_has_not_is_named(model: bytes) -> None:
    with pytest.raises(EngineError, match=r"MatMol \(node .+\): creator"):
        build_plan(trt, model.replace(b"MatMul", b"MatMol"), TYPED)
