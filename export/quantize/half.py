"""The dialect for TensorRT: the same integers, and FP16 for everything that a master graph leaves in float.

A strongly typed network takes its types from the graph, so FP16 must stand there: with a body in FP32 every layer between two
quantized ones runs in FP32, and INT8 gains nothing. Inputs and outputs keep their types, so that the dialects can take each
other's place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.activations import LARGEST_FP16, SMALLEST_FP16
from calibration.histogram import LEVELS
from edge.errors import UserError

_CASTS = "Cast", "to"


class HalfError(UserError):
    """The graph does not fit into FP16; one sentence."""


def half(master: onnx.ModelProto) -> onnx.ModelProto:
    """A master graph with FP16 scales and body, squares that are summed excepted. Raises HalfError if a constant is beyond FP16.

    Scales of 2^-14 and more are FP16's own already (fp16_exact). A smaller one would lose bits, and kernels may flush it to
    0: it is raised to 2^-14, and the weights that it belongs to are rounded anew.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(master)
    graph = copy.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            _raise_scales(constants[node.input[0]], constants[node.input[1]])
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(_halved(tensor, is_scale=tensor.name.endswith("_scale")))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_halved(attribute.t))
            elif (node.op_type, attribute.name) == _CASTS and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    _square_in_fp32(graph)
    _keep_ends(graph)
    del graph.value_info[:]
    onnx.checker.check_model(copy, full_check=True)
    return copy


def _raise_scales(steps: TensorProto, scale: TensorProto) -> None:
    """In place."""
    small = numpy_helper.to_array(scale)
    raised = np.maximum(small, np.float32(SMALLEST_FP16))
    if (raised == small).all():
        return
    values = numpy_helper.to_array(steps) * small
    steps.CopyFrom(numpy_helper.from_array(np.clip(np.rint(values / raised), -LEVELS, LEVELS).astype(np.int8), steps.name))
    scale.CopyFrom(numpy_helper.from_array(raised, scale.name))


def _halved(tensor: TensorProto, *, is_scale: bool = False) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= LARGEST_FP16:
        raise HalfError(f"{tensor.name!r} holds {largest:.3g}, which FP16 does not reach: leave out the graph in FP16")
    if is_scale:
        values = np.maximum(values, np.float32(SMALLEST_FP16))
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _square_in_fp32(graph: onnx.GraphProto) -> None:
    """Means and sums of squares between two Casts, in place: FP16 ends at the square of 256."""
    makers = {node.output[0]: node for node in graph.node}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        square = makers.get(node.input[0]) if node.op_type in ("ReduceMean", "ReduceSum") else None
        inner = node.op_type == "ReduceSumSquare"
        if not inner and (square is None or square.op_type != "Mul" or square.input[0] != square.input[1]):
            nodes.append(node)
            continue
        x, out = (node if square is None else square).input[0], node.output[0]
        wide, wide_out = f"{node.name}_fp32", f"{out}_fp32"
        nodes.append(helper.make_node("Cast", [x], [wide], f"{node.name}_to_fp32", to=TensorProto.FLOAT))
        if square is not None:
            nodes.append(helper.make_node("Mul", [wide, wide], [f"{wide}_square"], f"{node.name}_square"))
        last = onnx.NodeProto.FromString(node.SerializeToString())
        last.input[0], last.output[0] = wide if square is None else f"{wide}_square", wide_out
        nodes += [last, helper.make_node("Cast", [wide_out], [out], f"{node.name}_to_fp16", to=TensorProto.FLOAT16)]
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    _replace(graph, [node for node in nodes if read & set(node.output)])


def _replace(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _keep_ends(graph: onnx.GraphProto) -> None:
    """Casts behind float inputs and before float outputs, in place."""
    entering = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    leaving = [value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    renamed = {name: f"{name}_fp16" for name in (*entering, *leaving)}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    casts_in = [helper.make_node("Cast", [n], [renamed[n]], f"{n}_to_fp16", to=TensorProto.FLOAT16) for n in entering]
    casts_out = [helper.make_node("Cast", [renamed[n]], [n], f"{n}_to_fp32", to=TensorProto.FLOAT) for n in leaving]
    _replace(graph, [*casts_in, *graph.node, *casts_out])
