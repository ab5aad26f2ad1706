"""A model without its weights: what ONNX's own checks need of it, in a hundredth of the memory."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

LARGE = 1 << 16
"""Bytes from which a stored tensor is taken for a weight: shape inference reads only small ones."""


def outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large weights, and those in other files, are inputs of their type and shape."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    given = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if not is_weight(tensor):
            graph.initializer.append(tensor)
        elif tensor.name not in given:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return copy


def is_weight(tensor: onnx.TensorProto) -> bool:
    """Whether the outline leaves a stored tensor's values out."""
    return bool(tensor.data_location == TensorProto.EXTERNAL or tensor.ByteSize() >= LARGE)
