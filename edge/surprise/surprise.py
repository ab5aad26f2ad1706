"""One look at a belief: how surprising it is, whether that is an alarm, and what it is called."""

from __future__ import annotations

import math

import numpy as np

from edge.memory.concepts import Concepts
from edge.messages import Assessment, Belief, CameraFault, Floats
from edge.surprise.alarm import Alarm, AlarmRule
from edge.surprise.calibration import AlarmCalibration, of_two
from edge.surprise.scores import Scores, heat_map, places, pool

UNEXPECTED, UNFAMILIAR = "unexpected", "unfamiliar"
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
        self._scores = Scores(grid)
        self._alarms = {cause: Alarm(rule) for cause in (UNEXPECTED, UNFAMILIAR) if cause != UNFAMILIAR or rule.unfamiliar}
        self._fault = ""
        self._cause = ""
        if calibration is not None:
            if grid is not None and grid[0] * grid[1] != calibration.tokens:
                raise ValueError(
                    f"the calibration is for {calibration.tokens} tokens and the grid is {grid[0]}x{grid[1]}"
                )
            self._levels = np.array(calibration.levels, dtype=np.float32)
            # Heat is 1.0 where the score of a place stands at the alarm.
            if calibration.error is not None:
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
        unfamiliarity are pooled scores, unfamiliarity in units of the normal level where calibrated; 0.0 where there is
        nothing to compare with (no prediction yet, no concepts yet), which counts as p = 1.
        """
        if self._calibration is not None and len(belief.latent) != self._calibration.tokens:
            raise ValueError(
                f"the calibration is for {self._calibration.tokens} tokens per frame and this belief has {len(belief.latent)}"
            )
        errors = self._scores.errors(belief)
        distances = self._scores.unfamiliarities(self._concepts.distance(belief.latent)) if len(self._concepts) else None
        error, unfamiliarity, p_values, heat = self._judge(errors, distances)
        p_value = min(p_values.values())
        if faults:
            onset = faults[0].value != self._fault
            self._fault = faults[0].value
            self._scores.forget()
            return Assessment(error, unfamiliarity, p_value, self.rule.alarm_p, True, onset, self._fault, heat)
        self._fault = ""
        begun = [cause for cause, alarm in self._alarms.items() if alarm.update(p_values[cause], belief.captured_ns)]
        alarmed = [cause for cause, alarm in self._alarms.items() if alarm.alarmed]
        if begun:
            self._cause = min(begun, key=lambda cause: p_values[cause])
        elif self._cause not in alarmed:
            self._cause = alarmed[0] if alarmed else ""
        return Assessment(
            error, unfamiliarity, p_value, self.rule.alarm_p, bool(alarmed), bool(begun), self._cause, heat
        )

    def _judge(
        self, errors: Floats | None, distances: Floats | None
    ) -> tuple[float, float, dict[str, float], Floats | None]:
        """Error and unfamiliarity pooled, the p-value of each that may alarm by the cause it speaks for, heat."""
        calibration = self._calibration
        if calibration is None:
            return _pooled(errors), _pooled(distances), dict.fromkeys(self._alarms, 1.0), None
        errors = None if errors is None or calibration.error is None else places(errors, self._grid)
        distances = None if distances is None else places(distances / self._levels, self._grid)
        error, unfamiliarity = _pooled(errors), _pooled(distances)
        p_values = {UNEXPECTED: 1.0}
        if errors is not None and calibration.error is not None:
            p_values[UNEXPECTED] = of_two(calibration.error.p_value(error))
        if self.rule.unfamiliar:
            p_values[UNFAMILIAR] = (
                1.0 if distances is None else of_two(calibration.unfamiliarity.p_value(unfamiliarity))
            )
        return error, unfamiliarity, p_values, self._heat(errors, distances if self.rule.unfamiliar else None)

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
