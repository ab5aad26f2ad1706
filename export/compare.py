"""INT8 against FP32 on footage that calibration has not seen: every part alone, then all of them one behind the other."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Part
from edge.clock import MonotonicClock
from edge.config import PlannerConfig
from edge.engines.engine import Engine
from edge.messages import Belief, Floats, Goal
from edge.planning.planner import PlanningError
from edge.planning.refinement import late_weights
from edge.planning.sampling import SamplingPlanner
from export.feeds import Plans, Progress, counted, encode, imagine, rollout_feeds, run, unwatched
from export.sources.source import Feed
from export.verify import (
    action_report,
    growth_report,
    latent_report,
    plan_report,
    rollout_report,
    share_of_variance,
)

NEVER_NS = 1 << 62
SEARCHED = 16
"""States in which the planner's whole search is run: some ten calls of the rollout each."""


@dataclass(frozen=True)
class Comparison:
    """report: for the bundle. exact, quantized: what the predictors made of the FP32 latents, (E, T - C, tokens, D), of no
    step without a predictor. exact_latents, latents: of the FP32 and of the quantized encoder, (E, T, tokens, D). chained:
    what the quantized predictor made of the quantized latents, as on the device. exact_costs, costs: of the same plans, (S,
    N), each chain on its own latents; empty without a rollout."""

    report: dict[str, Any]
    exact: Floats
    quantized: Floats
    exact_latents: Floats
    latents: Floats
    chained: Floats
    exact_costs: Floats
    costs: Floats


def compare(
    exact: Mapping[Part, Engine],
    quantized: Mapping[Part, Engine],
    pictures: NDArray[np.uint8],
    actions: Floats,
    *,
    seed: int,
    plans: Plans,
    plan_count: int,
    searched: int = SEARCHED,
    progress: Progress = unwatched,
) -> Comparison:
    """Latents, open-loop predictions, and, with a rollout, the costs of plan_count sets of plans and what a planner makes of
    them. pictures: (E, T, H, W, 3), or clips (E, T, F, H, W, 3). actions: (E, T, A). searched: states in which to run the
    planner's whole search. Blocks for minutes."""
    latents = encode(exact["encoder"], pictures, progress)
    rounded = encode(quantized["encoder"], pictures, progress)
    report: dict[str, Any] = {"encoder": latent_report(latents, rounded)}
    report["encoder"]["share_of_variance"] = share_of_variance(latents, rounded)
    costs = np.empty((2, 0, 0), np.float32)
    if "predictor" not in exact:
        nothing = latents[:, :0]
        return Comparison(report, nothing, nothing, latents, rounded, nothing, costs[0], costs[1])
    imagined = imagine(exact["predictor"], latents, actions, progress)
    alone = imagine(quantized["predictor"], latents, actions, progress)
    chained = imagine(quantized["predictor"], rounded, actions, progress)
    context = exact["predictor"].inputs["context"].shape[1]
    report["predictor"] = rollout_report(imagined, alone, latents[:, context:])
    report["predictor"] |= latent_report(imagined[:, 0], alone[:, 0]) | growth_report(imagined, alone)
    report["end_to_end"] = latent_report(imagined[:, 0], chained[:, 0]) | growth_report(imagined, chained)
    if "rollout" in exact:
        one, other = exact["rollout"], quantized["rollout"]

        def tried(seen: Floats) -> list[Feed]:
            """The same states, plans and goals every time, in these latents."""
            shape = one.outputs["distance"].shape
            draw = np.random.default_rng(seed)
            return list(rollout_feeds(draw, seen, actions, plans, (shape[0], shape[1]), context, plan_count))

        feeds, own = tried(latents), tried(rounded)
        costs = np.stack([plan_costs(one, feeds, progress), plan_costs(other, own, progress)])
        firsts = np.stack([feed["actions"][:, 0] for feed in feeds])
        report["planner"] = plan_report(costs[0], plan_costs(other, feeds, progress), firsts)
        report["end_to_end"] |= plan_report(costs[0], costs[1], firsts)
        if searched:
            with contextlib.suppress(PlanningError):  # a rollout of so few plans that the planner has nothing to choose from
                report["search"] = _search_report(one, other, feeds[:searched], own[:searched], costs[0, :searched], progress)
    return Comparison(report, imagined, alone, latents, rounded, chained, costs[0], costs[1])


def plan_costs(rollout: Engine, feeds: Sequence[Feed], progress: Progress = unwatched) -> Floats:
    """What the plans of each feed cost, float32 (S, N)."""
    weights = late_weights(rollout.outputs["distance"].shape[1], PlannerConfig().lateness)
    return np.stack([run(rollout, feed) @ weights for feed in counted(feeds, progress)])


def search(rollout: Engine, feeds: Sequence[Feed], progress: Progress = unwatched) -> Floats:
    """The plans that the runtime's planner finds in the state of each feed, cold and without a deadline, (S, K, A). Raises
    PlanningError."""
    axes = rollout.inputs["actions"].shape[-1]
    found = []
    for feed in counted(feeds, progress):
        planner = SamplingPlanner(rollout, MonotonicClock(), PlannerConfig())  # a new one: the same noise in every state
        context, past = feed["context"][0], feed.get("past_actions", np.empty((1, 0, axes), np.float32))[0]
        belief = Belief(context[-1], None, context, past, captured_ns=0, coasted=0)
        found.append(planner.plan(belief, Goal("goal", feed["goal"][0], 0.0), NEVER_NS).actions)
    return np.stack(found)


def _search_report(
    exact: Engine, quantized: Engine, feeds: Sequence[Feed], own: Sequence[Feed], costs: Floats, progress: Progress
) -> dict[str, float]:
    """The planner's whole search with either chain. Small differences decide between equally good plans, so that actions
    agree less often than costs would let expect; regret says what that costs, by FP32, in units as in plan_report."""
    found = search(exact, feeds, progress), search(quantized, own, progress)
    tried = []
    for feed, one, other in zip(feeds, *found, strict=True):
        tried.append(feed | {"actions": np.concatenate([one[None], other[None], feed["actions"][2:]])})
    reached = plan_costs(exact, tried)
    spread = np.maximum(np.median(costs, axis=1) - costs.min(axis=1), 1e-12)
    regret = float(np.mean((reached[:, 1] - reached[:, 0]) / spread))
    return action_report(found[0][:, 0], found[1][:, 0]) | {"regret": float(f"{regret:.5g}"), "states": len(feeds)}
