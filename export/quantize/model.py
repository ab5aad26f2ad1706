"""Calibrate and quantize a whole model, part by part, each on what the part before it really gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.bundle import Part
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Floats
from export.feeds import Plans, encode, picture_feed, predictor_feeds, rollout_feeds
from export.quantize.pipeline import Quantized, quantize
from export.quantize.smooth import smooth
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
    smoothing: bool = False,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Part, Quantized]:
    """FP32 graphs to INT8 master graphs. pictures: (E, T, H, W, 3) at the model's step, or
    clips (E, T, F, H, W, 3). actions: (E, T, A).

    The predictor meets latents of the quantized encoder and its own predictions, the rollout plan_count sets of plans.
    smoothing: fold outlier channels into the weights first, which takes a run over the data of its own.
    made_from: says in the scale tables what was run. progress: called with batches done and in all. Raises CalibrationError.
    """
    rng = np.random.default_rng(seed)
    quantized: dict[Part, Quantized] = {}

    def calibrate(part: Part, feeds: Callable[[], Iterable[Feed]], count: int, ran: str) -> None:
        def count_up(done: int) -> None:
            progress(done, count)

        graph, smoothed = graphs[part], None
        if smoothing:
            smoothed = smooth(graph, feeds(), progress=count_up)
            graph = smoothed.model
            say(f"smoothing the {part}: {smoothed.sentence}")
        ready = quantize(graph, feeds(), made_from=ran, keep_float=keep_float, progress=count_up)
        quantized[part] = replace(ready, smoothed=smoothed)

    say("calibrating the encoder")
    count = pictures.shape[0] * pictures.shape[1]
    calibrate("encoder", lambda: (picture_feed(p) for episode in pictures for p in episode), count, made_from)
    encoder = OnnxRuntimeEngine(quantized["encoder"].model, "encoder (int8)")
    latents = encode(encoder, pictures)  # as the predictor will meet them: from the quantized encoder
    if "predictor" not in graphs:
        return quantized
    say("calibrating the predictor")
    predictor = OnnxRuntimeEngine(graphs["predictor"].SerializeToString(), "predictor (fp32)")
    context = predictor.inputs["context"].shape[1]
    steps = len(latents) * (2 * latents.shape[1] - context)
    calibrate("predictor", lambda: predictor_feeds(rng, predictor, latents, actions), steps, f"own rollouts on {made_from}")
    if "rollout" in graphs:
        say("calibrating the rollout")
        shape = _plan_shape(graphs["rollout"])

        def tried() -> Iterator[Feed]:
            return rollout_feeds(rng, latents, actions, plans, shape, context, plan_count)

        calibrate("rollout", tried, plan_count, f"plans on {made_from}")
    return quantized


def _plan_shape(rollout: onnx.ModelProto) -> tuple[int, int]:
    candidates, horizon = (d.dim_value for d in rollout.graph.output[0].type.tensor_type.shape.dim)
    return candidates, horizon
