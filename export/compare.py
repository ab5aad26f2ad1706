"""INT8 against FP32 on footage that calibration has not seen: every part alone, then plan by plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Part
from edge.engines.engine import Engine
from edge.messages import Floats
from export.feeds import Plans, encode, imagine, late_weights, rollout_feeds, run
from export.verify import latent_report, plan_report, rollout_report


@dataclass(frozen=True)
class Comparison:
    """report: for the bundle. exact, quantized: what the predictors made of the FP32 latents, (E, T - C, tokens, D), of no
    step without a predictor.
    exact_latents, latents: of the FP32 and of the quantized encoder, (E, T, tokens, D)."""

    report: dict[str, Any]
    exact: Floats
    quantized: Floats
    exact_latents: Floats
    latents: Floats


def compare(
    exact: Mapping[Part, Engine],
    quantized: Mapping[Part, Engine],
    pictures: NDArray[np.uint8],
    actions: Floats,
    *,
    seed: int,
    plans: Plans,
    plan_count: int,
) -> Comparison:
    """Latents, open-loop predictions, and the costs of plan_count sets of plans if there is a rollout.
    pictures: (E, T, H, W, 3), or clips (E, T, F, H, W, 3). actions: (E, T, A)."""
    rng = np.random.default_rng(seed)
    latents = encode(exact["encoder"], pictures)
    rounded = encode(quantized["encoder"], pictures)
    report: dict[str, Any] = {"encoder": latent_report(latents, rounded)}
    if "predictor" not in exact:
        nothing = latents[:, :0]
        return Comparison(report, nothing, nothing, latents, rounded)
    imagined = imagine(exact["predictor"], latents, actions), imagine(quantized["predictor"], latents, actions)
    context = exact["predictor"].inputs["context"].shape[1]
    report["predictor"] = rollout_report(*imagined, latents[:, context:])
    if "rollout" in exact:
        candidates, horizon = exact["rollout"].outputs["distance"].shape
        feeds = list(rollout_feeds(rng, latents, actions, plans, (candidates, horizon), context, plan_count))
        weights = late_weights(horizon)
        report["planner"] = plan_report(
            np.stack([run(exact["rollout"], feed) @ weights for feed in feeds]),
            np.stack([run(quantized["rollout"], feed) @ weights for feed in feeds]),
        )
    return Comparison(report, *imagined, latents, rounded)
