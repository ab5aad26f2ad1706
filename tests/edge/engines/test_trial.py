"""The comparison that decides: held with real engines of onnxruntime, one of them of a graph that was tampered with."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edge.bundle import Bundle, Part, load
from edge.engines.feeds import feeds_for, pictures
from edge.engines.onnx_half import with_half_floats
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.trial import Distance, Verdict, cosine, excesses, judge, latencies, outputs, relative_error, spearman

BUNDLES: tuple[tuple[str, Part], ...] = (
    ("camera", "encoder"),
    ("camera", "predictor"),
    ("rover", "predictor"),
    ("rover", "rollout"),
)


def engine_of(bundle: Bundle, part: Part, *, integers: bool = True, scaled: float = 1.0) -> OnnxRuntimeEngine:
    """scaled: multiplies the scale of the last quantized weight, as a wrong tactic might."""
    path = bundle.folder / bundle.graph(part).file
    model = path.read_bytes()
    if scaled != 1.0:
        onnx = pytest.importorskip("onnx")
        graph = onnx.load_from_string(model)
        weights = [n for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[1].endswith("scale")]
        constants = {each.name: each for each in graph.graph.initializer}
        name = next(n.input[1] for n in reversed(weights) if constants[n.input[1]].dims)
        values = onnx.numpy_helper.to_array(constants[name]) * np.float32(scaled)
        constants[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
        model = graph.SerializeToString()
    return OnnxRuntimeEngine(model, str(path), integers=integers)


def trial(name: str, part: Part, candidate: OnnxRuntimeEngine, count: int = 3) -> Verdict:
    bundle = load(name)
    bare = Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, files={}), bundle.sha256)  # noise: no samples
    feeds = feeds_for(bare, part, engine_of(bundle, "encoder"), count)
    return judge(engine_of(bundle, part, integers=False), engine_of(bundle, part), candidate, feeds, seconds=0.0)


@pytest.mark.parametrize(("name", "part"), BUNDLES)
def test_the_engine_that_would_run_otherwise_passes_against_itself(name: str, part: Part) -> None:
    verdict = trial(name, part, engine_of(load(name), part))
    assert verdict.accepted and verdict.reason == "" and verdict.samples == 3
    assert verdict.distance is not None and verdict.distance == verdict.reference
    assert verdict.distance.relative_error > 0.0 and (verdict.distance.rank_correlation is None) == (part != "rollout")
    assert verdict.milliseconds and verdict.reference_milliseconds


@pytest.mark.parametrize(("name", "part"), BUNDLES)
def test_float_arithmetic_passes_with_no_distance_at_all(name: str, part: Part) -> None:
    verdict = trial(name, part, engine_of(load(name), part, integers=False))
    assert verdict.accepted and verdict.distance is not None and verdict.distance.relative_error == 0.0


@pytest.mark.parametrize(("name", "part"), BUNDLES)
def test_the_half_form_is_as_near_to_float_arithmetic_as_the_graph_it_is_made_of(name: str, part: Part) -> None:
    bundle = load(name)
    half = with_half_floats((bundle.folder / bundle.graph(part).file).read_bytes())
    verdict = trial(name, part, OnnxRuntimeEngine(half, "half"), count=8)
    assert verdict.accepted and verdict.distance is not None and verdict.reference is not None
    assert verdict.distance.relative_error < 1.1 * verdict.reference.relative_error


@pytest.mark.parametrize(("name", "part"), BUNDLES)
def test_a_graph_that_computes_something_else_is_refused(name: str, part: Part) -> None:
    verdict = trial(name, part, engine_of(load(name), part, scaled=1.5))
    assert not verdict.accepted and "must be at" in verdict.reason


def test_numbers_that_are_none_are_refused() -> None:
    verdict = trial("camera", "encoder", engine_of(load("camera"), "encoder", scaled=float("inf")))
    assert not verdict.accepted and "latent is not finite" in verdict.reason


@pytest.mark.parametrize(
    ("own", "usual", "refused"),
    [
        (Distance(0.9991, 0.049), Distance(1.0, 0.001), ()),
        (Distance(0.9989, 0.049), Distance(1.0, 0.001), ("cosine",)),
        (Distance(0.9991, 0.051), Distance(1.0, 0.001), ("relative error",)),
        (Distance(0.986, 0.149), Distance(0.99, 0.1), ()),
        (Distance(0.984, 0.151), Distance(0.99, 0.1), ("relative error", "cosine")),
        (Distance(1.0, 0.0, 0.991), Distance(1.0, 0.0, 1.0), ()),
        (Distance(1.0, 0.0, 0.989), Distance(1.0, 0.0, 1.0), ("rank correlation",)),
        (Distance(1.0, 0.0, 0.926), Distance(1.0, 0.0, 0.95), ()),
        (Distance(1.0, 0.0, 0.924), Distance(1.0, 0.0, 0.95), ("rank correlation",)),
        (Distance(float("nan"), float("nan")), Distance(1.0, 0.0), ("relative error", "cosine")),
    ],
)
def test_limits_from_both_sides(own: Distance, usual: Distance, refused: tuple[str, ...]) -> None:
    found = excesses(own, usual)
    assert len(found) == len(refused) and all(name in each for name, each in zip(refused, found, strict=True))


def test_feeds_fit_the_graphs_and_are_the_same_every_time() -> None:
    for name, part in BUNDLES:
        bundle = load(name)
        encoder = engine_of(bundle, "encoder")
        first, second = (feeds_for(bundle, part, encoder, count=2) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert a.keys() == engine_of(bundle, part).inputs.keys()
            assert all(np.array_equal(a[key], b[key]) for key in a)
        assert any(not np.array_equal(first.inputs[0][key], first.inputs[1][key]) for key in first.inputs[0])


def test_every_feed_of_a_rollout_has_another_goal_that_is_not_where_it_stands() -> None:
    bundle = load("rover")
    feeds = feeds_for(bundle, "rollout", engine_of(bundle, "encoder"))
    goals = {feed["goal"].tobytes() for feed in feeds}
    assert len(goals) == len(feeds)
    assert all(not np.array_equal(feed["goal"][0], feed["context"][0, -1]) for feed in feeds)


def test_latents_of_different_pictures_differ() -> None:
    bundle = load("camera")
    encoder = engine_of(bundle, "encoder")
    size = (bundle.manifest.picture.height, bundle.manifest.picture.width)
    seen = pictures(np.random.default_rng(0), size, 6)
    latents = [outputs(encoder, {"picture": each[None]})["latent"] for each in seen]
    assert seen.std() > 20
    assert min(relative_error(latents[0], other) for other in latents[1:]) > 0.05


def test_measures() -> None:
    a = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    assert cosine(a, 3 * a) == pytest.approx(1.0) and cosine(a, -a) == pytest.approx(-1.0)
    assert cosine(a, a * 0) == 0.0 and cosine(a * 0, a * 0) == 1.0
    assert relative_error(a, 1.1 * a) == pytest.approx(0.1)
    assert relative_error(a * 0, a) == float("inf") and relative_error(a * 0, a * 0) == 0.0
    x = np.array([3.0, 1.0, 2.0])
    assert spearman(x, x * 2) == 1.0 and spearman(x, -x) == -1.0


def test_engines_take_turns() -> None:
    order: list[str] = []

    class Noted(OnnxRuntimeEngine):
        def enqueue(self) -> None:
            order.append(self._where)
            super().enqueue()

    bundle = load("camera")
    path = bundle.folder / bundle.graph("predictor").file
    engines = [Noted(path.read_bytes(), name) for name in "ab"]
    times = latencies(engines, 0.0, least=3)
    assert order == ["a", "b"] * 3 and [len(each) for each in times] == [3, 3]


def test_a_bundle_without_a_rollout_has_no_feeds_for_it() -> None:
    bundle = load("camera")
    with pytest.raises(KeyError):
        feeds_for(bundle, "rollout", engine_of(bundle, "encoder"))
