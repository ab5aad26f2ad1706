"""Calibrate and quantize a whole model, part by part, each on what the part before it really gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.scale_cache import digest
from edge.bundle import Part
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Floats
from export.external_weights import engine_of
from export.feeds import Plans, encode, picture_feed, predictor_feeds, predictor_steps, rollout_feeds
from export.quantize.pipeline import PLAIN, Batches, Calibration, Quantized, quantize, requantize
from export.remembering import Remembering
from export.sources.source import Feed


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
    restored: Mapping[Part, Collection[str]] = {},
    how: Calibration = PLAIN,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Part, Quantized]:
    """FP32 graphs to INT8 master graphs. pictures: (E, T, H, W, 3) at the model's step, or
    clips (E, T, F, H, W, 3). actions: (E, T, A).

    The predictor meets latents of the quantized encoder and its own predictions, the rollout plan_count sets of plans.
    keep_float: layers, by the end of their name, that stay in float; restored: by part and whole name, others that do.
    made_from: says in the scale tables what was run. progress: called with batches done and in all. Raises CalibrationError.
    """
    quantized: dict[Part, Quantized] = {}
    few_plans = plans(np.random.default_rng(seed), 64, 8) if "rollout" in graphs else np.empty(0)
    shown = digest([pictures, actions, few_plans, f"seed {seed}, {plan_count} sets of plans"])

    def calibrate(part: Part, feeds: Batches, count: int, ran: str) -> None:
        def count_up(done: int) -> None:
            progress(done, count)

        # What the others are shown depends on the quantized encoder too; their own graphs are part of the key anyhow.
        frames = digest([shown, *([quantized["encoder"].model] if part != "encoder" else [])])
        ready = quantize(graphs[part], feeds, how, made_from=ran, frames=frames, keep_float=keep_float, progress=count_up)
        quantized[part] = requantize(ready, restored[part]) if part in restored else ready
        if ready.smoothed:
            say(f"smoothing the {part}: {ready.smoothed.sentence}")
        if ready.file:
            say(f"scales of the {part}: {'reused from' if ready.reused else 'kept in'} {ready.file}")

    say("calibrating the encoder")
    count = pictures.shape[0] * pictures.shape[1]
    calibrate("encoder", lambda: (picture_feed(p) for episode in pictures for p in episode), count, made_from)
    encoder = OnnxRuntimeEngine(quantized["encoder"].model, "encoder (int8)")
    latents = encode(encoder, pictures)  # as the predictor will meet them: from the quantized encoder
    if "predictor" not in graphs:
        return quantized
    say("calibrating the predictor")
    predictor = Remembering(engine_of(graphs["predictor"], "predictor (fp32)"))
    context = predictor.inputs["context"].shape[1]

    def imagined() -> Iterator[Feed]:
        return predictor_feeds(np.random.default_rng(seed), predictor, latents, actions)

    steps = len(latents) * predictor_steps(latents.shape[1], context)
    calibrate("predictor", imagined, steps, f"own rollouts on {made_from}")
    if "rollout" in graphs:
        say("calibrating the rollout")
        shape = _plan_shape(graphs["rollout"])

        def tried() -> Iterator[Feed]:
            return rollout_feeds(np.random.default_rng(seed), latents, actions, plans, shape, context, plan_count)

        calibrate("rollout", tried, plan_count, f"plans on {made_from}")
    return quantized


def _plan_shape(rollout: onnx.ModelProto) -> tuple[int, int]:
    candidates, horizon = (d.dim_value for d in rollout.graph.output[0].type.tensor_type.shape.dim)
    return candidates, horizon
