"""What the predictor is calibrated on: every real window, its own predictions, and actions up to their extremes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import predictor_feeds, predictor_steps

E, T, C, D, A = 2, 5, 2, 3, 2


def doubling() -> OnnxRuntimeEngine:
    """Predicts twice the newest latent, so that predictions can be told from footage."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Split", ["context"], ["old", "new"], "split", axis=1, num_outputs=2),
        helper.make_node("Squeeze", ["new", "one"], ["newest"], "squeeze"),
        helper.make_node("Add", ["newest", "newest"], ["predicted"], "double"),
        helper.make_node("Identity", ["actions"], ["unused"], "read"),
    ]
    inputs = [value("context", TensorProto.FLOAT, (1, C, 1, D)), value("actions", TensorProto.FLOAT, (1, C, A))]
    outputs = [value("predicted", TensorProto.FLOAT, (1, 1, D)), value("unused", TensorProto.FLOAT, (1, C, A))]
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return OnnxRuntimeEngine(model.SerializeToString(), "test")


def test_real_windows_come_first_then_its_own_rollout_with_extreme_actions():
    rng = np.random.default_rng(0)
    latents = rng.uniform(1, 2, (E, T, 1, D)).astype(np.float32)
    actions = rng.uniform(-0.9, 0.9, (E, T, A)).astype(np.float32)
    feeds = list(predictor_feeds(rng, doubling(), latents, actions))
    assert len(feeds) == E * predictor_steps(T, C)
    run = feeds[: len(feeds) // E]
    real, imagined = run[: T - C + 1], run[T - C + 1 :]
    for start, feed in enumerate(real):
        np.testing.assert_array_equal(feed["context"][0], latents[0, start : start + C])
        assert (np.abs(feed["actions"][0, -1]) == 1.0).all() == bool(start % 2)
        np.testing.assert_array_equal(feed["actions"][0, :-1], actions[0, start : start + C - 1])
    for step, feed in enumerate(imagined):
        newest = latents[0, C - 1] * 2.0**step
        np.testing.assert_allclose(feed["context"][0, -1], newest, rtol=1e-6)
        recorded = C - 1 + step < T
        assert (np.abs(feed["actions"][0, -1]) == 1.0).all() != recorded
