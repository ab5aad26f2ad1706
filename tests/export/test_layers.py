"""Layer by layer: the layer that INT8 ruins stands first, one that it does not has no error."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export import layers
from export.feeds import run
from export.layers import layer_errors, without_rounding
from export.quantize.pipeline import Calibration, Quantized, quantize
from export.sources.onnx_pair import open_onnx_pair
from tests.export.sources.pair import write_pair

FEEDS = [{"picture": p} for p in np.random.default_rng(2).integers(0, 256, (6, 1, 16, 24, 3), dtype=np.uint8)]


def quantized_encoder(folder, **kind) -> Quantized:
    graph = open_onnx_pair(write_pair(folder, **kind)).graphs["encoder"]
    return quantize(graph, lambda: FEEDS, Calibration("max"), made_from="noise")


def test_the_ruined_layer_stands_first(tmp_path):
    q = quantized_encoder(tmp_path, outlier=3000.0)
    first, second = layer_errors(q.fp32, onnx.load_from_string(q.model), FEEDS)
    assert first.layer.endswith("second") and first.relative_error > 0.05 > 5 * second.relative_error > 0.0
    assert first.cosine < 0.999 < second.cosine and first.places == 1


def test_errors_are_those_of_the_whole_output_with_its_bias(tmp_path):
    q = quantized_encoder(tmp_path)
    last = next(e for e in layer_errors(q.fp32, onnx.load_from_string(q.model), FEEDS) if e.layer.endswith("second"))
    exact, int8 = (OnnxRuntimeEngine(m, "encoder") for m in (q.fp32.SerializeToString(), q.model))
    expected = []
    for feed in FEEDS:
        a = run(exact, feed)
        expected.append(np.linalg.norm(run(int8, feed) - a) / np.linalg.norm(a))
    assert last.relative_error == pytest.approx(np.mean(expected), rel=1e-3)


def test_of_a_large_graph_some_tokens_are_compared_and_the_errors_stay_alike(exported, monkeypatch):
    twin, model = (onnx.load(str(exported.bundle.folder / f"encoder{kind}.onnx")) for kind in (".fp32", ""))
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = [{"picture": np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8)} for n in range(2)]
    whole = {e.layer: e.relative_error for e in layer_errors(twin, model, feeds)}
    monkeypatch.setattr(layers, "WATCHED_BYTES", sum(each.bytes for each in layers._watched(twin, model)) // 2)
    counted: list[tuple[int, int]] = []
    sampled = layer_errors(twin, model, feeds, lambda done, total: counted.append((done, total)))
    assert {e.layer: pytest.approx(e.relative_error, rel=0.5) for e in sampled} == whole
    assert any(e.relative_error != whole[e.layer] for e in sampled) and counted == [(1, 2), (2, 2)]


def test_without_rounding_only_the_weights_remember_int8(tmp_path):
    q = quantized_encoder(tmp_path)
    floating = without_rounding(onnx.load_from_string(q.model))
    assert not {node.op_type for node in floating.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    exact, int8, own = (OnnxRuntimeEngine(m, "e") for m in (q.fp32.SerializeToString(), q.model, floating.SerializeToString()))
    a, b, c = (run(engine, FEEDS[0]) for engine in (exact, int8, own))
    assert 0.0 < np.linalg.norm(c - a) < np.linalg.norm(b - a)
    errors = layer_errors(floating, onnx.load_from_string(q.model), FEEDS)
    assert {e.layer for e in errors} == {e.layer for e in layer_errors(q.fp32, onnx.load_from_string(q.model), FEEDS)}


def test_a_layer_used_in_every_step_counts_once_by_its_worst_place(exported):
    twin = onnx.load(str(exported.bundle.folder / "rollout.fp32.onnx"))
    model = onnx.load(str(exported.bundle.folder / "rollout.onnx"))
    rng = np.random.default_rng(0)
    engine = OnnxRuntimeEngine(model.SerializeToString(), "rollout")
    feed = {name: rng.normal(size=spec.shape).astype(np.float32) for name, spec in engine.inputs.items()}
    found = layer_errors(twin, model, [feed])
    assert len({e.layer for e in found}) == len(found) and max(e.places for e in found) >= 4
    assert [e.relative_error for e in found] == sorted((e.relative_error for e in found), reverse=True)
