"""Zero points: TensorRT quantizes symmetrically, to signed integers, and needs to be told so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from export.lint.finding import Fault
from export.lint.network import Network, attribute, label, operand
from export.lint.target import Target

_MASTER = "write an int8 zero point of 0 (onnxruntime's x86 dialect is made while loading, from the int8 graph)"


def zero_point_missing(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear"):
        if not operand(node, 2) and not attribute(node, "output_dtype", 0):
            reason = (
                "no zero point: ONNX and onnxruntime then quantize to uint8, TensorRT to int8, and the results differ"
            )
            yield Fault(label(node), reason, _MASTER)


def zero_point_uint8(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        name = operand(node, 2)
        if network.type_of(name) != "UINT8" or (
            network.type_of(operand(node, 0)) == "UINT8" and network.is_constant(operand(node, 0))
        ):
            continue
        value = network.value(name)
        refused = value is not None and bool(np.any(value))
        reason = "refuses unless it is 0" if refused else "reads as int8 without a word, so the results differ"
        yield Fault(label(node), f"a uint8 zero point, which TensorRT {reason}", _MASTER)


def zero_point_not_zero(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        name = operand(node, 2)
        value = network.value(name)
        if value is not None and network.type_of(name) != "UINT8" and np.any(value.astype(np.float32)):
            reason = f"zero point {value.flat[np.flatnonzero(value)[0]]}: TensorRT only quantizes symmetrically"
            yield Fault(label(node), reason, "calibrate symmetric ranges, with zero point 0")


def zero_point_computed(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        name = operand(node, 2)
        if name and not network.is_constant(name):
            yield Fault(
                label(node), f"zero point '{name}' is computed, and must be a constant 0", "store it as a constant"
            )


def zero_point_size(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        scale, zero = (network.tensors.get(operand(node, place)) for place in (1, 2))
        if scale is not None and zero is not None:
            sizes = int(np.prod(scale.dims)), int(np.prod(zero.dims))
            if sizes[0] != sizes[1]:
                yield Fault(
                    label(node), f"{sizes[0]} scales and {sizes[1]} zero points", "write one zero point per scale"
                )
