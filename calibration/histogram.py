"""A histogram of magnitudes that needs no second pass, and the three ways to choose from it where an INT8 scale clips."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError

BINS = 2048
LEVELS = 127
"""Symmetric int8: -127 to 127 for values, as the scale is amax / 127."""
Method = Literal["max", "percentile", "mse"]
PERCENTILE = 99.99
"""Of magnitudes, for the method of that name."""
NOT_FINITE = "an activation is not a finite number: check the checkpoint and the pictures"
_SMALLEST = 2.0**-40


class CalibrationError(UserError):
    """The ranges cannot be measured or read; one sentence."""


class MagnitudeHistogram:
    """Histogram of |x| over [0, limit). The limit doubles when a larger value comes, by adding up neighbouring bins, so
    that memory stays fixed and nothing needs a second pass. low, high: the extremes seen."""

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
        top = max(-self.low, self.high, _SMALLEST)
        if self.limit == 0.0:
            self.limit = top * 1.01
        while top >= self.limit:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
            self.limit *= 2.0
        bins = np.minimum((np.abs(values).ravel() * (BINS / self.limit)).astype(np.int64), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def clip(self, method: Method, percentile: float = PERCENTILE) -> float:
        """The magnitude that 127 stands for. max: the largest seen. percentile: so many percent of all values are below.
        mse: see :meth:`_least_error_clip`."""
        amax = max(-self.low, self.high, _SMALLEST)
        if method == "percentile":
            reached = np.searchsorted(np.cumsum(self.counts), self.counts.sum() * percentile / 100.0)
            return min(amax, (int(reached) + 1) * self.limit / BINS)
        return self._least_error_clip(amax) if method == "mse" else amax

    def _least_error_clip(self, amax: float) -> float:
        """The share of amax in 0.5 .. 1.0 with the least mean squared rounding and clipping error."""
        centres = (np.arange(BINS) + 0.5) * self.limit / BINS
        clips = amax * np.linspace(0.5, 1.0, 26)
        steps = clips[:, None] / LEVELS
        rounded = np.minimum(np.rint(centres / steps), LEVELS) * steps
        # Bins are finer than the steps only for a part of the range, so rounding error is taken as step^2 / 12.
        clipped = np.where(centres > clips[:, None], (centres - rounded) ** 2, steps**2 / 12.0)
        return float(clips[np.argmin(clipped @ self.counts)])
