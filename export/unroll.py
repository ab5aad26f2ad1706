"""Unroll one step of a recurrent graph into K steps that share their weights: what a tracer does slowly and wordily.

A plain chain of nodes runs in every runtime; ONNX Loop would cost a copy of the state per step and closes the door to
fusions across steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from export.lint.outline import outline


class Chain:
    """A graph under construction: pieces are appended one after the other, their inputs wired to earlier tensors."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._pieces = 0

    def append(self, piece: onnx.ModelProto, wires: Mapping[str, str], weights: str) -> dict[str, str]:
        """Add a copy of ``piece``. wires: its input names -> names of tensors in this graph. weights: prefix for its
        constants; copies appended under the same prefix share them. Returns its output names -> names in this graph."""
        constants = {tensor.name: f"{weights}.{tensor.name}" for tensor in piece.graph.initializer}
        for tensor in piece.graph.initializer:
            if constants[tensor.name] not in self.constants:
                copy = self.constants[constants[tensor.name]] = onnx.TensorProto()
                copy.CopyFrom(tensor)
                copy.name = constants[tensor.name]
        prefix = f"{weights}{self._pieces}"
        self._pieces += 1

        def renamed(name: str) -> str:
            if name in wires:
                return wires[name]
            return constants.get(name, f"{prefix}.{name}") if name else ""

        for node in piece.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{prefix}.{node.name}"
            copy.input[:] = [renamed(name) for name in node.input]
            copy.output[:] = [renamed(name) for name in node.output]
            self.nodes.append(copy)
        return {value.name: renamed(value.name) for value in piece.graph.output}

    def concat(self, inputs: Sequence[str], output: str, axis: int) -> None:
        """Join tensors to one called ``output``."""
        self.nodes.append(helper.make_node("Concat", list(inputs), [output], name=f"join_{output}", axis=axis))

    def finish(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        like: onnx.ModelProto,
    ) -> onnx.ModelProto:
        """The whole graph, checked, with the opset of ``like``."""
        graph = helper.make_graph(self.nodes, "unrolled", list(inputs), list(outputs), list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=list(like.opset_import), ir_version=like.ir_version)
        onnx.checker.check_model(outline(model), full_check=True)
        return model
