"""Layers tried one by one in a switched graph, and the fewest that must stay in float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import run
from export.quantize import sensitivity
from export.quantize.pipeline import Calibration, Quantized, quantize, requantize
from export.quantize.sensitivity import Damage, damage_by_layer, late_costs, restore
from export.quantize.switched import SwitchedGraph
from tests.export.test_quantize import batch, block

LAYERS = ["query", "key", "value", "mix", "up", "down"]


@pytest.fixture(scope="module")
def quantized() -> Quantized:
    return quantize(block(), lambda: [batch(i) for i in range(8)], Calibration(correcting=False), made_from="a test")


def output(model: bytes, feed: dict[str, np.ndarray]) -> np.ndarray:
    return run(OnnxRuntimeEngine(model, "test"), feed)


@pytest.mark.parametrize("layers", [[], ["down"], ["query", "key", "value"], LAYERS])
def test_a_switched_graph_computes_what_a_graph_with_those_layers_quantized_does(quantized, layers):
    switched, feed = SwitchedGraph(quantized), batch(50)
    assert switched.layers == LAYERS
    alike = requantize(quantized, [layer for layer in LAYERS if layer not in layers])
    np.testing.assert_allclose(switched.run(feed, layers), output(alike.model, feed), atol=1e-5)


def test_the_layer_with_an_outlier_is_the_worst():
    model = block()
    for tensor in model.graph.initializer:
        if tensor.name == "up.w":  # one input channel a thousand times larger, and its weights so much smaller
            weight = numpy_helper.to_array(tensor).copy()
            weight[0] /= 1000.0
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
        if tensor.name == "mix.bias":
            bias = numpy_helper.to_array(tensor).copy()
            bias[0] = 3000.0
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    made = quantize(model, lambda: [batch(i) for i in range(8)], made_from="a test")
    damage = damage_by_layer("encoder", made, [batch(50)])
    assert [each.layer for each in damage][:1] == ["up"] and {each.layer for each in damage} == set(LAYERS)
    assert damage[0].error > 3 * damage[1].error > 0.0


DAMAGE = [Damage(layer, 1.0 / (place + 1)) for place, layer in enumerate(["down", "key", "query", "up", "mix", "value"])]


@pytest.mark.parametrize(
    "needed", [{"down"}, {"key"}, {"value"}, {"down", "key"}, {"down", "query"}, {"down", "up", "mix"}, set(LAYERS)]
)
def test_no_more_layers_stay_in_float_than_it_takes(quantized, needed, monkeypatch):
    monkeypatch.setattr(sensitivity, "MOST_IN_FLOAT", 1.0)
    trials: list[set[str]] = []

    def passes(candidate: Quantized) -> bool:
        kept = set(LAYERS) - {linear.layer for linear in candidate.chosen}
        trials.append(kept)
        return needed <= kept

    found = restore(quantized, DAMAGE, passes)
    assert found is not None
    kept = set(LAYERS) - {linear.layer for linear in found.chosen}
    assert kept == needed and len(trials) <= 5 + len(LAYERS)
    counts = onnx.load_from_string(found.model)
    assert sum(node.op_type == "MatMul" and node.input[1].endswith("_dequantized") for node in counts.graph.node) == found.linears


def test_a_part_that_would_be_mostly_float_is_given_up(quantized):
    asked: list[int] = []

    def passes(candidate: Quantized) -> bool:
        asked.append(candidate.linears)
        return False

    assert restore(quantized, DAMAGE, passes) is None
    weights = sum(linear.k * linear.n for linear in quantized.chosen)
    kept = 0
    for each in DAMAGE:
        size = next(linear.k * linear.n for linear in quantized.chosen if linear.layer == each.layer)
        if kept + size > sensitivity.MOST_IN_FLOAT * weights:
            break
        kept += size
    assert asked and max(6 - count for count in asked) <= len(DAMAGE) and kept <= sensitivity.MOST_IN_FLOAT * weights


def test_an_error_that_all_plans_share_is_no_damage():
    distance = np.random.default_rng(0).uniform(1, 2, (8, 3)).astype(np.float32)
    np.testing.assert_allclose(late_costs(distance + 5.0), late_costs(distance), atol=1e-5)
