"""From raw scores to p-values: what held-out normal footage of this camera says about how high a score may be.

**Inside the calibration range** the p-value of a score ``s`` is the conformal one, ``(1 + #{s_i >= s}) / (n + 1)``
(Vovk et al. 2005), which is super-uniform whenever ``s`` is exchangeable with the n calibration scores. Video frames
are not: neighbours resemble each other, so n frames know less than n draws. The exceedance share is therefore smoothed
with the *effective* number of frames m = n / tau, ``p = (1 + m * share) / (m + 1)``, where tau is the integrated
autocorrelation time of the ranks. Because m <= n this is never smaller than the plain conformal p-value.

**Beyond the highest calibration score** no distribution-free statement exists below ``1 / (m + 1)``. There p is
*extrapolated*: the value at the maximum times the conditional tail of a generalised Pareto distribution fitted to the
excesses of the highest tenth of the frames (Pickands 1975; the use on streams is Siffer et al., KDD 2017). Dependence
between frames leaves that fit of the single-frame tail unbiased but less certain; it enters through the value at the
maximum, which knows only m frames. Shape and scale come from probability-weighted moments (Hosking and Wallis 1987),
the shape held within [0, 0.5] so that the tail never ends; with fewer than 100 excesses the shape is 0 (exponential).
:meth:`Tail.extrapolated` says where this holds.

Error and unfamiliarity are combined by Bonferroni, ``min(1, 2 * min(p_error, p_unfamiliarity))``: valid however they
depend on each other. Each score has an alarm of its own, with ``min(1, 2 * p)``.

With several tokens the distances of each patch are first divided by that patch's own normal level, so that a patch where
leaves always move does not set the limit for a patch where nothing ever does. The levels are means over frames, raised to
half the mean over all patches where they are lower. (The errors of patches come in units of their scale already, see
:mod:`edge.surprise.unforeseen`.)
"""

from __future__ import annotations

import bisect
import math
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError
from edge.messages import Floats
from edge.surprise.scores import places, pool
from edge.whole_file import write_whole

FORMAT_VERSION = 2
MIN_FRAMES = 50
_MAX_KEPT = 20_000
_TAIL_SHARE = 0.1
_MIN_EXCESSES = 10
_EXCESSES_FOR_SHAPE = 100
_MAX_SHAPE = 0.5
_LEVEL_FLOOR = 0.5
_SMALLEST_P = 1e-12


class CalibrationError(UserError):
    """The calibration cannot be made, read or used; one sentence: what is wrong, where, what to do."""


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One score's calibration. scores: sorted, lowest first. effective: m. threshold, shape, scale: the Pareto tail."""

    scores: list[float]
    effective: float
    threshold: float
    shape: float
    scale: float

    def __post_init__(self) -> None:
        numbers = (*self.scores, self.effective, self.threshold, self.shape, self.scale)
        if not self.scores or not all(map(math.isfinite, numbers)):
            raise ValueError("a tail needs at least one score and finite numbers only")
        if self.scores != sorted(self.scores) or self.threshold > self.scores[-1]:
            raise ValueError("the scores must be sorted and reach beyond the threshold")
        if not (1.0 <= self.effective <= len(self.scores) and self.scale > 0.0 and 0.0 <= self.shape <= _MAX_SHAPE):
            raise ValueError(
                f"effective, scale or shape is out of range ({self.effective}, {self.scale}, {self.shape})"
            )

    def p_value(self, score: float) -> float:
        """In (0, 1], falling with the score. A score that is not a number gets the smallest p-value."""
        highest = self.scores[-1]
        if score <= highest:
            share = 1.0 - bisect.bisect_left(self.scores, score) / len(self.scores)
            return (1.0 + self.effective * share) / (self.effective + 1.0)
        if not math.isfinite(score):
            return _SMALLEST_P
        return max(_SMALLEST_P, self._survival(score) / self._survival(highest) / (self.effective + 1.0))

    def extrapolated(self, score: float) -> bool:
        """True where the p-value rests on the fitted tail instead of on counted frames."""
        return not score <= self.scores[-1]

    def score_at(self, p_value: float) -> float:
        """The lowest score whose p-value is at most this: the inverse of :meth:`p_value`, for drawing thresholds."""
        floor = 1.0 / (self.effective + 1.0)
        if p_value > floor:
            share = (p_value * (self.effective + 1.0) - 1.0) / self.effective
            # Rounding must not take one frame too many or too few, so the candidate is checked by its neighbours.
            place = min(len(self.scores) - 1, max(0, math.ceil((1.0 - share) * len(self.scores)) - 1))
            while place > 0 and self.p_value(self.scores[place - 1]) <= p_value:
                place -= 1
            while place < len(self.scores) - 1 and self.p_value(self.scores[place]) > p_value:
                place += 1
            if self.p_value(self.scores[place]) <= p_value:
                return self.scores[place]
            return self.scores[-1]
        wanted = self._survival(self.scores[-1]) * p_value / floor
        if self.shape == 0.0:
            return self.threshold - self.scale * math.log(wanted)
        return float(self.threshold + self.scale / self.shape * (wanted**-self.shape - 1.0))

    def _survival(self, score: float) -> float:
        excess = (score - self.threshold) / self.scale
        if self.shape == 0.0:
            return math.exp(-min(excess, 600.0))
        return float((1.0 + self.shape * excess) ** (-1.0 / self.shape))


class AlarmCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What "higher than normal" means for one bundle on one camera.

    made_from: for people, e.g. the source's name. frames: how many were used. tokens: T. error: None where there is no
    predictor. levels: float per token, what its distance is divided by before pooling; [1.0] for one token.
    """

    format_version: int
    bundle_sha256: str
    made_from: str
    frames: int
    tokens: int
    error: Tail | None
    unfamiliarity: Tail
    levels: list[float]

    def __post_init__(self) -> None:
        if len(self.levels) != self.tokens or not all(math.isfinite(level) and level > 0.0 for level in self.levels):
            raise ValueError(f"levels needs {self.tokens} numbers above zero")

    @classmethod
    def fit(
        cls,
        errors: Floats | None,
        unfamiliarities: Floats,
        *,
        grid: tuple[int, int] | None,
        bundle_sha256: str,
        made_from: str,
    ) -> AlarmCalibration:
        """Calibrate on held-out normal footage in its order of time.

        errors: float32 (n,), pooled; None without a predictor. unfamiliarities: float32 (m, T) token scores, of all or some of
        the same frames. Both as :class:`edge.surprise.scores.Scores` gives them. grid: (gh, gw) of patches. The concepts must
        have been learned from *other* frames. Raises CalibrationError when there are too few or broken frames.
        """
        judged, tokens = unfamiliarities.shape
        frames = judged if errors is None else len(errors)
        if min(frames, judged) < MIN_FRAMES:
            raise CalibrationError(
                f"{made_from} gave {min(frames, judged)} frames for the alarm calibration: give at least {MIN_FRAMES} normal "
                "frames"
            )
        if not all(np.isfinite(scores).all() for scores in (errors, unfamiliarities) if scores is not None):
            raise CalibrationError(
                f"{made_from} gave scores that are not finite: check the encoder and predictor of this bundle"
            )
        levels = _levels(unfamiliarities)
        unfamiliarity = fit_tail(pool(places(unfamiliarities / levels, grid)).astype(np.float64))
        error = None
        if errors is not None:
            error = fit_tail(errors.astype(np.float64))
            effective = min(error.effective, unfamiliarity.effective)  # one threshold in p is then equally strict for both
            error, unfamiliarity = (msgspec.structs.replace(tail, effective=effective) for tail in (error, unfamiliarity))
        return cls(
            FORMAT_VERSION, bundle_sha256, made_from, frames, tokens, error, unfamiliarity, [float(x) for x in levels]
        )

    def save(self, path: Path) -> None:
        """Write as JSON, all or nothing. Raises CalibrationError."""
        try:
            write_whole(path, msgspec.json.encode(self))
        except OSError as error:
            raise CalibrationError(
                f"the alarm calibration cannot be written to {path} ({error.strerror}): choose a writable place"
            ) from None

    @classmethod
    def load(cls, path: Path, *, bundle_sha256: str, tokens: int) -> AlarmCalibration:
        """Read a saved calibration. Raises CalibrationError if it is missing, broken or made for something else."""
        again = "run 'latentloop calibrate alarms' again"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CalibrationError(f"the alarm calibration {path} cannot be read ({error.strerror}): {again}") from None
        try:
            header = msgspec.json.decode(content, type=_Header)
            if header.format_version != FORMAT_VERSION:
                raise CalibrationError(
                    f"the alarm calibration {path} has format {header.format_version} and this program reads "
                    f"{FORMAT_VERSION}: {again}"
                )
            calibration = msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CalibrationError(f"the alarm calibration {path} is damaged ({error}): {again}") from None
        if calibration.bundle_sha256 != bundle_sha256:
            raise CalibrationError(
                f"the alarm calibration {path} was made for bundle {calibration.bundle_sha256[:12]} and this is "
                f"{bundle_sha256[:12]}: {again}"
            )
        if calibration.tokens != tokens:
            raise CalibrationError(
                f"the alarm calibration {path} was made for {calibration.tokens} tokens per frame and this bundle has "
                f"{tokens}: {again}"
            )
        return calibration


class _Header(msgspec.Struct):
    format_version: int


def of_two(p_value: float) -> float:
    """Bonferroni: what a p-value is worth that was looked for among two."""
    return min(1.0, 2.0 * p_value)


def fit_tail(scores: NDArray[np.float64]) -> Tail:
    """Calibrate one pooled score. scores: float64 (n,), in order of time."""
    stride = -(-len(scores) // _MAX_KEPT)
    scores = scores[::stride]
    tau = correlation_time(scores)
    effective = max(1.0, len(scores) / tau)
    ordered = np.sort(scores)
    over = min(len(ordered) - 1, max(_MIN_EXCESSES, math.ceil(_TAIL_SHARE * len(ordered))))
    threshold = float(ordered[len(ordered) - 1 - over])
    excesses = ordered[len(ordered) - over :] - threshold
    shape, scale = _pareto(excesses)
    # Footage without any variation (a synthetic source) would otherwise make rounding noise an alarm.
    scale = max(scale, 1e-3 * abs(float(ordered[-1])), 1e-9)
    return Tail([float(score) for score in ordered], effective, threshold, shape, scale)


def correlation_time(scores: NDArray[np.float64]) -> float:
    """Integrated autocorrelation time of the ranks in frames, at least 1: so many frames count as one draw.

    The sum runs to the first lag whose correlation is not above the noise of n independent frames, or n / 4.
    """
    n = len(scores)
    ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable") - (n - 1) / 2.0
    power = float(ranks @ ranks)
    if power == 0.0 or scores.min() == scores.max():
        return 1.0
    noise = 2.0 / math.sqrt(n)
    total = 1.0
    for lag in range(1, max(2, n // 4)):
        correlation = float(ranks[:-lag] @ ranks[lag:]) / power
        if correlation < noise:
            break
        total += 2.0 * correlation
    return total


def _levels(scores: Floats) -> Floats:
    """Normal level per token, float32 (n, T) -> (T,): the mean over frames, not below half the mean over all tokens; 1 for a
    single token."""
    if scores.shape[1] == 1:
        return np.ones(1, dtype=np.float32)
    means = scores.mean(axis=0, dtype=np.float64)
    return np.asarray(np.maximum(means, max(_LEVEL_FLOOR * float(means.mean()), 1e-12)), dtype=np.float32)


def _pareto(excesses: NDArray[np.float64]) -> tuple[float, float]:
    """Shape and scale from probability-weighted moments; excesses sorted, lowest first."""
    mean = float(excesses.mean()) if len(excesses) else 0.0
    if len(excesses) < _EXCESSES_FOR_SHAPE or mean <= 0.0:
        return 0.0, mean
    n = len(excesses)
    weights = 1.0 - (np.arange(1, n + 1) - 0.35) / n
    weighted = float((weights * excesses).mean())
    spread = mean - 2.0 * weighted
    shape = 2.0 - mean / spread if spread > 0.0 else 0.0
    shape = min(_MAX_SHAPE, max(0.0, shape))
    return shape, mean * (1.0 - shape)
