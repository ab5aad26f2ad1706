"""An ONNX model, indexed for the questions that rules ask: who makes, who reads, what is constant, of which type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.lint.outline import outline

Shape = tuple[int | None, ...]

_MOVERS = """
Cast Concat Expand Flatten Gather Identity Pad Reshape Slice Split Squeeze Tile Transpose Unsqueeze
""".split()  # noqa: SIM905
"""Operators that carry values from one place to another and leave them as they are."""


class Network:
    """A read-only view of a model, its subgraphs and its functions (written out) as one list of nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.outline = outline(model)
        try:
            written_out = onnx.inliner.inline_local_functions(self.outline) if model.functions else self.outline
            graph = onnx.shape_inference.infer_shapes(written_out).graph
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
            graph = self.outline.graph  # the rule "invalid" says what is wrong with it; the others use what there is
        self.nodes: list[onnx.NodeProto] = []
        self.maker: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.types: dict[str, int] = {}
        self.shapes: dict[str, Shape] = {}
        self._constant: set[str] = set()
        self._dequantized: set[str] = set()
        for tensor in model.graph.initializer:
            self._store(tensor.name, tensor)
        for each in _graphs(graph):
            self._index(each)

    def _index(self, graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.name in self.tensors:
                continue
            kind = value.type.tensor_type
            self.types[value.name] = kind.elem_type
            if kind.HasField("shape"):
                self.shapes[value.name] = tuple(
                    d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim
                )
        for tensor in graph.initializer:
            self._store(tensor.name, tensor)
        for node in graph.node:
            self.nodes.append(node)
            for name in node.output:
                self.maker[name] = node
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
            self._follow(node)

    def _store(self, name: str, tensor: onnx.TensorProto) -> None:
        self._constant.add(name)
        self.tensors[name] = tensor
        self.types[name] = tensor.data_type
        self.shapes[name] = tuple(tensor.dims)

    def _follow(self, node: onnx.NodeProto) -> None:
        """Nodes are sorted: what a node reads is known before it."""
        source = operand(node, 0)
        if node.op_type == "Constant":
            self._constant.update(node.output)
            for each in node.attribute[:1] if node.output else ():
                if each.name == "value":
                    self._store(node.output[0], each.t)
                elif each.name in ("value_int", "value_ints", "value_float", "value_floats"):
                    numbers = np.asarray(helper.get_attribute_value(each))
                    numbers = numbers.astype(np.float32 if "float" in each.name else np.int64)
                    self._store(node.output[0], numpy_helper.from_array(numbers))
        elif node.op_type == "Identity" and source in self.tensors and node.output:
            self._store(node.output[0], self.tensors[source])
        elif node.input and all(name in self._constant for name in node.input if name) and not any(_inner(node)):
            self._constant.update(node.output)
        if node.op_type == "DequantizeLinear" or (self.moves(node) and source in self._dequantized):
            self._dequantized.update(node.output)

    @cached_property
    def opset(self) -> int:
        """Version of the standard operator set; 0 if the model names none."""
        return next((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 0)

    def of(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """Nodes of these operators of the standard domain, in graph order."""
        return (node for node in self.nodes if node.op_type in kinds and node.domain in ("", "ai.onnx"))

    def type_of(self, name: str) -> str:
        """Element type as ONNX spells it ("FLOAT16"), "UNDEFINED" where it is unknown or there is no such tensor."""
        kind = self.types.get(name, TensorProto.UNDEFINED)
        return str(TensorProto.DataType.Name(kind)) if kind in TensorProto.DataType.values() else f"type {kind}"

    def value(self, name: str) -> NDArray[Any] | None:
        """The numbers of a constant; None where they are computed or lie in another file."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError):  # fewer bytes than its shape needs, or a type that is none
            return None

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known when the engine is built: stored, or computed from nothing but constants."""
        return name in self._constant

    def moves(self, node: onnx.NodeProto) -> bool:
        """Whether a node only carries values from one place to another (or to another float type: Cast)."""
        return node.op_type in _MOVERS

    def dequantized(self, name: str) -> bool:
        """Whether a tensor comes from a DequantizeLinear, perhaps through operators that only move values."""
        return name in self._dequantized


def label(node: onnx.NodeProto) -> str:
    """The node's name; of a nameless one its operator and first output."""
    return node.name or f"{node.op_type} making '{result(node)}'"


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute; strings as str."""
    for each in node.attribute:
        if each.name == name:
            value = helper.get_attribute_value(each)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


def result(node: onnx.NodeProto) -> str:
    """Name of the first output."""
    return node.output[0] if node.output else ""


def operand(node: onnx.NodeProto, place: int) -> str:
    """Name of an input; empty if it is left out."""
    return node.input[place] if len(node.input) > place else ""


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs of If, Loop and Scan."""
    for each in node.attribute:
        if each.type == onnx.AttributeProto.GRAPH:
            yield each.g
        yield from each.graphs
