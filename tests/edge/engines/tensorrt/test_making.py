"""From a bundle to records, with tensorrt-rtx, which builds without a GPU and then cannot load what it built: so every plan
is built for real and every one refused, and no result is pretended."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import Bundle, load
from edge.engines import EngineError
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.choice import accepted_engine
from edge.engines.tensorrt.library import Library, Machine
from edge.engines.tensorrt.making import ATTEMPTS, candidates, make_engines
from edge.engines.tensorrt.record import Record

trt: Any = pytest.importorskip(
    "tensorrt_rtx",
    reason="plans are built here with tensorrt-rtx, which is large: pip install 'latentloop[compile-check]'",
)
pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")


class NoDevice:
    """Takes the place of pycuda.driver and of a context: it can be made current, and nothing else."""

    @property
    def Context(self) -> NoDevice:
        return self

    def push(self) -> None: ...
    def pop(self) -> None: ...
    def synchronize(self) -> None: ...


@pytest.fixture
def bundle() -> Bundle:
    return load("camera")


@pytest.fixture
def library() -> Library:
    return Library(trt, NoDevice(), NoDevice(), False, Machine(trt.__version__, "no GPU", "8.6"))


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path)


def reasons(records: list[Record]) -> list[str]:
    return [record.verdict.reason if record.verdict is not None else "" for record in records]


def test_every_plan_is_built_recorded_and_refused_where_it_cannot_be_loaded(
    bundle: Bundle, library: Library, cache: PlanCache, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    steps: list[str] = []
    found = make_engines(bundle, library, cache, say=said.append, progress=lambda phase, share: steps.append(phase))
    assert [(each.part, each.recipe) for each in found] == [
        ("encoder", "int8"),
        ("encoder", "int8-fp16"),
        ("predictor", "int8"),
        ("predictor", "int8-fp16"),
    ]
    assert all("does not take the plan" in reason for reason in reasons(found))
    assert all("CUDA driver version is insufficient" in reason and "\n" not in reason for reason in reasons(found))
    assert capfd.readouterr().out == ""  # or it would stand between the lines of --json
    assert [each.quantized_linears for each in found] == [10, 10, 5, 5] and all(each.build_seconds > 0 for each in found)
    assert len(set(steps)) >= 2 and said[0] == "encoder as int8: building" and "refused" in said[1]
    assert {each.key for each in cache.records()} == {each.key for each in found}
    assert list(cache.folder.glob("*.plan")) == [] and cache.timing_cache(library.machine) != b""
    assert accepted_engine(bundle, "encoder", cache, library=lambda: library) is None


def test_what_was_refused_is_not_built_again_unless_forced(bundle: Bundle, library: Library, cache: PlanCache) -> None:
    first = make_engines(bundle, library, cache)
    said: list[str] = []
    again = make_engines(bundle, library, cache, say=said.append)
    assert again == first and all("it was refused" in sentence for sentence in said) and len(said) == 4
    forced = make_engines(bundle, library, cache, force=True)
    assert all(new.built > old.built for new, old in zip(forced, first, strict=True))


def test_a_build_that_is_interrupted_leaves_nothing_behind(bundle: Bundle, library: Library, cache: PlanCache) -> None:
    def interrupt(phase: str, share: float) -> None:
        assert [each.verdict for each in cache.records()] == [None]  # noted before it starts
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_engines(bundle, library, cache, progress=interrupt)
    assert cache.records() == []
    with cache.building():  # and the lock is free
        pass


def test_a_build_that_kills_its_process_is_tried_twice_and_the_others_go_on(
    bundle: Bundle, library: Library, cache: PlanCache
) -> None:
    deadly = next(candidates(bundle, library.machine))
    for _ in range(ATTEMPTS):
        cache.begin(Record(deadly.key, "camera", deadly.part, deadly.recipe.name, "int8", built=1.0))
    found = make_engines(bundle, library, cache)
    assert found[0].verdict is None and all("does not take the plan" in reason for reason in reasons(found[1:]))


def test_a_gpu_that_failed_ends_it_after_the_one_that_did_it(
    bundle: Bundle, library: Library, cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(self: NoDevice) -> None:
        raise RuntimeError("cuCtxSynchronize failed: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(NoDevice, "synchronize", failed)
    with pytest.raises(EngineError, match=r"GPU failed, .* an illegal memory access was encountered\): start again"):
        make_engines(bundle, library, cache)
    assert len(cache.records()) == 1
    with contextlib.suppress(EngineError):
        make_engines(bundle, library, cache)
    assert len(cache.records()) == 2  # the next start goes on behind it
