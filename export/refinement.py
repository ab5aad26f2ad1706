"""The planner's round put into the rollout graph: the numbers of edge.planning.refinement.refine, in the engine.

Appended after quantization, so that calibration and comparison see nothing but plans going in and distances coming out.
Only operators that every runtime has; nothing here is worth quantizing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import FIXED_PLANS
from edge.planning.refinement import WORST, rank_weights
from export.sources.source import SourceError

_AFTER = "refine"
_INPUTS = ("step_weights", "spread", "noise", "inertia")
_OUTPUTS = ("refined", "next_spread", "best_cost")


ELITES = 6
"""Plans that a round keeps, if there are enough of them."""


def elites_of(candidates: int) -> int:
    """How many of N plans a round keeps."""
    return max(1, min(ELITES, candidates // 8))


def refining(rollout: bytes, elites: int) -> bytes:
    """A rollout graph (docs/bundles.md) with one more set of inputs and outputs.

    step_weights (K,), spread (1, K, A), noise (N - 2 - E, K, A), inertia (1,) -> refined (N, K, A), next_spread (1, K, A),
    best_cost (1,). elites: E. Raises SourceError if N leaves no room for new plans.
    """
    model = onnx.load_from_string(rollout)
    graph = model.graph
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in graph.input}
    candidates, horizon, axes = shapes["actions"]
    drawn = candidates - FIXED_PLANS - elites
    if drawn < 1:
        raise SourceError(
            f"a rollout of {candidates} plans leaves none to draw beside {FIXED_PLANS} fixed ones and {elites} elites: give it more"
        )

    def constant(name: str, value: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"{_AFTER}.{name}"))
        return f"{_AFTER}.{name}"

    def node(operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        names = [name if name in _OUTPUTS else f"{_AFTER}.{name}" for name in outputs]
        graph.node.append(helper.make_node(operator, inputs, names, name=f"{_AFTER}.{outputs[0]}.{operator}", **attributes))
        return names[0]

    first, second = (constant(f"place_{place}", np.array([place], np.int64)) for place in (0, 1))
    one, worst = constant("one", np.ones(1, np.float32)), constant("worst", np.array(WORST, np.float32))
    still = constant("still", np.zeros((1, horizon, axes), np.float32))
    low, high = constant("low", np.array(-1.0, np.float32)), constant("high", np.array(1.0, np.float32))

    weighted = node("Mul", ["distance", "step_weights"], "weighted")
    raw = node("ReduceSum", [weighted, second], "raw", keepdims=0)
    finite = node("Where", [node("Less", [raw, worst], "is_finite"), raw, worst], "costs")
    count = constant("elites", np.array([elites], np.int64))
    least = node("TopK", [finite, count], "least", "order", axis=0, largest=0, sorted=1)
    chosen = node("Gather", ["actions", f"{_AFTER}.order"], "chosen", axis=0)
    shares = constant("shares", rank_weights(elites)[:, None, None])
    centre = node("ReduceSum", [node("Mul", [shares, chosen], "shared"), first], "centre", keepdims=1)
    off = node("Sub", [chosen, centre], "off")
    squares = node("Mul", [shares, node("Mul", [off, off], "squares")], "shared_squares")
    variance = node("ReduceSum", [squares, first], "variance", keepdims=1)
    deviation = node("Sqrt", [variance], "deviation")
    take = node("Sub", [one, "inertia"], "take")
    before = node("Slice", ["actions", first, second, first], "before")
    mean = node("Add", [node("Mul", ["inertia", before], "kept_mean"), node("Mul", [take, centre], "new_mean")], "mean")
    spread = node(
        "Add", [node("Mul", ["inertia", "spread"], "kept_spread"), node("Mul", [take, deviation], "new_spread")], "next_spread"
    )
    drawing = node("Add", [node("Mul", ["noise", spread], "scattered"), mean], "drawing")
    fresh = node("Max", [node("Min", [drawing, high], "below"), low], "fresh")
    node("Concat", [mean, still, chosen, fresh], "refined", axis=0)
    node("Slice", [least, first, second, first], "best_cost")

    inputs = {
        "step_weights": (horizon,),
        "spread": (1, horizon, axes),
        "noise": (drawn, horizon, axes),
        "inertia": (1,),
    }
    outputs = {"refined": (candidates, horizon, axes), "next_spread": (1, horizon, axes), "best_cost": (1,)}
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items())
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items())
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def without_refinement(rollout: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a bundle's rollout as it was before :func:`refining`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(rollout)
    graph = copy.graph
    added = (*_INPUTS, *_OUTPUTS)
    for kept, whole in (
        ([node for node in graph.node if not node.name.startswith(f"{_AFTER}.")], graph.node),
        ([tensor for tensor in graph.initializer if not tensor.name.startswith(f"{_AFTER}.")], graph.initializer),
        ([value for value in graph.input if value.name not in added], graph.input),
        ([value for value in graph.output if value.name not in added], graph.output),
    ):
        copies = [type(each).FromString(each.SerializeToString()) for each in kept]
        del whole[:]
        whole.extend(copies)
    return copy
