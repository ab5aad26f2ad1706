"""Activation ranges: watch an FP32 graph at work and choose, tensor by tensor, where its INT8 scale should clip.

The result is a :class:`ScaleTable`, kept as JSON so that a person can read and correct it before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from calibration.histogram import LEVELS, NOT_FINITE, CalibrationError, MagnitudeHistogram, Method
from edge.engines.onnxruntime_engine import WEIGHTS_IN

NO_DATA = "there was no calibration data: give at least one batch"
SMALLEST_FP16, LARGEST_FP16 = 2.0**-14, 65504.0
"""The range in which FP16 has all its bits."""


class ActivationRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tensor. low, high: the extremes seen. clip: the magnitude that 127 stands for. values: how many were seen. centre: what
    is subtracted before rounding, a whole number of steps."""

    low: float
    high: float
    clip: float
    values: int
    centre: float = 0.0

    @property
    def scale(self) -> float:
        """Step of the symmetric int8 grid; see :func:`fp16_exact`."""
        return float(fp16_exact(np.array(self.clip / LEVELS)))


class ScaleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ranges by tensor name. method: how clip was chosen. made_from: for people, what was run. model, frames: sha256 of the
    graph that was watched and of what it was shown; empty in tables of older bundles."""

    method: Method
    made_from: str
    tensors: dict[str, ActivationRange]
    model: str = ""
    frames: str = ""

    def to_json(self) -> bytes:
        """For people to read and correct, and for :meth:`load`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def save(self, path: Path) -> None:
        path.write_bytes(self.to_json())

    @classmethod
    def load(cls, path: Path) -> ScaleTable:
        """Raises CalibrationError."""
        try:
            table = msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            reason = error.strerror
            raise CalibrationError(f"scale table {path} cannot be read ({reason}): run the calibration again") from None
        except msgspec.DecodeError as error:
            raise CalibrationError(f"scale table {path} is not valid: {error}; run the calibration again") from None
        for name, tensor in table.tensors.items():
            if not (np.isfinite(tensor.clip) and tensor.clip > 0):
                raise CalibrationError(f"scale table {path} has clip {tensor.clip} for {name!r}: it must be above 0")
            if not np.isfinite(tensor.centre):
                raise CalibrationError(f"scale table {path} has centre {tensor.centre} for {name!r}: it must be a finite number")
        return table


def fp16_exact(scales: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The nearest scales that FP16 has too, so that every dialect of a graph holds the same integers. Those outside of
    FP16's range of full precision stay as they are."""
    within = (scales >= SMALLEST_FP16) & (scales <= LARGEST_FP16)
    near = np.minimum(scales, LARGEST_FP16).astype(np.float16)
    return np.where(within, near, scales).astype(np.float32)


def measure_histograms(
    model: bytes,
    tensors: Sequence[str],
    batches: Iterable[Mapping[str, NDArray[Any]]],
    *,
    weights: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, MagnitudeHistogram]:
    """Run an FP32 graph over ``batches`` (inputs by name) and count the magnitudes in each tensor.

    model: ONNX bytes in which all of ``tensors`` are outputs. weights: folder of the files that hold its weights, where it does
    not itself. progress: called with the number of batches done.
    Blocks until the batches are used up. Raises CalibrationError.
    """
    histograms = {name: MagnitudeHistogram() for name in tensors}
    for done, seen in enumerate(_watch(model, weights, tensors, batches), start=1):
        for name, values in seen.items():
            histograms[name].add(values)
        progress(done)
    if tensors and not histograms[tensors[0]].counts.any():
        raise CalibrationError(NO_DATA)
    return histograms


def choose_ranges(histograms: Mapping[str, MagnitudeHistogram], method: Method, *, made_from: str) -> ScaleTable:
    """A table by one of the methods; any number of them from the same histograms."""
    tensors = {n: ActivationRange(h.low, h.high, h.clip(method), int(h.counts.sum())) for n, h in histograms.items()}
    return ScaleTable(method, made_from, tensors)


def measure_channels(
    model: bytes,
    tensors: Sequence[str],
    batches: Iterable[Mapping[str, NDArray[Any]]],
    *,
    weights: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude in every channel (the last axis, D) of each tensor, float32 (D,). As measure_histograms else.
    Raises CalibrationError."""
    peaks: dict[str, NDArray[np.float32]] = {}
    for done, seen in enumerate(_watch(model, weights, tensors, batches), start=1):
        for name, values in seen.items():
            peak = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            if not np.isfinite(peak).all():
                raise CalibrationError(NOT_FINITE)
            peaks[name] = np.maximum(peaks.get(name, peak), peak)
        progress(done)
    if len(peaks) < len(set(tensors)):
        raise CalibrationError(NO_DATA)
    return peaks


def measure_rounding(
    model: bytes,
    table: ScaleTable,
    batches: Iterable[Mapping[str, NDArray[Any]]],
    *,
    weights: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, NDArray[np.float64]]:
    """What the scales of ``table`` do on average to every channel (the last axis, D) of its tensors: the mean before and the
    mean after rounding, float64 (2, D). As measure_histograms else. Raises CalibrationError."""
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for done, seen in enumerate(_watch(model, weights, list(table.tensors), batches), start=1):
        for name, values in seen.items():
            rows = values.reshape(-1, values.shape[-1])
            scale, centre = np.float32(table.tensors[name].scale), np.float32(table.tensors[name].centre)
            rounded = np.clip(np.rint((rows - centre) / scale), -LEVELS - 1, LEVELS) * scale + centre
            both = np.stack([rows.sum(axis=0, dtype=np.float64), rounded.sum(axis=0, dtype=np.float64)])
            sums[name] = sums.get(name, 0.0) + both
            counts[name] = counts.get(name, 0) + len(rows)
        progress(done)
    if len(sums) < len(table.tensors):
        raise CalibrationError(NO_DATA)
    return {name: both / counts[name] for name, both in sums.items()}


def _watch(
    model: bytes, weights: Path | None, tensors: Sequence[str], batches: Iterable[Mapping[str, NDArray[Any]]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """What the tensors hold, batch by batch."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it keeps what it was once given: GBs, where hundreds of tensors are watched
    if weights is not None:
        options.add_session_config_entry(WEIGHTS_IN, str(weights))
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for batch in batches:
        yield dict(zip(tensors, session.run(list(tensors), dict(batch)), strict=True))
