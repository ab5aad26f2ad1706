"""One look at a belief: how surprising it is, whether that is an alarm, and what it is called."""

from __future__ import annotations

import math

import numpy as np

from edge.memory.concepts import Concepts
from edge.messages import Assessment, Belief, CameraFault, Floats
from edge.surprise.alarm import Alarm, AlarmRule
from edge.surprise.calibration import AlarmCalibration, combined
from edge.surprise.scores import heat_map, pool, token_errors

_HUGE = float(np.finfo(np.float32).max)


class Surprise:
    """Assesses beliefs one after the other. Not thread-safe; holds the state of the debounced alarm.

    calibration: None scores every frame but never raises a statistical alarm, see :attr:`calibrated`. concepts: what is
    normal here; empty ones count as "unknown", not as "everything is unfamiliar". grid: (gh, gw) of the patch latents,
    or None for a global latent.
    """

    def __init__(
        self,
        calibration: AlarmCalibration | None,
        concepts: Concepts,
        grid: tuple[int, int] | None = None,
        rule: AlarmRule = AlarmRule(),  # noqa: B008 - frozen
    ) -> None:
        self.rule = rule
        self._calibration = calibration
        self._concepts = concepts
        self._grid = grid
        self._alarm = Alarm(rule)
        self._fault = ""
        self._cause = ""
        if calibration is not None:
            if grid is not None and grid[0] * grid[1] != calibration.tokens:
                raise ValueError(
                    f"the calibration is for {calibration.tokens} tokens and the grid is {grid[0]}x{grid[1]}"
                )
            self._error_levels = np.array(calibration.error_levels, dtype=np.float32)
            self._unfamiliarity_levels = np.array(calibration.unfamiliarity_levels, dtype=np.float32)
            # Heat is 1.0 where a token alone stands at the height at which the pooled score would be an alarm.
            self._error_limit = np.float32(max(calibration.error.score_at(rule.alarm_p / 2.0), 1e-30))
            self._unfamiliarity_limit = np.float32(max(calibration.unfamiliarity.score_at(rule.alarm_p / 2.0), 1e-30))

    @property
    def calibrated(self) -> bool:
        """False: scores only, no statistical alarms; ``latentloop calibrate alarms`` makes a calibration."""
        return self._calibration is not None

    def assess(self, belief: Belief, faults: tuple[CameraFault, ...] = ()) -> Assessment:
        """Judge one belief; costs one GEMM over the concepts, blocks on nothing.

        A camera fault is an alarm at once (its health check has debounced it already) and names the cause; while it
        lasts the statistical alarm stands still, because the picture says nothing about the world. error and
        unfamiliarity are pooled scores in units of the normal level where calibrated, raw otherwise; 0.0 where there is
        nothing to compare with (no prediction yet, no concepts yet), which counts as p = 1.
        """
        errors = None if belief.predicted is None else token_errors(belief.predicted, belief.latent)
        distances = self._concepts.distance(belief.latent) if len(self._concepts) else None
        error, unfamiliarity, p_value, likelier, heat = self._judge(errors, distances)
        if faults:
            onset = faults[0].value != self._fault
            self._fault = faults[0].value
            return Assessment(error, unfamiliarity, p_value, self.rule.alarm_p, True, onset, self._fault, heat)
        self._fault = ""
        onset = self._calibration is not None and self._alarm.update(p_value, belief.captured_ns)
        if onset:
            self._cause = likelier
        alarmed = self._alarm.alarmed
        cause = self._cause if alarmed else ""
        return Assessment(error, unfamiliarity, p_value, self.rule.alarm_p, alarmed, onset, cause, heat)

    def _judge(self, errors: Floats | None, distances: Floats | None) -> tuple[float, float, float, str, Floats | None]:
        calibration = self._calibration
        if calibration is None:
            return _pooled(errors), _pooled(distances), 1.0, "", None
        tokens = calibration.tokens
        for scores in (errors, distances):
            if scores is not None and len(scores) != tokens:
                raise ValueError(f"the calibration is for {tokens} tokens per frame and this belief has {len(scores)}")
        errors = None if errors is None else errors / self._error_levels
        distances = None if distances is None else distances / self._unfamiliarity_levels
        error, unfamiliarity = _pooled(errors), _pooled(distances)
        p_error = 1.0 if errors is None else calibration.error.p_value(error)
        p_unfamiliarity = 1.0 if distances is None else calibration.unfamiliarity.p_value(unfamiliarity)
        likelier = "unfamiliar" if p_unfamiliarity < p_error else "unexpected"
        return error, unfamiliarity, combined(p_error, p_unfamiliarity), likelier, self._heat(errors, distances)

    def _heat(self, errors: Floats | None, distances: Floats | None) -> Floats | None:
        if self._grid is None:
            return None
        heat = np.zeros(self._grid[0] * self._grid[1], dtype=np.float32)
        if errors is not None:
            heat = np.maximum(heat, errors / self._error_limit)
        if distances is not None:
            heat = np.maximum(heat, distances / self._unfamiliarity_limit)
        return heat_map(np.nan_to_num(heat, nan=_HUGE, posinf=_HUGE), self._grid)


def _pooled(scores: Floats | None) -> float:
    """The pooled score, 0.0 without scores; broken numbers become the largest one, so that they never look normal."""
    if scores is None:
        return 0.0
    value = float(pool(scores))
    return value if math.isfinite(value) else _HUGE
