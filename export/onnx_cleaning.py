"""Leftovers of tracing and exporting taken out of an ONNX graph, so that the quantizer finds every Linear.

Afterwards every Linear is a MatMul on a constant weight (K, N) followed by an Add, a GELU is in the order that onnxruntime
fuses, and nothing says on which machine the graph was made. Works without torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.external_weights import values
from export.lint.outline import outline

OPSET = 19
"""The lowest with FP16 Q/DQ scales, and low enough for TensorRT 10.3 (up to 20)."""


def clean(model: onnx.ModelProto) -> None:
    """All of it, in place, and checked. Raises onnx's own errors for an invalid model."""
    fold_transposes(model)
    split_gemms(model)
    order_gelus(model)
    strip_notes(model)
    onnx.checker.check_model(outline(model), full_check=True)


def fold_transposes(model: onnx.ModelProto) -> None:
    """Store transposed weights transposed, in place: the exporter leaves a Transpose before a weight used twice."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Transpose" or node.input[0] not in constants:
            kept.append(node)
            continue
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        turned = np.transpose(values(constants[node.input[0]]), order)
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(turned), node.output[0]))
    _replace_nodes(graph, kept)
    drop_unused_constants(graph)


def split_gemms(model: onnx.ModelProto) -> None:
    """Turn every Gemm on a constant weight into MatMul and Add, in place."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    rewritten: list[onnx.NodeProto] = []
    for node in graph.node:
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = not settings.get("transA", 0) and settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0
        if node.op_type != "Gemm" or not plain or node.input[1] not in constants:
            rewritten.append(node)
            continue
        weight = values(constants[node.input[1]])
        name = node.input[1]
        if settings.get("transB", 0):
            weight, name = weight.T, f"{name}_transposed"
            if name not in constants:
                constants[name] = numpy_helper.from_array(np.ascontiguousarray(weight), name)
                graph.initializer.append(constants[name])
        biased = len(node.input) > 2 and node.input[2]
        product = f"{node.output[0]}_product" if biased else node.output[0]
        rewritten.append(helper.make_node("MatMul", [node.input[0], name], [product], name=node.name))
        if biased:
            rewritten.append(helper.make_node("Add", [product, biased], [node.output[0]], name=f"{node.name}_bias"))
    _replace_nodes(graph, rewritten)
    drop_unused_constants(graph)


def order_gelus(model: onnx.ModelProto) -> None:
    """Write x * (0.5 * (1 + erf)) as (x * (1 + erf)) * 0.5, in place: the order that onnxruntime fuses to a GELU."""
    graph = model.graph
    halves = {t.name for t in graph.initializer if not t.dims and numpy_helper.to_array(t) == 0.5}
    maker = {output: node for node in graph.node for output in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    for last in graph.node:
        if last.op_type != "Mul":
            continue
        for x, scaled in (tuple(last.input), tuple(last.input)[::-1]):
            inner = maker.get(scaled)
            if inner is None or inner.op_type != "Mul" or readers[scaled] != 1:
                continue
            half = next((name for name in inner.input if name in halves), None)
            one_plus_erf = next((n for n in inner.input if n in maker and maker[n].op_type == "Add"), None)
            if half is None or one_plus_erf is None:
                continue
            if any(name in maker and maker[name].op_type == "Erf" for name in maker[one_plus_erf].input):
                inner.input[:] = [x, one_plus_erf]
                last.input[:] = [scaled, half]
                break


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads, in place. Branches of an If count as readers."""
    read = _read(graph) | {value.name for value in graph.output}
    for place in reversed(range(len(graph.initializer))):  # one by one: to keep some by extending would copy their weights
        if graph.initializer[place].name not in read:
            del graph.initializer[place]


def compacted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without the memory of what was removed from it or replaced, which protobuf keeps as long as the model."""
    copy = onnx.ModelProto()
    copy.ParseFromString(model.SerializeToString())
    return copy


def _read(graph: onnx.GraphProto) -> set[str]:
    read = {name for node in graph.node for name in node.input}
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return read.union(*map(_read, inner))


def strip_notes(model: onnx.ModelProto) -> None:
    """Remove what says where and from which source lines a graph was made, and the types of inner tensors, in place."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    model.doc_string = graph.doc_string = model.producer_name = model.producer_version = ""
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.doc_string = ""
        del item.metadata_props[:]


def _replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
