"""Calibrate and quantize one graph: the steps every model family goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

from calibration.activations import Method, ScaleTable, measure_ranges
from export.quantize.linears import find_linears, with_outputs
from export.quantize.qdq import write_qdq
from export.quantize.smooth import Smoothed


@dataclass(frozen=True)
class Quantized:
    """A master graph, the scales that are in it, and how many Linears carry them. fp32: the graph that they are scales
    of. smoothed: what was folded into it before, None where nothing was tried."""

    model: bytes
    table: ScaleTable
    linears: int
    fp32: onnx.ModelProto
    smoothed: Smoothed | None = None


def quantize(
    model: onnx.ModelProto,
    batches: Iterable[Mapping[str, NDArray[Any]]],
    *,
    made_from: str,
    keep_float: Sequence[str] = (),
    method: Method = "mse",
    progress: Callable[[int], None] = lambda done: None,
) -> Quantized:
    """FP32 graph and calibration inputs in, INT8 master graph out. keep_float: layers, by the end of their name in the
    model, that stay as they are. Raises CalibrationError."""
    linears = [linear for linear in find_linears(model) if not linear.layer.endswith(tuple(keep_float))]
    watched = list(dict.fromkeys(linear.activation for linear in linears))
    observed = with_outputs(model, watched).SerializeToString()
    table = measure_ranges(observed, watched, batches, made_from=made_from, method=method, progress=progress)
    return Quantized(write_qdq(model, table, linears).SerializeToString(), table, len(linears), model)
