"""Activation ranges: watch an FP32 graph at work and choose, tensor by tensor, where its INT8 scale should clip.

The result is a :class:`ScaleTable`, kept as JSON so that a person can read and correct it before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge.errors import UserError

BINS = 2048
LEVELS = 127
"""Symmetric int8: -127 to 127 for values, as the scale is amax / 127."""
Method = Literal["max", "percentile", "mse"]
NO_DATA = "there was no calibration data: give at least one batch"
NOT_FINITE = "an activation is not a finite number: check the checkpoint and the pictures"


class CalibrationError(UserError):
    """The ranges cannot be measured or read; one sentence."""


class ActivationRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor. low, high: the extremes seen. clip: the magnitude that 127 stands for. values: how many were seen."""

    low: float
    high: float
    clip: float
    values: int

    @property
    def scale(self) -> float:
        """Step of the symmetric int8 grid."""
        return self.clip / LEVELS


class ScaleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ranges by tensor name. method: how clip was chosen. made_from: for people, what was run."""

    method: Method
    made_from: str
    tensors: dict[str, ActivationRange]

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
        return table


class MagnitudeHistogram:
    """Histogram of |x| over [0, limit). The limit doubles when a larger value comes, by adding up neighbouring bins, so
    that memory stays fixed and nothing needs a second pass."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, dtype=np.int64)
        self.limit = 0.0
        self.low = np.inf
        self.high = -np.inf

    def add(self, values: NDArray[Any]) -> None:
        """Count values. Raises CalibrationError if one is not a finite number."""
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(high - low):
            raise CalibrationError(NOT_FINITE)
        self.low, self.high = min(self.low, low), max(self.high, high)
        top = max(-self.low, self.high, 2.0**-40)
        if self.limit == 0.0:
            self.limit = top * 1.01
        while top >= self.limit:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
            self.limit *= 2.0
        bins = np.minimum((np.abs(values).ravel() * (BINS / self.limit)).astype(np.int64), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def range(self, method: Method, percentile: float) -> ActivationRange:
        """The range, with the clip that ``method`` chooses."""
        amax = max(-self.low, self.high, 2.0**-40)
        clip = amax
        if method == "percentile":
            reached = np.searchsorted(np.cumsum(self.counts), self.counts.sum() * percentile / 100.0)
            clip = min(amax, (int(reached) + 1) * self.limit / BINS)
        elif method == "mse":
            clip = self._least_error_clip(amax)
        return ActivationRange(self.low, self.high, float(clip), int(self.counts.sum()))

    def _least_error_clip(self, amax: float) -> float:
        """The share of amax in 0.5 .. 1.0 with the least mean squared rounding and clipping error."""
        centres = (np.arange(BINS) + 0.5) * self.limit / BINS
        clips = amax * np.linspace(0.5, 1.0, 26)
        steps = clips[:, None] / LEVELS
        rounded = np.minimum(np.rint(centres / steps), LEVELS) * steps
        # Bins are finer than the steps only for a part of the range, so rounding error is taken as step^2 / 12.
        clipped = np.where(centres > clips[:, None], (centres - rounded) ** 2, steps**2 / 12.0)
        return float(clips[np.argmin(clipped @ self.counts)])


def measure_ranges(
    model: bytes,
    tensors: Sequence[str],
    batches: Iterable[Mapping[str, NDArray[Any]]],
    *,
    made_from: str,
    method: Method = "mse",
    percentile: float = 99.99,
    progress: Callable[[int], None] = lambda done: None,
) -> ScaleTable:
    """Run an FP32 graph over ``batches`` (inputs by name) and choose the clip of each tensor.

    model: ONNX bytes in which all of ``tensors`` are outputs. progress: called with the number of batches done.
    Blocks until the batches are used up. Raises CalibrationError.
    """
    histograms = {name: MagnitudeHistogram() for name in tensors}
    for done, seen in enumerate(_watch(model, tensors, batches), start=1):
        for name, values in seen.items():
            histograms[name].add(values)
        progress(done)
    if tensors and not histograms[tensors[0]].counts.any():
        raise CalibrationError(NO_DATA)
    return ScaleTable(method, made_from, {n: h.range(method, percentile) for n, h in histograms.items()})


def measure_channels(
    model: bytes,
    tensors: Sequence[str],
    batches: Iterable[Mapping[str, NDArray[Any]]],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude in every channel (the last axis, D) of each tensor, float32 (D,). As measure_ranges else.
    Raises CalibrationError."""
    peaks: dict[str, NDArray[np.float32]] = {}
    for done, seen in enumerate(_watch(model, tensors, batches), start=1):
        for name, values in seen.items():
            peak = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            if not np.isfinite(peak).all():
                raise CalibrationError(NOT_FINITE)
            peaks[name] = np.maximum(peaks.get(name, peak), peak)
        progress(done)
    if len(peaks) < len(set(tensors)):
        raise CalibrationError(NO_DATA)
    return peaks


def _watch(
    model: bytes, tensors: Sequence[str], batches: Iterable[Mapping[str, NDArray[Any]]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """What the tensors hold, batch by batch."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it keeps what it was once given: GBs, where hundreds of tensors are watched
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for batch in batches:
        yield dict(zip(tensors, session.run(list(tensors), dict(batch)), strict=True))
