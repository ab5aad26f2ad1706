"""Settings of known operators that the parser does not take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import onnx

from export.lint.finding import Fault
from export.lint.network import Network, attribute, label, operand
from export.lint.target import Target

LARGEST_K = 3840


class Limit(NamedTuple):
    """operators: which. broken: whether a node is beyond the limit."""

    operators: tuple[str, ...]
    broken: Callable[[Network, onnx.NodeProto], bool]
    reason: str
    fix: str


def _set(name: str, default: object) -> Callable[[Network, onnx.NodeProto], bool]:
    return lambda network, node: attribute(node, name, default) != default


def _more_outputs(network: Network, node: onnx.NodeProto) -> bool:
    return any(node.output[1:])


def _dilated(network: Network, node: onnx.NodeProto) -> bool:
    return any(step != 1 for step in attribute(node, "dilations", ()))


def _large_k(network: Network, node: onnx.NodeProto) -> bool:
    k = network.value(operand(node, 1))
    return k is not None and k.size == 1 and k.item() > LARGEST_K


def _rank(*allowed: int) -> Callable[[Network, onnx.NodeProto], bool]:
    return lambda network, node: len(network.shapes.get(operand(node, 0), (None,) * allowed[0])) not in allowed


def _partial_slice(network: Network, node: onnx.NodeProto) -> bool:
    starts, shape = network.shapes.get(operand(node, 1)), network.shapes.get(operand(node, 0))
    known = bool(starts) and shape is not None
    return network.opset >= 10 and not operand(node, 3) and known and starts != (len(shape or ()),)


def _odd_coordinates(network: Network, node: onnx.NodeProto) -> bool:
    known = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
    return attribute(node, "coordinate_transformation_mode", "half_pixel") not in known


def _one_way(network: Network, node: onnx.NodeProto) -> bool:
    given = attribute(node, "activations", ())
    half = len(given) // 2
    return bool(attribute(node, "direction", "forward") == "bidirectional") and list(given[:half]) != list(given[half:])


def _cached(network: Network, node: onnx.NodeProto) -> bool:
    return any(node.input[4:]) or any(node.output[1:])


LIMITS = (
    Limit(("Resize",), _set("antialias", 0), "Resize with antialias", "resize without it, or before the graph"),
    Limit(
        ("Resize",),
        _set("keep_aspect_ratio_policy", "stretch"),
        "Resize that keeps the aspect ratio",
        "give the final sizes",
    ),
    Limit(
        ("Resize",),
        _odd_coordinates,
        "Resize with coordinates that TensorRT has not",
        "use half_pixel or align_corners",
    ),
    Limit(("MaxPool",), _more_outputs, "MaxPool with indices", "leave the indices out"),
    Limit(("MaxPool", "AveragePool", "LpPool"), _dilated, "pooling with dilations", "pool without dilations"),
    Limit(
        ("LayerNormalization",), _more_outputs, "LayerNormalization with mean or deviation as outputs", "leave them out"
    ),
    Limit(
        ("ScatterND", "ScatterElements"),
        _set("reduction", "none"),
        "scatter with a reduction",
        "use Gather and Add, or MatMul",
    ),
    Limit(("Slice",), _partial_slice, "Slice of some dimensions that names no axes", "name the axes"),
    Limit(("TopK",), _set("sorted", 1), "TopK that does not sort", "sort: sorted=1"),
    Limit(("TopK",), _large_k, f"TopK with K above {LARGEST_K}", "take fewer, or Slice after sorting outside"),
    Limit(
        ("BatchNormalization",), _set("training_mode", 0), "BatchNormalization in training", "export in evaluation mode"
    ),
    Limit(("GridSample",), _rank(4), "GridSample on other than (N, C, H, W)", "reshape to four dimensions"),
    Limit(("LSTM",), _set("input_forget", 0), "LSTM with coupled gates", "use an LSTM without input_forget"),
    Limit(("LSTM",), _set("layout", 0), "LSTM with batch first", "transpose, and use layout=0"),
    Limit(
        ("LSTM", "GRU", "RNN"),
        _one_way,
        "a recurrence whose two directions differ",
        "use the same activations both ways",
    ),
    Limit(
        ("Attention",),
        _rank(4),
        "Attention on other than (N, heads, S, D)",
        "reshape, or write it out as MatMul, Softmax, MatMul",
    ),
    Limit(
        ("Attention",),
        _cached,
        "Attention with a cache or more than one output",
        "write it out as MatMul, Softmax, MatMul",
    ),
    Limit(("Attention",), _set("softcap", 0.0), "Attention with softcap", "write it out as MatMul, Softmax, MatMul"),
)


def operator_option(network: Network, target: Target) -> Iterator[Fault]:
    for limit in LIMITS:
        for node in network.of(*limit.operators):
            if node.op_type in target.operators and limit.broken(network, node):
                yield Fault(label(node), f"{limit.reason}, which TensorRT does not take", limit.fix)
