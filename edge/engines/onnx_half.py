"""The FP16 form of a graph: whatever is float32 inside becomes float16, inputs and outputs stay as they are.

A strongly typed TensorRT network computes in the types that stand in its graph, and INT8 between islands of FP32 costs more
than it gains. Made while loading, from the bytes of the one master graph and without the onnx package, like the x86
dialect of :mod:`edge.engines.onnx_file`, whose words are used here. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from edge.engines.onnx_file import OnnxFileError, varint, walk

Field: TypeAlias = "tuple[int, int, int | bytes]"
"""Number, wire type, payload: an integer for wire type 0, else bytes without their length."""

_FLOAT, _HALF = 1, 10
_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TYPE = 1, 3, 5, 6, 20
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_LOCATION = 1, 2, 4, 8, 9, 14
_INT, _BYTES = 0, 2

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_SCALE = float(np.finfo(np.float16).smallest_normal)
SUFFIX = ".half"
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
FLOAT32_ONLY = frozenset({"Resize", "Upsample", "EyeLike", "RandomNormal", "RandomUniform", "Multinomial", "Bernoulli"})
"""Operators of which some input must stay float32, or which say their type in an attribute."""


def with_half_floats(model: bytes) -> bytes:
    """The FP16 form of an ONNX model of opset 19 or later, the first with FP16 scales.

    Constants beyond float16 become its largest, such as the -1e9 of a mask; scales below its normal range become the
    smallest of it. Raises OnnxFileError where a graph has something that has no such form.
    """
    outer = _parse(model)
    if not any(number == _GRAPH for number, _, _ in outer):
        raise OnnxFileError("it holds no graph")
    return _written([(n, w, _half_graph(p) if n == _GRAPH and isinstance(p, bytes) else p) for n, w, p in outer])


def _half_graph(raw: bytes) -> bytes:
    graph = [field for field in _parse(raw) if field[0] != _VALUE_INFO]  # shapes and types of what is inside
    nodes = [_parse(payload) for payload in _messages(graph, _NODE)]
    constants = {_text(_parse(payload), _TENSOR_NAME) for payload in _messages(graph, _INITIALIZER)}
    scales = {name for node in nodes if _text(node, _NODE_OP) in QUANTIZERS for name in _texts(node, _NODE_INPUT)[1:2]}
    inward = [name for name in _floats(graph, _INPUT) if name not in constants]
    outward = _floats(graph, _OUTPUT)
    renamed = {name: name + SUFFIX for name in (*inward, *outward)}
    if len(renamed) < len(inward) + len(outward) or constants & set(outward):
        raise OnnxFileError("an output of it is an input or a constant")
    casts_in = [_cast(name, name + SUFFIX, _HALF) for name in inward]
    casts_out = [_cast(name + SUFFIX, name, _FLOAT) for name in outward]
    changed = [_written(_half_node(node, renamed)) for node in nodes]
    rest: list[Field] = []
    for number, wire, payload in graph:
        if number == _INITIALIZER and isinstance(payload, bytes):
            payload = _half_tensor(payload, scales)
        if number != _NODE:
            rest.append((number, wire, payload))
    return _written([(_NODE, _BYTES, node) for node in (*casts_in, *changed, *casts_out)] + rest)


def _half_node(node: list[Field], renamed: dict[str, str]) -> list[Field]:
    op = _text(node, _NODE_OP)
    if op in FLOAT32_ONLY:
        raise OnnxFileError(f"its operator {op} needs float32")
    found: list[Field] = []
    for number, wire, payload in node:
        if number in (_NODE_INPUT, _NODE_OUTPUT) and isinstance(payload, bytes):
            name = payload.decode("utf-8", "replace")
            payload = renamed.get(name, name).encode()
        elif number == _NODE_ATTRIBUTE and isinstance(payload, bytes):
            payload = _half_attribute(op, payload)
        found.append((number, wire, payload))
    return found


def _half_attribute(op: str, raw: bytes) -> bytes:
    attribute = _parse(raw)
    name = _text(attribute, _ATTRIBUTE_NAME)
    if any(number == _ATTRIBUTE_GRAPH for number, _, _ in attribute):
        raise OnnxFileError(f"its operator {op} holds another graph")
    if op == "Constant" and name in ("value_float", "value_floats"):
        raise OnnxFileError("one of its Constants is not written as a tensor")
    if op == "Cast" and name == "to":
        return _written([(n, w, _HALF if (n, p) == (_ATTRIBUTE_INT, _FLOAT) else p) for n, w, p in attribute])
    return _written(
        [(n, w, _half_tensor(p, set()) if n == _ATTRIBUTE_TENSOR and isinstance(p, bytes) else p) for n, w, p in attribute]
    )


def _half_tensor(raw: bytes, scales: set[str]) -> bytes:
    """A stored tensor in float16 if it is float32, else as it is. scales: names of those that must stay above 0."""
    tensor = _parse(raw)
    if not any(number == _TENSOR_TYPE and payload == _FLOAT for number, _, payload in tensor):
        return raw
    if any(number == _TENSOR_LOCATION and payload for number, _, payload in tensor):
        raise OnnxFileError("it keeps weights in another file")
    stored = b"".join(_messages(tensor, _TENSOR_RAW)) or b"".join(_messages(tensor, _TENSOR_FLOATS))
    if len(stored) % 4:
        raise OnnxFileError(f"its constant {_text(tensor, _TENSOR_NAME)!r} is no whole number of floats")
    values = np.clip(np.frombuffer(stored, "<f4"), -LARGEST, LARGEST)
    if _text(tensor, _TENSOR_NAME) in scales:
        values = np.maximum(values, SMALLEST_SCALE)
    kept = [field for field in tensor if field[0] not in (_TENSOR_TYPE, _TENSOR_RAW, _TENSOR_FLOATS)]
    return _written([*kept, (_TENSOR_TYPE, _INT, _HALF), (_TENSOR_RAW, _BYTES, values.astype("<f2").tobytes())])


def _cast(source: str, target: str, kind: int) -> bytes:
    to = _written([(_ATTRIBUTE_NAME, _BYTES, b"to"), (_ATTRIBUTE_INT, _INT, kind), (_ATTRIBUTE_TYPE, _INT, 2)])
    return _written(
        [
            (_NODE_INPUT, _BYTES, source.encode()),
            (_NODE_OUTPUT, _BYTES, target.encode()),
            (_NODE_NAME, _BYTES, f"cast {source}".encode()),
            (_NODE_OP, _BYTES, b"Cast"),
            (_NODE_ATTRIBUTE, _BYTES, to),
        ]
    )


def _floats(graph: list[Field], wanted: int) -> list[str]:
    """Names of the float32 inputs or outputs. ValueInfoProto: name 1, type 2; TypeProto.tensor_type 1; its elem_type 1."""
    found = []
    for payload in _messages(graph, wanted):
        value = _parse(payload)
        for kind in _messages(value, 2):
            for tensor in _messages(_parse(kind), 1):
                if any(number == 1 and element == _FLOAT for number, _, element in _parse(tensor)):
                    found.append(_text(value, 1))
    return found


def _messages(message: list[Field], wanted: int) -> list[bytes]:
    return [payload for number, _, payload in message if number == wanted and isinstance(payload, bytes)]


def _texts(message: list[Field], wanted: int) -> list[str]:
    return [payload.decode("utf-8", "replace") for payload in _messages(message, wanted)]


def _text(message: list[Field], wanted: int) -> str:
    return next(iter(_texts(message, wanted)), "")


def _parse(raw: bytes) -> list[Field]:
    found: list[Field] = []
    for number, wire, (start, end) in walk(raw, 0, len(raw)):
        found.append((number, wire, varint(raw, start, end)[0] if wire == _INT else raw[start:end]))
    return found


def _written(message: list[Any]) -> bytes:
    pieces = []
    for number, wire, payload in message:
        pieces.append(_number(number << 3 | wire))
        if isinstance(payload, int):
            pieces.append(_number(payload))
        elif wire == _BYTES:
            pieces += [_number(len(payload)), payload]
        else:
            pieces.append(payload)
    return b"".join(pieces)


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
