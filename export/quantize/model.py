"""Calibrate and quantize a whole model, part by part, each on what the part before it really gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.bundle import Part
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Floats
from export.feeds import Plans, encode, predictor_feeds, rollout_feeds
from export.quantize.pipeline import Quantized, quantize


def quantize_model(
    graphs: Mapping[Part, onnx.ModelProto],
    pictures: NDArray[np.uint8],
    actions: Floats,
    *,
    seed: int,
    plans: Plans,
    plan_count: int,
    made_from: str,
    keep_float: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Part, Quantized]:
    """FP32 graphs to INT8 master graphs. pictures: (E, T, H, W, 3) at the model's step. actions: (E, T, A).

    The predictor meets latents of the quantized encoder and its own predictions, the rollout plan_count sets of plans.
    made_from: says in the scale tables what was run. progress: called with batches done and in all. Raises CalibrationError.
    """
    rng = np.random.default_rng(seed)
    quantized: dict[Part, Quantized] = {}
    say("calibrating the encoder")
    flat = pictures.reshape(-1, *pictures.shape[2:])
    quantized["encoder"] = quantize(
        graphs["encoder"],
        ({"picture": p[None]} for p in flat),
        made_from=made_from,
        keep_float=keep_float,
        progress=lambda done: progress(done, len(flat)),
    )
    encoder = OnnxRuntimeEngine(quantized["encoder"].model, "encoder (int8)")
    latents = encode(encoder, pictures)  # as the predictor will meet them: from the quantized encoder
    say("calibrating the predictor")
    predictor = OnnxRuntimeEngine(graphs["predictor"].SerializeToString(), "predictor (fp32)")
    context = predictor.inputs["context"].shape[1]
    steps = len(latents) * (2 * latents.shape[1] - context)
    quantized["predictor"] = quantize(
        graphs["predictor"],
        predictor_feeds(rng, predictor, latents, actions),
        made_from=f"own rollouts on {made_from}",
        keep_float=keep_float,
        progress=lambda done: progress(done, steps),
    )
    if "rollout" in graphs:
        say("calibrating the rollout")
        shape = _plan_shape(graphs["rollout"])
        quantized["rollout"] = quantize(
            graphs["rollout"],
            rollout_feeds(rng, latents, actions, plans, shape, context, plan_count),
            made_from=f"plans on {made_from}",
            keep_float=keep_float,
            progress=lambda done: progress(done, plan_count),
        )
    return quantized


def _plan_shape(rollout: onnx.ModelProto) -> tuple[int, int]:
    candidates, horizon = (d.dim_value for d in rollout.graph.output[0].type.tensor_type.shape.dim)
    return candidates, horizon
