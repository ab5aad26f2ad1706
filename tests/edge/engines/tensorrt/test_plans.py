"""Which plan may be used: keys, reasons for refusal, the fastest, the last good one, and files that are not whole.

Nothing here pretends to be a GPU: plans are bytes that nobody runs, and what decides is what was recorded of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.bundle import Bundle, load
from edge.engines import EngineError, EngineSettings, load_engine
from edge.engines.onnx_half import with_half_floats
from edge.engines.tensorrt.builder import Effort
from edge.engines.tensorrt.cache import KEPT_GENERATIONS, PlanCache
from edge.engines.tensorrt.choice import accepted_engine, choose
from edge.engines.tensorrt.layers import Layers
from edge.engines.tensorrt.library import Library, Machine, NoTensorRt
from edge.engines.tensorrt.making import candidates, engine_info, settled
from edge.engines.tensorrt.recipe import recipes
from edge.engines.tensorrt.record import Key, Record, mismatches
from edge.engines.trial import Distance, Verdict

ORIN = Machine("10.3.0", "Orin", "8.7")
USUAL = Distance(0.9999, 0.001)
PASSED = Verdict(True, "", USUAL, USUAL, 2.0, 9.0, 8)
REFUSED = Verdict(False, "the cosine is 0.90000 and must be at least 0.99900", Distance(0.9, 0.4), USUAL, 1.0, 9.0, 8)


@pytest.fixture
def bundle() -> Bundle:
    return load("camera")


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


def record(bundle: Bundle, recipe: str = "int8", verdict: Verdict | None = PASSED, machine: Machine = ORIN, **more: Any) -> Record:
    candidate = next(each for each in candidates(bundle, machine) if each.part == "encoder" and each.recipe.name == recipe)
    return Record(candidate.key, "camera", "encoder", recipe, "int8", **{"built": 1.0, "verdict": verdict, **more})


# -- keys --------------------------------------------------------------------------------------------------------


def test_a_key_depends_on_everything_that_a_plan_does(bundle: Bundle) -> None:
    keys = [each.key for each in candidates(bundle, ORIN)]
    keys += [each.key for each in candidates(bundle, ORIN, Effort(level=5))]
    keys += [each.key for each in candidates(bundle, ORIN, Effort(workspace_mb=64))]
    keys += [each.key for each in candidates(bundle, Machine("10.3.1", "Orin", "8.7"))]
    keys += [each.key for each in candidates(bundle, Machine("10.3.0", "Orin Nano", "8.7"))]
    keys += [each.key for each in candidates(bundle, Machine("10.3.0", "Orin", "8.6"))]
    assert len({key.digest() for key in keys}) == len(keys) == 6 * 4  # encoder and predictor, two recipes each


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"machine": Machine("10.16.1", "Orin", "8.7")}, "built by TensorRT 10.3.0 and this is 10.16.1"),
        ({"machine": Machine("10.3.0", "Thor", "8.7")}, "built on 'Orin' and this is 'Thor'"),
        ({"machine": Machine("10.3.0", "Orin", "11.0")}, "capability 8.7 and this GPU has 11.0"),
        ({"onnx_sha256": "f" * 64}, f"sha256 {'a' * 12}… and the bundle's is {'f' * 12}…"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_reason(changed: dict[str, Any], says: str) -> None:
    key = Key(ORIN, "a" * 64, ("int8",))
    assert list(mismatches(key, ORIN, "a" * 64)) == []
    (reason,) = mismatches(key, changed.get("machine", ORIN), changed.get("onnx_sha256", "a" * 64))
    assert says in reason


def test_recipes_go_by_the_version() -> None:
    assert [each.name for each in recipes("10.3.0")] == ["int8", "int8-fp16", "fp16"]
    assert [each.name for each in recipes("10.16.1.11", dla=1)] == ["int8", "int8-fp16", "fp16", "int8-fp16-dla1"]
    assert [each.name for each in recipes("11.4.1", dla=0)] == ["int8", "int8-fp16", "fp16"]


def test_a_recipe_for_a_graph_that_the_bundle_does_not_carry_is_left_out(bundle: Bundle) -> None:
    assert {each.recipe.name for each in candidates(bundle, ORIN)} == {"int8", "int8-fp16"}


def test_a_graph_is_given_in_the_form_that_the_recipe_asks_for(bundle: Bundle) -> None:
    typed, half = (each for each in candidates(bundle, ORIN) if each.part == "encoder")
    master = (bundle.folder / bundle.graph("encoder").file).read_bytes()
    assert typed.model == master and half.model == with_half_floats(master) != master
    assert typed.key.onnx_sha256 == half.key.onnx_sha256 == hashlib.sha256(master).hexdigest()


# -- choosing ----------------------------------------------------------------------------------------------------


def test_the_fastest_that_passed_wins(bundle: Bundle) -> None:
    slow = record(bundle)
    fast = record(bundle, "int8-fp16", msgspec.structs.replace(PASSED, milliseconds=1.0))
    choice = choose([slow, fast], bundle, "encoder", ORIN)
    assert choice.usable == (fast, slow) and choice.refused == ()
    assert choose([slow, fast], bundle, "predictor", ORIN).usable == ()


@pytest.mark.parametrize(
    ("verdict", "machine", "says"),
    [
        (REFUSED, ORIN, "the cosine is 0.90000"),
        (None, ORIN, "ended without a word"),
        (msgspec.structs.replace(PASSED, milliseconds=9.5), ORIN, "it takes 9.5 ms and onnxruntime 9.0 ms"),
        (PASSED, Machine("10.16.1", "Thor", "11.0"), "this is 10.16.1; it was built for"),
    ],
)
def test_everything_else_is_refused_with_the_reason(
    bundle: Bundle, verdict: Verdict | None, machine: Machine, says: str
) -> None:
    choice = choose([record(bundle, verdict=verdict)], bundle, "encoder", machine)
    assert choice.usable == ()
    assert [says in reason for _, reason in choice.refused] == [True]


def test_a_plan_of_another_export_of_the_bundle_is_refused(bundle: Bundle) -> None:
    old = record(bundle)
    old = msgspec.structs.replace(old, key=msgspec.structs.replace(old.key, onnx_sha256="0" * 64))
    ((_, reason),) = choose([old], bundle, "encoder", ORIN).refused
    assert "built from a graph with sha256 000000000000…" in reason


def test_without_a_record_nobody_looks_for_tensorrt(bundle: Bundle, cache: PlanCache) -> None:
    def never() -> Library:
        raise AssertionError("TensorRT was looked for")

    assert accepted_engine(bundle, "encoder", cache, library=never) is None
    cache.finish(record(bundle), b"plan")
    assert accepted_engine(bundle, "predictor", cache, library=never) is None


def test_a_machine_that_lost_tensorrt_runs_onnxruntime_and_says_why(
    bundle: Bundle, cache: PlanCache, caplog: pytest.LogCaptureFixture
) -> None:
    def gone() -> Library:
        raise NoTensorRt("TensorRT is gone")

    cache.finish(record(bundle), b"plan")
    assert accepted_engine(bundle, "encoder", cache, library=gone) is None
    assert "encoder are not used: TensorRT is gone" in caplog.text


def test_a_damaged_plan_gives_way_and_is_named(bundle: Bundle, cache: PlanCache, caplog: pytest.LogCaptureFixture) -> None:
    cache.finish(record(bundle), b"plan")
    (path,) = cache.folder.glob("*.plan")
    path.write_bytes(b"plam")
    here = Library(None, None, None, True, ORIN)
    assert accepted_engine(bundle, "encoder", cache, library=lambda: here) is None
    assert "is damaged, its sha256 is not the recorded one" in caplog.text
    path.unlink()
    assert accepted_engine(bundle, "encoder", cache, library=lambda: here) is None
    assert "No such file" in caplog.text


def test_the_runtime_falls_back_to_onnxruntime(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    PlanCache().finish(record(bundle), b"a plan that no TensorRT here can load")
    engine = load_engine(bundle, "encoder", EngineSettings(tensorrt=True))
    assert engine.info.runtime.startswith("onnxruntime")


# -- keeping -----------------------------------------------------------------------------------------------------


def test_what_is_kept_comes_back(bundle: Bundle, cache: PlanCache) -> None:
    layers = Layers(40, 8, 8, 2, 1, True)
    kept = record(bundle, layers=layers, quantized_linears=8)
    assert cache.finish(kept, b"plan")
    (found,) = cache.records()
    assert found == msgspec.structs.replace(kept, plan_sha256=found.plan_sha256)
    assert cache.find(kept.key) == found and cache.plan(found) == b"plan"
    info = engine_info(found)
    assert (info.precision, info.integer_gemms, info.quantized_linears) == ("int8", 8, 8)
    assert info.runtime == "TensorRT 10.3.0 Orin int8"


@pytest.mark.parametrize(
    ("recipe", "integers", "precision"),
    [("int8", 8, "int8"), ("int8", 7, "mixed"), ("int8", 0, "fp32"), ("int8-fp16", 0, "fp16")],
)
def test_precision_is_what_the_layers_say(bundle: Bundle, recipe: str, integers: int, precision: str) -> None:
    layers = Layers(40, 8, integers, 2, 1, True)
    assert record(bundle, recipe, layers=layers, quantized_linears=8).precision == precision
    assert record(bundle, recipe, quantized_linears=8).precision in ("fp16", "fp32")


def test_the_last_good_plan_survives_a_worse_one_and_a_build_that_dies(bundle: Bundle, cache: PlanCache) -> None:
    cache.finish(record(bundle), b"good")
    cache.begin(record(bundle, verdict=None, built=2.0))
    assert not cache.finish(record(bundle, verdict=REFUSED, built=3.0), b"bad")
    (found,) = cache.records()
    assert found.accepted and cache.plan(found) == b"good"
    assert cache.finish(record(bundle, built=4.0), b"better")
    (found,) = cache.records()
    assert cache.plan(found) == b"better"


def test_a_build_that_took_its_process_down_is_not_tried_by_itself_again(bundle: Bundle, cache: PlanCache) -> None:
    started = record(bundle, verdict=None)
    for _ in range(2):
        assert settled(cache.find(started.key)) == ""
        cache.begin(started)
    assert "ended without a word" in settled(cache.find(started.key))
    cache.finish(record(bundle, verdict=REFUSED), b"bad")
    assert "it was refused: the cosine" in settled(cache.find(started.key))
    assert list(cache.folder.glob("*.plan")) == []


def test_a_build_that_was_broken_off_in_good_order_is_tried_again(bundle: Bundle, cache: PlanCache) -> None:
    started = record(bundle, verdict=None)
    cache.begin(started)
    cache.forget(started)
    assert cache.find(started.key) is None
    cache.finish(record(bundle), b"plan")
    cache.forget(started)
    assert settled(cache.find(started.key)) == "it is there"


def test_one_older_generation_is_kept_to_go_back_to(bundle: Bundle, cache: PlanCache) -> None:
    for age in range(4):
        newer = record(bundle, built=float(age))
        newer = msgspec.structs.replace(newer, key=msgspec.structs.replace(newer.key, onnx_sha256=str(age) * 64))
        cache.finish(newer, b"plan %d" % age)
    found = cache.records()
    assert [cache.plan(each) for each in found] == [b"plan 3", b"plan 2"]
    assert len(found) == KEPT_GENERATIONS == len(list(cache.folder.glob("*.plan")))


@pytest.mark.parametrize("damage", [b"", b"{", b'{"key": 1}', b'{"future": true}'])
def test_a_damaged_record_is_passed_over_and_stays(
    bundle: Bundle, cache: PlanCache, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache.finish(record(bundle), b"plan")
    (path,) = cache.folder.glob("*.json")
    path.write_bytes(damage)
    assert cache.records() == []
    assert path.read_bytes() == damage and "is no record of an engine" in caplog.text


def test_a_full_disk_is_told_in_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file where the folder should be")
    with pytest.raises(EngineError, match=r"cannot be written .* free some space") as caught:
        PlanCache(tmp_path / "engines").begin(record(bundle))
    assert "\n" not in str(caught.value)


def test_two_builds_at_once_are_refused(cache: PlanCache) -> None:
    with cache.building(), pytest.raises(EngineError, match=r"being built .* already"), PlanCache(cache.folder).building():
        pass
    with cache.building():
        pass


def test_timing_caches_go_by_version_and_gpu(cache: PlanCache) -> None:
    assert cache.timing_cache(ORIN) == b""
    cache.keep_timing_cache(ORIN, b"learned")
    assert cache.timing_cache(ORIN) == b"learned"
    assert cache.timing_cache(Machine("10.16.1", "Orin", "8.7")) == b""


def test_records_are_plain_json(bundle: Bundle, cache: PlanCache) -> None:
    cache.finish(record(bundle), b"plan")
    (path,) = cache.folder.glob("encoder-int8-*.json")
    assert json.loads(path.read_text())["key"]["machine"] == {"tensorrt": "10.3.0", "gpu": "Orin", "compute_capability": "8.7"}
