"""Which operators of a graph are Linear layers worth quantizing."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from export.lint.outline import outline

MIN_SIZE = 16
"""Below this K or N an integer GEMM has nothing to gain, on a CPU or on tensor cores."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A MatMul on a constant weight. activation, weight: tensor names. weight is (K, N). layer: its name in the model,
    known by its bias (tracing renames weights), or by its weight where it has none."""

    node: str
    layer: str
    activation: str
    weight: str
    k: int
    n: int


def find_linears(model: onnx.ModelProto) -> list[Linear]:
    """All Linears to quantize, in graph order. Products of two activations (attention) are never among them."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = {
        name: bias.removesuffix(".bias")
        for node in model.graph.node
        if node.op_type == "Add"
        for name, bias in (tuple(node.input), tuple(node.input)[::-1])
        if bias in constants
    }
    found = []
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[0] in constants:
            continue
        weight = constants.get(node.input[1])
        if weight is None or len(weight.dims) != 2 or min(weight.dims) < MIN_SIZE:
            continue
        layer = layers.get(node.output[0]) or weight.name.removesuffix("_transposed").removesuffix(".weight")
        found.append(Linear(node.name, layer, node.input[0], weight.name, *weight.dims))
    return found


def with_outputs(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """A copy in which inner ``tensors`` are outputs, for calibration to watch."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    add_outputs(copy, tensors)
    return copy


def add_outputs(model: onnx.ModelProto, tensors: list[str]) -> None:
    """Make outputs of inner ``tensors``, in place."""
    present = {value.name for value in model.graph.output}
    inner = onnx.shape_inference.infer_shapes(outline(model), strict_mode=True).graph
    known = {value.name: value for value in (*inner.value_info, *inner.input)}
    model.graph.output.extend(known[name] for name in dict.fromkeys(tensors) if name not in present)
