"""Learning what is normal from one stretch of footage, so that no frame is ever judged by itself.

The footage is cut into a few contiguous folds. Each fold is judged by concepts learned from the others
(cross-conformal prediction: Vovk 2015), which shows how unfamiliar *new* normal footage looks; the concepts that are kept
are then learned from everything. The alarm threshold is the highest p-value at which the debounced alarm never begins in
the judged footage. Short footage gives a cautious threshold, and the evidence says how little it proves.

Beside every picture a copy of it moved by a part of a patch is learned (not judged): a thing that was normal at one place of
a patch is so at another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_S
from edge.memory.concepts import Concepts
from edge.messages import Belief, Floats
from edge.normal import Evidence, Normal, NormalError, alarm_rule
from edge.surprise import Alarm, AlarmCalibration
from edge.surprise.calibration import FORMAT_VERSION, fit_tail
from edge.surprise.scores import pool, token_errors

FOLDS = 6
CAPACITY = 2048
MIN_SECONDS = 10.0
MIN_FRAMES = 100
BLOCK = 100
MAX_FRAMES = 2000
LEAST_CHANGE = 1e-3
LEVEL_FLOOR = 0.5
HIGHEST_ALARM_P, LOWEST_ALARM_P = 0.5, 1e-6
NONE_SEEN = 3.0
"""If none was seen, fewer than so many were to be expected with 95 % confidence (rule of three)."""


class NormalLearner:
    """Collects beliefs, then learns from them. Holds at most MAX_FRAMES frames (at 192x64: 98 MB): when it is full,
    every second block of BLOCK frames is let go and from then on only as many are taken."""

    def __init__(self, tokens: int, dim: int) -> None:
        self._tokens = tokens
        self._dim = dim
        self._latents: list[NDArray[np.float16]] = []
        self._shifted: list[NDArray[np.float16]] = []
        self._errors: list[Floats] = []
        self._times_ns: list[int] = []
        self._stride = 1
        self._offered = 0
        self.seconds = 0.0
        """Of footage seen so far, gaps left out."""
        self._last_ns: int | None = None

    def observe(self, belief: Belief, shifted: Floats | None = None) -> None:
        """Take in one step, and its picture shifted (float32 (T, D), see Perception.shifted), which is learned but not
        judged. Steps without a prediction (the first after a cold start) are passed over."""
        if self._last_ns is not None:
            self.seconds += min(max(belief.captured_ns - self._last_ns, 0) / NS_PER_S, 1.0)
        self._last_ns = belief.captured_ns
        if belief.predicted is None:
            return
        block = self._offered // BLOCK
        self._offered += 1
        if block % self._stride:
            return
        self._latents.append(belief.latent.astype(np.float16))
        self._shifted.append((belief.latent if shifted is None else shifted).astype(np.float16))
        self._errors.append(token_errors(belief.predicted, belief.latent))
        self._times_ns.append(belief.captured_ns)
        if len(self._times_ns) >= MAX_FRAMES:
            self._let_go()

    def learn(
        self, *, bundle_sha256: str, made_from: str, wall_s: float, progress: Callable[[float], None] = lambda share: None
    ) -> Normal:
        """Blocks: some milliseconds per frame and fold. wall_s: label of the concepts. progress: called with the share
        done. Raises NormalError where the footage says too little."""
        self._refuse(made_from)
        count = len(self._times_ns)
        folds = np.array_split(np.arange(count), FOLDS)
        distances = np.empty((count, self._tokens), np.float32)
        done, work = 0, FOLDS * count

        def learned(spots: NDArray[np.intp]) -> Concepts:
            nonlocal done
            concepts = Concepts(self._dim, CAPACITY)
            for spot in spots:
                both = np.concatenate([self._latents[spot], self._shifted[spot]])
                concepts.learn(both.astype(np.float32), wall_s)
                done += 1
                if done % 50 == 0:
                    progress(done / work)
            return concepts

        for number, fold in enumerate(folds):
            others = learned(np.concatenate([*folds[:number], *folds[number + 1 :]]))
            for spot in fold:
                distances[spot] = others.distance(self._latents[spot].astype(np.float32))
        errors = np.stack(self._errors)
        calibration = _calibration(errors, distances, bundle_sha256, made_from)
        p_values = self._p_values(calibration, errors, distances)
        alarm_p = self._quiet_alarm_p(p_values)
        concepts = learned(np.arange(count))
        progress(1.0)
        seconds = count * self.seconds / max(1, self._offered)
        evidence = Evidence(
            seconds=round(seconds, 1),
            frames=count,
            effective=round(min(calibration.error.effective, calibration.unfamiliarity.effective), 1),
            alarm_p=alarm_p,
            onsets=self._onsets(p_values, alarm_p),
            per_hour_below=round(NONE_SEEN * 3600.0 / seconds, 1),
        )
        return Normal(bundle_sha256, made_from, concepts, calibration, evidence)

    def _refuse(self, made_from: str) -> None:
        count = len(self._times_ns)
        if count < MIN_FRAMES or self.seconds < MIN_SECONDS:
            raise NormalError(
                f"{made_from} gave {self.seconds:.1f} s of normal footage ({count} steps of the model): at least "
                f"{MIN_SECONDS:.0f} s and {MIN_FRAMES} steps are needed, and some minutes are better"
            )
        sample = np.stack(self._latents[:: max(1, count // 50)]).astype(np.float32)
        if not np.isfinite(sample).all():
            raise NormalError(f"the encoder gave numbers that are not finite on {made_from}: check the bundle")
        if float(sample.std(axis=0).max()) < LEAST_CHANGE:
            raise NormalError(
                f"nothing at all changes in {made_from}, so it says nothing about what is normal: check that the camera "
                "is not frozen and give footage of an ordinary day"
            )

    def _let_go(self) -> None:
        """Keep every second block, so that what is left still spans all of the time."""
        kept = [i for i in range(len(self._times_ns)) if (i // BLOCK) % 2 == 0]
        self._latents = [self._latents[i] for i in kept]
        self._shifted = [self._shifted[i] for i in kept]
        self._errors = [self._errors[i] for i in kept]
        self._times_ns = [self._times_ns[i] for i in kept]
        self._stride *= 2

    def _p_values(self, calibration: AlarmCalibration, errors: Floats, distances: Floats) -> list[float]:
        error = pool(np.divide(errors, np.array(calibration.error_levels, np.float32), dtype=np.float32))
        levels = np.array(calibration.unfamiliarity_levels, np.float32)
        unfamiliarity = pool(np.divide(distances, levels, dtype=np.float32))
        return [calibration.p_value(float(e), float(u)) for e, u in zip(error, unfamiliarity, strict=True)]

    def _quiet_alarm_p(self, p_values: list[float]) -> float:
        """The highest of a few hundred candidates at which the alarm stays silent."""
        steps = round(40 * math.log10(HIGHEST_ALARM_P / LOWEST_ALARM_P))
        candidates = np.geomspace(HIGHEST_ALARM_P, LOWEST_ALARM_P, steps)
        low, high = 0, steps - 1  # candidates[high] is quiet enough, or none is
        while low < high:
            middle = (low + high) // 2
            quiet = self._onsets(p_values, float(candidates[middle])) == 0
            low, high = (low, middle) if quiet else (middle + 1, high)
        return float(candidates[low])

    def _onsets(self, p_values: list[float], alarm_p: float) -> int:
        alarm = Alarm(alarm_rule(alarm_p))
        return sum(alarm.update(p, at_ns) for p, at_ns in zip(p_values, self._times_ns, strict=True))


def _calibration(errors: Floats, distances: Floats, bundle_sha256: str, made_from: str) -> AlarmCalibration:
    """As :meth:`AlarmCalibration.fit`, except that the levels come from all of the footage: half of a short stretch may
    miss the one thing that happened in it, and the scores of the other half would then be out of proportion. Levels are
    one mean per patch and judge no frame by itself worth speaking of; the distances are from other folds already. Both
    scores count the fewer of their effective frames, so that one threshold in p is equally strict for both."""
    pooled, levels = [], []
    for scores in (errors, distances):
        means = scores.mean(axis=0, dtype=np.float64)
        level = np.maximum(means, max(LEVEL_FLOOR * float(means.mean()), 1e-12)).astype(np.float32)
        pooled.append(pool(np.divide(scores, level, dtype=np.float32)).astype(np.float64))
        levels.append([float(value) for value in level])
    error, unfamiliarity = map(fit_tail, pooled)
    effective = min(error.effective, unfamiliarity.effective)
    return AlarmCalibration(
        FORMAT_VERSION,
        bundle_sha256,
        made_from,
        errors.shape[0],
        errors.shape[1],
        msgspec.structs.replace(error, effective=effective),
        msgspec.structs.replace(unfamiliarity, effective=effective),
        levels[0],
        levels[1],
    )
