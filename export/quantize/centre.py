"""One-sided activations, as behind a GELU or SiLU, get all 256 levels: the middle of their range is subtracted before rounding.

Symmetric int8 spends half of its levels on values that never come. x q(W) = (x - c) q(W) + c q(W).sum(0), and the second term is
a constant that goes into the bias, so zero points stay 0, as TensorRT wants them. c is a whole number of steps: what is 0 stays 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import onnx

from calibration.activations import ActivationRange, ScaleTable, fp16_exact
from calibration.histogram import LEVELS
from export.quantize.bias import own_biases
from export.quantize.linears import Linear

WORTH = 0.75
"""Steps must become at least so much smaller; else the subtraction is not worth its time."""


def centred(table: ScaleTable, model: onnx.ModelProto, linears: Sequence[Linear]) -> ScaleTable:
    """The table with centres where they are worth it: every Linear that reads the activation needs a bias of its own. Those that
    share weights, as the steps of a rollout do, get one range and one centre. model: in FP32."""
    tensors = dict(table.tensors)
    biases = own_biases(model, linears)
    for group in _groups(linears):
        names = {linear.activation for linear in group}
        if not all(linear.node in biases for linear in group):
            continue
        low = min(max(tensors[name].low, -tensors[name].clip) for name in names)
        high = max(min(tensors[name].high, tensors[name].clip) for name in names)
        if high - low > 2 * WORTH * max(high, -low):
            continue
        scale = float(fp16_exact(np.array((high - low) / (2 * LEVELS))))
        centre = round((high + low) / 2 / scale) * scale
        for name in names:
            seen = tensors[name]
            tensors[name] = ActivationRange(seen.low, seen.high, scale * LEVELS, seen.values, centre)
    return msgspec.structs.replace(table, tensors=tensors)


def _groups(linears: Sequence[Linear]) -> Iterator[list[Linear]]:
    """Linears that are tied by an activation or a weight, directly or through others."""
    groups: list[tuple[set[str], list[Linear]]] = []
    for linear in linears:
        tied, members = {linear.activation, linear.weight}, [linear]
        for group in [group for group in groups if group[0] & tied]:
            groups.remove(group)
            tied, members = group[0] | tied, [*group[1], *members]
        groups.append((tied, members))
    return (members for _, members in groups)
