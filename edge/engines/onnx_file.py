"""The few facts that the device needs from an ONNX file, read from its bytes, without the onnx package.

Only the protobuf wire format is understood, and of it only the fields named below (onnx.proto3): ModelProto.graph,
GraphProto.node and .initializer, NodeProto.input, .output and .op_type, TensorProto.name, .data_type and .raw_data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_GRAPH = 7
_NODE, _INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP = 1, 2, 4
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 2, 8, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INT8, _UINT8 = 3, 2

ACTIVATION_ZERO_POINT = "activation_zero_point"
"""The one initializer that all activation Q/DQ nodes of a master graph share: int8 0, and the dialect is in it."""

INTEGER_GEMMS = ("MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul", "MatMulInteger")
"""Operators of onnxruntime that multiply in integers."""


class OnnxFileError(ValueError):
    """The bytes are not an ONNX model as far as it is understood here; one clause saying what."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator with the names of what goes in and comes out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def nodes(model: bytes) -> list[Node]:
    """The nodes of the main graph, in file order. Raises OnnxFileError."""
    found = []
    for start, end in _inside(model, *_graph(model), _NODE):
        inputs, outputs, op = [], [], ""
        for field, (a, b) in _fields(model, start, end):
            if field in (_NODE_INPUT, _NODE_OUTPUT, _NODE_OP):
                text = model[a:b].decode("utf-8", "replace")
                if field == _NODE_INPUT:
                    inputs.append(text)
                elif field == _NODE_OUTPUT:
                    outputs.append(text)
                else:
                    op = text
        found.append(Node(op, tuple(inputs), tuple(outputs)))
    return found


def quantized_linears(model: bytes) -> int:
    """How many Linears are quantized: MatMuls with both operands dequantized right before, and MatMulIntegers, which graphs
    with dynamic scales have from the beginning."""
    graph = nodes(model)
    dequantized = {node.outputs[0] for node in graph if node.op == "DequantizeLinear"}
    static = sum(node.op == "MatMul" and dequantized.issuperset(node.inputs) for node in graph)
    return static + sum(node.op == "MatMulInteger" for node in graph)


def integer_gemms(model: bytes) -> int:
    """How many nodes multiply in integers. model: a graph as onnxruntime saved it after optimising."""
    ops = Counter(node.op for node in nodes(model))
    return sum(ops[op] for op in INTEGER_GEMMS)


def with_unsigned_activations(model: bytes) -> bytes:
    """The x86 dialect of a master graph: activations uint8 with zero point 128 in place of int8 with zero point 0.

    (q + 128) - 128 = q for every int8 q, so results are bit-identical, and onnxruntime on x86 has fast integer GEMMs
    only for unsigned activations. Changes two bytes, the type and value of :data:`ACTIVATION_ZERO_POINT`; a graph
    without it comes back as it is. Raises OnnxFileError if that initializer is not int8 0.
    """
    for start, end in _inside(model, *_graph(model), _INITIALIZER):
        fields = dict(_fields(model, start, end))
        a, b = fields.get(_TENSOR_NAME, (0, 0))
        if model[a:b] != ACTIVATION_ZERO_POINT.encode():
            continue
        kind, value = fields.get(_TENSOR_TYPE), fields.get(_TENSOR_RAW)
        if kind is None or value is None or model[slice(*kind)] != bytes([_INT8]) or model[slice(*value)] != b"\x00":
            raise OnnxFileError(f"its initializer {ACTIVATION_ZERO_POINT!r} is not the int8 number 0")
        patched = bytearray(model)
        patched[kind[0]] = _UINT8
        patched[value[0]] = 128
        return bytes(patched)
    return model


def _graph(model: bytes) -> tuple[int, int]:
    for span in _inside(model, 0, len(model), _GRAPH):
        return span
    raise OnnxFileError("it holds no graph")


def _inside(model: bytes, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    return (span for field, span in _fields(model, start, end) if field == wanted)


def _fields(model: bytes, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    return ((field, span) for field, _, span in walk(model, start, end))


def walk(model: bytes, start: int, end: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Field number, wire type and the span of its payload, one after the other. Raises OnnxFileError on broken wire
    format."""
    at = start
    while at < end:
        key, at = varint(model, at, end)
        wire = key & 7
        if wire == _VARINT:
            first = at
            _, at = varint(model, at, end)
        elif wire == _BYTES:
            length, first = varint(model, at, end)
            at = first + length
        elif wire in (_FIXED64, _FIXED32):
            first, at = at, at + (8 if wire == _FIXED64 else 4)
        else:
            raise OnnxFileError(f"it is no protobuf message (wire type {wire} at byte {at})")
        if at > end:
            raise OnnxFileError(f"it is cut off (a field at byte {first} is {at - end} bytes too long)")
        yield key >> 3, wire, (first, at)


def varint(model: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned number at a place, and the place after it. Raises OnnxFileError."""
    value = shift = 0
    while at < end and shift < 64:
        byte = model[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise OnnxFileError(f"it is no protobuf message (broken number before byte {at})")
