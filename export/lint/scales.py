"""Scales: positive, constant, of the type of what they scale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from export.lint.finding import Fault
from export.lint.network import Network, label, operand, result
from export.lint.opsets import FP16_SCALES_SINCE
from export.lint.target import Target

SMALLEST_NORMAL_FP16 = 2.0**-14
_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")


def scale_not_positive(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        scale = network.value(operand(node, 1))
        if scale is None:
            continue
        wrong = ~(scale.astype(np.float32) > 0)
        if wrong.any():
            reason = (
                f"{wrong.sum()} of {scale.size} scales are {scale[wrong].flat[0]}, and TensorRT wants every one above 0"
            )
            yield Fault(label(node), reason, "give dead channels a small scale: 2^-14")


def scale_infinite(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        scale = network.value(operand(node, 1))
        if scale is not None and np.isposinf(scale.astype(np.float32)).any():
            yield Fault(
                label(node),
                "an infinite scale, which TensorRT takes and which turns numbers into NaN",
                "calibrate again",
            )


def scale_denormal(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        scale = network.value(operand(node, 1))
        if scale is None or scale.dtype != np.float16:
            continue
        small = scale[(scale > 0) & (scale < SMALLEST_NORMAL_FP16)]
        if small.size:
            reason = f"FP16 scale {small.flat[0]:.3g} is below 2^-14: it keeps few bits, and kernels may flush it to 0"
            yield Fault(label(node), reason, "raise it to 2^-14 before the weights are quantized with it")


def scale_computed(network: Network, target: Target) -> Iterator[Fault]:
    for node in network.of("QuantizeLinear", "DequantizeLinear"):
        name = operand(node, 1)
        if name and not network.is_constant(name):
            reason = f"scale '{name}' is computed while the graph runs; calibrated INT8 kernels need a constant"
            yield Fault(label(node), reason, "calibrate, and store the scale as a constant")


def scale_type(network: Network, target: Target) -> Iterator[Fault]:
    if network.opset < FP16_SCALES_SINCE:
        return  # a scale can only be float32 there, which the rule of opsets says
    for node in network.of("QuantizeLinear"):
        x, scale = network.type_of(operand(node, 0)), network.type_of(operand(node, 1))
        if x in _FLOATS and scale in _FLOATS and x != scale:
            yield Fault(label(node), f"a {scale} scale for a {x} tensor", f"store the scale as {x}")
    for node in network.of("DequantizeLinear"):
        scale = network.type_of(operand(node, 1))
        for reader in network.readers[result(node)] if scale in _FLOATS else ():
            if reader.op_type not in ("MatMul", "Gemm", "Conv", "ConvTranspose", "Add", "Mul"):
                continue
            others = {network.type_of(name) for name in reader.input} & {*_FLOATS} - {scale}
            if others:
                body = min(others)
                reason = f"its {scale} scale makes a {scale} tensor, and {label(reader)} also reads {body}"
                yield Fault(label(node), reason, f"store the scale as {body}")
                break
