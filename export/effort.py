"""How much of a graph to measure: what takes seconds of a small one takes hours of a large one, and teaches hardly more.

Work is counted in multiplications, so that the same model is measured alike on every machine.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable

import onnx

from export.lint.outline import outline

WORK = 1e12
"""Multiplications that one figure may cost where nothing else is said; a minute on a core of 2020."""
LEAST_PLANS = 4
"""Sets of plans to calibrate and to verify the largest rollout on."""


def multiplications(graph: onnx.ModelProto) -> int:
    """What one run multiplies in MatMul, Gemm and Conv. The graph's shapes are fixed."""
    inferred = onnx.shape_inference.infer_shapes(outline(graph), strict_mode=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    } | {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    total = 0
    for node in inferred.node:
        if node.op_type in ("MatMul", "Gemm"):
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        elif node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    return total


def affordable(graph: onnx.ModelProto, wanted: int = sys.maxsize, *, least: int = 1, times: int = 1) -> int:
    """How many inputs to run a graph on: ``wanted``, fewer where that is more than WORK, ``least`` in any case (if so
    many are wanted). times: how often each input is run."""
    return within(WORK, multiplications(graph) * times, wanted, least=least)


def within(budget: float, each: int, wanted: int, *, least: int = 1) -> int:
    """As many as the budget has room for if each takes so much, ``wanted`` at most, ``least`` at least if so many are wanted."""
    return min(wanted, max(least, int(budget / max(1, each))))


def affordable_by_all(graphs: Iterable[onnx.ModelProto], wanted: int, *, times: int = 1) -> int:
    """As affordable, for the graph of which the fewest are."""
    return min(affordable(graph, wanted, times=times) for graph in graphs)
