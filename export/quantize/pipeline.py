"""Calibrate and quantize one graph: the steps every model family goes through."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import onnx
from numpy.typing import NDArray

from calibration.activations import (
    ScaleTable,
    choose_ranges,
    measure_channels,
    measure_histograms,
    measure_rounding,
)
from calibration.histogram import Method
from calibration.scale_cache import Arrays, ScaleCache, digest
from export.effort import affordable
from export.external_weights import embed, loadable, whole
from export.quantize.bias import with_new_biases
from export.quantize.centre import centred
from export.quantize.dynamic import write_dynamic
from export.quantize.linears import Linear, find_linears, with_outputs
from export.quantize.qdq import write_qdq
from export.quantize.smooth import Smoothed, fold, foldable

Batches = Callable[[], Iterable[Mapping[str, NDArray[Any]]]]
"""Starts the calibration inputs, by name, anew."""
METHOD: Method = "mse"
"""Measured on three models: docs/export.md."""
CORRECTED_ON = 128
"""Batches that the means for bias correction are taken over, fewer for a large graph; as is what smoothing looks at."""
LEAST_BATCHES, RUNS_OF_A_BATCH = 2, 2


@dataclass(frozen=True)
class Calibration:
    """How scales are chosen. method: where a scale clips. smoothing: fold outlier channels behind norms into weights first.
    correcting: fold what INT8 changes on average into biases. cache: where tables are kept and found, None for nowhere."""

    method: Method = METHOD
    smoothing: bool = False
    correcting: bool = True
    cache: ScaleCache | None = None


NO_TABLE = ScaleTable("max", "no data: every call has the scales of its own activations", {})
PLAIN = Calibration()
SMOOTHED = Calibration(smoothing=True)


@dataclass(frozen=True)
class Quantized:
    """A master graph and how it came about. table: the scales that are in it. linears: how many Linears carry them, which
    are those in chosen. fp32: the graph that they are scales of. rounding: what they do on average, empty without bias
    correction. smoothed: what was folded into the graph before, None where nothing was tried. file: the scale table in the
    cache, None without one; reused: it was there before. dynamic: every call finds its own scales, and the table is empty."""

    model: bytes
    table: ScaleTable
    fp32: onnx.ModelProto
    chosen: tuple[Linear, ...]
    rounding: Arrays
    smoothed: Smoothed | None = None
    file: Path | None = None
    reused: bool = False
    dynamic: bool = False

    @property
    def linears(self) -> int:
        return len(self.chosen)


def quantize(
    model: onnx.ModelProto,
    batches: Batches,
    how: Calibration = PLAIN,
    *,
    made_from: str,
    frames: str = "",
    keep_float: Sequence[str] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Quantized:
    """FP32 graph and calibration inputs in, INT8 master graph out.

    frames: sha256 of what the inputs are made of, for the cache. keep_float: layers, by the end of their name in the model,
    that stay as they are. Blocks for as many runs over the inputs as ``how`` asks for. Raises CalibrationError.
    """
    def once(kind: str, key: str, measure: Callable[[], Arrays]) -> Arrays:
        return how.cache.arrays(kind, key, frames, measure) if how.cache else measure()

    key = digest([loadable(model)[0], f"smoothing {how.smoothing}"])
    smoothed = None
    if how.smoothing:
        norms = foldable(model)
        watching, weights = loadable(with_outputs(model, norms))
        looked_at = islice(batches(), affordable(model, least=LEAST_BATCHES, times=RUNS_OF_A_BATCH))

        def measure_peaks() -> Arrays:
            return measure_channels(watching, norms, looked_at, weights=weights, progress=progress)

        peaks = once("channels", key, measure_peaks) if norms else {}
        smoothed = fold(model, peaks)
        model = smoothed.model
    every = find_linears(model)
    tensors = list(dict.fromkeys(linear.activation for linear in every))
    observed, folder = loadable(with_outputs(model, tensors))

    def measure() -> ScaleTable:
        histograms = measure_histograms(observed, tensors, batches(), weights=folder, progress=progress)
        return choose_ranges(histograms, how.method, made_from=made_from)

    table, file, reused = (measure(), None, False) if how.cache is None else how.cache.table(key, frames, how.method, measure)
    table = centred(table, model, every)
    rounding: Arrays = {}
    if how.correcting and tensors:
        few = islice(batches(), affordable(model, CORRECTED_ON, least=LEAST_BATCHES, times=RUNS_OF_A_BATCH))

        def measure_means() -> Arrays:
            return measure_rounding(observed, table, few, weights=folder, progress=progress)

        rounding = once(f"{how.method}-means-centred", key, measure_means)
    linears = [linear for linear in every if not linear.layer.endswith(tuple(keep_float))]
    return _written(Quantized(b"", table, model, tuple(linears), rounding, smoothed, file, reused))


def requantize(quantized: Quantized, keep_float: Collection[str]) -> Quantized:
    """The same with more layers, by their whole name, in float."""
    left = tuple(linear for linear in quantized.chosen if linear.layer not in keep_float)
    return _written(replace(quantized, chosen=left))


def quantize_dynamically(model: onnx.ModelProto, keep_float: Sequence[str] = ()) -> Quantized:
    """FP32 graph to one whose scales are found in every call (export.quantize.dynamic). keep_float: as in quantize."""
    chosen = tuple(linear for linear in find_linears(model) if not linear.layer.endswith(tuple(keep_float)))
    return _written(Quantized(b"", NO_TABLE, model, chosen, {}, dynamic=True))


def _written(quantized: Quantized) -> Quantized:
    if quantized.dynamic:
        nodes = [linear.node for linear in quantized.chosen]
        graph = write_dynamic(quantized.fp32, nodes) if nodes else whole(quantized.fp32)
        return replace(quantized, model=graph.SerializeToString())
    used = {linear.activation: quantized.table.tensors[linear.activation] for linear in quantized.chosen}
    graph = write_qdq(quantized.fp32, quantized.table, quantized.chosen)
    graph = with_new_biases(graph, quantized.fp32, quantized.chosen, quantized.table, quantized.rounding)
    embed(graph)
    return replace(
        quantized, model=graph.SerializeToString(), table=msgspec.structs.replace(quantized.table, tensors=used)
    )

