"""Which layers INT8 hurts most, and how few of them must stay in float until the whole passes.

Damage is measured with one layer quantized at a time and all others in float. Rounding errors of different layers are nearly
independent, so the other way (all quantized, one restored) would look for the same number as a small difference of two large
ones, and would need many more inputs to find it; a run costs about the same, as a SwitchedGraph does both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge.bundle import Part
from edge.config import PlannerConfig
from edge.messages import Floats
from edge.planning.refinement import late_weights
from export.effort import affordable
from export.quantize.pipeline import Quantized, requantize
from export.quantize.switched import SwitchedGraph
from export.sources.source import Feed

MOST_IN_FLOAT = 0.25
"""Of the multiplications in a part's quantizable Linears. A part that needs more gains too little from INT8."""
RETRIED = 8

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Damage:
    """A layer, and the error of its part's output with it alone quantized, as a share of the output (see damage_by_layer)."""

    layer: str
    error: float


def damage_by_layer(
    part: Part, quantized: Quantized, feeds: Sequence[Feed], progress: Progress = lambda done, total: None
) -> list[Damage]:
    """Every quantized layer alone, worst first. The error is ||a - b|| / ||a||, of a rollout that of the plans' costs less
    their mean, because an error that all plans share does not change which is best. Of a large graph fewer feeds are used.
    Blocks for the runs."""
    graph = SwitchedGraph(quantized)
    seen = late_costs if part == "rollout" else _whole
    feeds = feeds[: affordable(quantized.fp32, len(feeds), times=1 + len(graph.layers))]
    exact = [seen(graph.run(feed, ())) for feed in feeds]
    found = []
    for done, layer in enumerate(graph.layers, start=1):
        errors = [_relative(a, seen(graph.run(feed, (layer,)))) for a, feed in zip(exact, feeds, strict=True)]
        found.append(Damage(layer, float(np.mean(errors))))
        progress(done, len(graph.layers))
    return sorted(found, key=lambda damage: -damage.error)


def restore(
    quantized: Quantized,
    damage: Sequence[Damage],
    passes: Callable[[Quantized], bool],
    say: Say = lambda line: None,
) -> Quantized | None:
    """With as few of the worst layers as possible in float so that it passes; None if MOST_IN_FLOAT is not enough.

    Their number is found by doubling and halving. Then those that did the least damage are tried in INT8 once more, RETRIED
    at most. passes: asked some twenty times at most in a graph of a hundred layers.
    """
    limit = sum(1 for _ in _affordable(quantized, damage))
    tried: dict[int, Quantized] = {}

    def enough(count: int) -> bool:
        say(f"trying with {count} of {len(damage)} layers in float")
        candidate = requantize(quantized, [each.layer for each in damage[:count]])
        if passes(candidate):
            tried[count] = candidate
        return count in tried

    low, high = 0, 1  # low is not enough
    while high <= limit and not enough(high):
        low, high = high, 2 * high
    if high > limit:
        high = limit
        if low == limit or not enough(high):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    best, kept = tried[high], [each.layer for each in damage[:high]]
    for layer in kept[:-RETRIED - 1 : -1] if high > 1 else ():
        say(f"trying without {layer} in float")
        candidate = requantize(quantized, [other for other in kept if other != layer])
        if passes(candidate):
            best, kept = candidate, [other for other in kept if other != layer]
    return best


def late_costs(distance: Floats) -> Floats:
    """Distances of plans (N, K) -> costs (N,) as the planner weighs them, less their mean."""
    costs: Floats = distance @ late_weights(distance.shape[1], PlannerConfig().lateness)
    costs -= costs.mean()
    return costs


def _whole(output: Floats) -> Floats:
    return output


def _relative(exact: Floats, found: Floats) -> float:
    return float(np.linalg.norm(exact - found) / max(float(np.linalg.norm(exact)), 1e-30))


def _affordable(quantized: Quantized, damage: Sequence[Damage]) -> Iterator[Damage]:
    """The worst layers up to MOST_IN_FLOAT."""
    weights: dict[str, int] = {}
    for linear in quantized.chosen:
        weights[linear.layer] = weights.get(linear.layer, 0) + linear.k * linear.n
    left = MOST_IN_FLOAT * sum(weights.values())
    for each in damage:
        left -= weights[each.layer]
        if left < 0:
            return
        yield each
