"""What every quantized Linear gives inside the INT8 graph, held against the same layer of the FP32 graph.

Unlike a layer quantized alone (export.quantize.sensitivity), it meets here the errors of all layers before it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge.engines.engine import Array
from export.external_weights import WeightsFile, engine_of, folder_for
from export.feeds import Progress, run, unwatched
from export.lint.outline import outline
from export.onnx_cleaning import drop_unused_constants
from export.quantize.linears import add_outputs, find_linears, with_outputs
from export.sources.source import Feed

WATCHED_BYTES = 512 << 20
"""Of outputs in one run. Of larger graphs every n-th token is compared, as the whole would take a run for each part of it."""


class LayerError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer. relative_error: ||a - b|| / ||a|| of its whole output, cosine: between whole outputs (of every
    n-th token, where that is more than WATCHED_BYTES); means over inputs,
    of the worst of the ``places`` in which the graph uses the layer (a rollout does in every step)."""

    layer: str
    cosine: float
    relative_error: float
    places: int = 1


@dataclass(frozen=True)
class _Watched:
    """weight: by which one layer is known in all its places. tensor: its output, with the bias. bytes: of it."""

    layer: str
    weight: str
    tensor: str
    bytes: int


def layer_errors(
    exact: onnx.ModelProto, quantized: onnx.ModelProto, feeds: Sequence[Feed], progress: Progress = unwatched
) -> list[LayerError]:
    """Run both graphs over ``feeds`` and compare the output of every quantized Linear; worst first.

    exact: the graph that ``quantized`` was made from, or :func:`without_rounding` of it: the same names of tensors. Blocks
    for the runs.
    """
    watched = _watched(exact, quantized)
    if not watched:
        return []
    measured: dict[str, list[tuple[float, float]]] = defaultdict(list)
    tensors = list(dict.fromkeys(each.tensor for each in watched))
    every = math.ceil(sum(each.bytes for each in watched) / WATCHED_BYTES)
    one = engine_of(_watching(exact, tensors, every), "layers (fp32)")
    other = engine_of(_watching(quantized, tensors, every), "layers (int8)")
    for done, feed in enumerate(feeds, start=1):
        run(one, feed), run(other, feed)
        for tensor in tensors:
            name = tensor if every == 1 else _sampled(tensor)
            measured[tensor].append(_compared(one.output(name), other.output(name)))
        progress(done, len(feeds))
    one.close()
    other.close()
    places: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in watched:
        cosines, errors = zip(*measured[each.tensor], strict=True)
        places[each.weight].append((float(np.mean(cosines)), float(np.mean(errors))))
    names = {each.weight: each.layer for each in reversed(watched)}
    found = [
        LayerError(
            names[weight],
            cosine=float(f"{min(cosine for cosine, _ in values):.7g}"),
            relative_error=float(f"{max(error for _, error in values):.5g}"),
            places=len(values),
        )
        for weight, values in places.items()
    ]
    return sorted(found, key=lambda each: -each.relative_error)


def without_rounding(quantized: onnx.ModelProto) -> onnx.ModelProto:
    """An INT8 graph in float arithmetic: activations pass unrounded, weights keep the values that INT8 gave them. What to
    compare with where the graph from before quantization is not at hand; the rounding of weights does not show then. A graph
    that becomes too large needs a place for its weights (export.external_weights)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(quantized)
    graph = copy.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    through: dict[str, str] = {}
    kept = []
    rounded = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    bytes_of_floats = sum(4 * math.prod(constants[node.input[0]].dims) for node in rounded)
    with WeightsFile(folder_for(bytes_of_floats)) as weights:
        for node in rounded:
            steps, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
            weights.put(graph.initializer.add(name=node.output[0]), steps.astype(np.float32) * scale)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in makers:
            through[node.output[0]] = makers[node.input[0]].input[0]
        elif node.op_type != "QuantizeLinear":
            kept.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    for node in copies:
        node.input[:] = [through.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(copies)
    drop_unused_constants(graph)
    onnx.checker.check_model(outline(copy))
    return copy


def _watched(exact: onnx.ModelProto, quantized: onnx.ModelProto) -> list[_Watched]:
    """The quantized Linears with the tensors that hold what they give."""
    dequantized = {node.output[0] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    rounded = {node.name for node in quantized.graph.node if node.op_type == "MatMul" and node.input[0] in dequantized}
    linears = {linear.node: linear for linear in find_linears(exact) if linear.node in rounded}
    constants = {tensor.name for tensor in exact.graph.initializer}
    shared = {name for node in quantized.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in exact.graph.node:
        for name in node.input:
            readers[name].append(node)
    inner = onnx.shape_inference.infer_shapes(outline(exact), strict_mode=True).graph
    sizes = {
        value.name: 4 * math.prod(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*inner.value_info, *inner.output)
    }
    found = []
    for node in exact.graph.node:
        if node.name not in linears:
            continue
        tensor = node.output[0]
        after = readers[tensor]
        if len(after) == 1 and after[0].op_type == "Add" and constants & set(after[0].input) and after[0].output[0] in shared:
            tensor = after[0].output[0]
        linear = linears[node.name]
        found.append(_Watched(linear.layer or node.name, linear.weight, tensor, sizes[tensor]))
    return found


def _watching(model: onnx.ModelProto, tensors: list[str], every: int) -> onnx.ModelProto:
    """A copy in which the tensors are outputs, or of each every n-th token (the last axis but one) under another name."""
    if every == 1:
        return with_outputs(model, tensors)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    numbers = {"sampled_from": 0, "sampled_to": np.iinfo(np.int64).max, "sampled_along": -2, "sampled_by": every}
    copy.graph.initializer.extend(numpy_helper.from_array(np.array([n], np.int64), name) for name, n in numbers.items())
    copy.graph.node.extend(helper.make_node("Slice", [tensor, *numbers], [_sampled(tensor)]) for tensor in tensors)
    add_outputs(copy, [_sampled(tensor) for tensor in tensors])
    return copy


def _sampled(tensor: str) -> str:
    return f"{tensor}_sampled"


def _compared(exact: Array, quantized: Array) -> tuple[float, float]:
    """Cosine and relative error of two whole tensors."""
    a, b = exact.ravel().astype(np.float64), quantized.ravel().astype(np.float64)
    length = max(float(np.linalg.norm(a)), 1e-30)
    return float(a @ b) / (length * max(float(np.linalg.norm(b)), 1e-30)), float(np.linalg.norm(a - b)) / length
