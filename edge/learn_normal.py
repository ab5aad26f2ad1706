"""Learning what is normal from one stretch of footage, so that no frame is ever judged by itself.

The footage is cut into a few contiguous folds. Each fold is judged by concepts learned from the others, its neighbours left
out because whoever stands on both sides of a cut would be familiar (cross-conformal prediction: Vovk 2015; blocks: Racine
2000), which shows how unfamiliar *new* normal footage looks; the concepts that are kept
are then learned from everything. The alarm threshold lies a quarter above the highest score at which the debounced alarm never
begins in the judged footage: at that score itself about one false alarm is to be expected in as much footage again. Short
footage gives a cautious threshold, and the evidence says how little it proves.

Beside every picture a copy of it moved by a part of a patch is learned (not judged): a thing that was normal at one place of
a patch is so at another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_S
from edge.memory.concepts import Concepts
from edge.messages import Belief, Floats
from edge.normal import Evidence, Normal, NormalError, alarm_rule
from edge.surprise import Alarm, AlarmCalibration
from edge.surprise.calibration import Tail, of_two
from edge.surprise.scores import Scores, places, pool

FOLDS = 6
CAPACITY = 2048
MIN_SECONDS = 10.0
MIN_FRAMES = 100
BLOCK = 100
MAX_FRAMES, MAX_BYTES = 2000, 256 << 20
"""Whichever is reached first; the latents of large encoders are large."""
LEAST_CHANGE = 1e-3
HIGHEST_ALARM_P, LOWEST_ALARM_P = 0.5, 1e-6
MARGIN = 1.25
"""How far the threshold lies above the highest score that stays silent. Chosen on the first halves of three recordings, each
learned in one part and watched in another: 0.6 false alarms per part at 1.0, 0.2 at 1.1, none at 1.25, at the price of 4 % of
the foreign things."""
NONE_SEEN = 3.0
"""If none was seen, fewer than so many were to be expected with 95 % confidence (rule of three)."""


class _Judged:
    """A score that can begin an alarm, on the judged footage. scores: float32 (n,), pooled."""

    def __init__(self, tail: Tail, scores: Floats, times_ns: list[int]) -> None:
        self.tail = tail
        self.p_values = [of_two(tail.p_value(float(score))) for score in scores]
        self.times_ns = times_ns


class NormalLearner:
    """Collects beliefs, then learns from them. Holds one error per frame, and the latents of at most MAX_FRAMES frames (at
    192x64: 98 MB): when it is full, every second block of BLOCK frames is let go and from then on only as many are taken.
    predicts: whether the bundle has a predictor, so that there are errors."""

    def __init__(self, tokens: int, dim: int, grid: tuple[int, int] | None, predicts: bool = True) -> None:
        self._tokens = tokens
        self._predicts = predicts
        self._most = max(2 * MIN_FRAMES, min(MAX_FRAMES, MAX_BYTES // (2 * tokens * dim * np.dtype(np.float16).itemsize)))
        self._grid = grid
        self._scores = Scores(grid)
        self._dim = dim
        self._latents: list[NDArray[np.float16]] = []
        self._shifted: list[NDArray[np.float16]] = []
        self._times_ns: list[int] = []
        self._errors: list[float] = []
        self._error_times_ns: list[int] = []
        self._steps = 0
        self._stride = 1
        self.seconds = 0.0
        """Of footage seen so far, gaps left out."""
        self._last_ns: int | None = None

    def observe(self, belief: Belief, shifted: Floats | None = None) -> None:
        """Take in one step, and its picture shifted (float32 (T, D), see Perception.shifted), which is learned but not
        judged. Where there is a predictor, steps without an error (the first after a cold start) are passed over."""
        if self._last_ns is not None:
            self.seconds += min(max(belief.captured_ns - self._last_ns, 0) / NS_PER_S, 1.0)
        self._last_ns = belief.captured_ns
        errors = self._scores.errors(belief)
        if errors is not None:
            self._errors.append(float(pool(places(errors, self._grid))))
            self._error_times_ns.append(belief.captured_ns)
        elif self._predicts:
            return
        block = self._steps // BLOCK
        self._steps += 1
        if block % self._stride:
            return
        self._latents.append(belief.latent.astype(np.float16))
        self._shifted.append((belief.latent if shifted is None else shifted).astype(np.float16))
        self._times_ns.append(belief.captured_ns)
        if len(self._times_ns) >= self._most:
            self._let_go()

    def learn(
        self, *, bundle_sha256: str, made_from: str, wall_s: float, progress: Callable[[float], None] = lambda share: None
    ) -> Normal:
        """Blocks: some milliseconds per frame and fold. wall_s: label of the concepts. progress: called with the share
        done. Raises NormalError where the footage says too little."""
        self._refuse(made_from)
        count = len(self._times_ns)
        folds = np.array_split(np.arange(count), FOLDS)
        apart = [[n for n in range(FOLDS) if abs(n - number) > 1] for number in range(FOLDS)]
        distances = np.empty((count, self._tokens), np.float32)
        done, work = 0, count + sum(len(folds[n]) for others in apart for n in others)

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
            others = learned(np.concatenate([folds[n] for n in apart[number]]))
            score = Scores(self._grid)
            for spot in fold:
                distances[spot] = score.unfamiliarities(others.distance(self._latents[spot].astype(np.float32)))
        errors = np.array(self._errors, np.float32)
        calibration = AlarmCalibration.fit(
            errors if self._predicts else None, distances, grid=self._grid, bundle_sha256=bundle_sha256, made_from=made_from
        )
        levels = np.array(calibration.levels, np.float32)
        pooled = pool(places(np.divide(distances, levels, dtype=np.float32), self._grid))
        judged = [] if calibration.error is None else [_Judged(calibration.error, errors, self._error_times_ns)]
        if alarm_rule(0.5, self._tokens, self.seconds, self._predicts).unfamiliar:
            judged.append(_Judged(calibration.unfamiliarity, pooled, self._times_ns))
        quiet_p = self._quiet_p(judged)
        alarm_p = min(of_two(one.tail.p_value(MARGIN * one.tail.score_at(quiet_p / 2.0))) for one in judged)
        concepts = learned(np.arange(count))
        progress(1.0)
        evidence = Evidence(
            seconds=round(self.seconds, 1),
            frames=self._steps,
            effective=round(calibration.unfamiliarity.effective, 1),
            alarm_p=alarm_p,
            onsets=self._onsets(judged, alarm_p),
            per_hour_below=round(NONE_SEEN * 3600.0 / self.seconds, 1),
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
        self._times_ns = [self._times_ns[i] for i in kept]
        self._stride *= 2

    def _quiet_p(self, judged: list[_Judged]) -> float:
        """The highest of a few hundred candidates at which the alarm stays silent."""
        steps = round(40 * math.log10(HIGHEST_ALARM_P / LOWEST_ALARM_P))
        candidates = np.geomspace(HIGHEST_ALARM_P, LOWEST_ALARM_P, steps)
        low, high = 0, steps - 1  # candidates[high] is quiet enough, or none is
        while low < high:
            middle = (low + high) // 2
            quiet = self._onsets(judged, float(candidates[middle])) == 0
            low, high = (low, middle) if quiet else (middle + 1, high)
        return float(candidates[low])

    def _onsets(self, judged: list[_Judged], alarm_p: float) -> int:
        rule = alarm_rule(alarm_p, self._tokens, self.seconds, self._predicts)
        onsets = 0
        for one in judged:
            alarm = Alarm(rule)
            onsets += sum(alarm.update(p, at_ns) for p, at_ns in zip(one.p_values, one.times_ns, strict=True))
        return onsets
