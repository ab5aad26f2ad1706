"""The movements that measure one axis, small ones first: each no larger than what the ones before have shown to be right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibration.axis_found import Climb, Found, Movements, conclude
from calibration.motion import Doubt, Mover, Record
from calibration.response import Response, Step, fit_steps, onset_of, speed_of

RAMPS, STEPS, LEVELS = 3, 2, 7
"""How often each movement is made, per way of turning."""
NOISE_S = 0.5
LEAST_MOVED_RAD = 0.002
DEAD_BAND_SHARE = 0.5
"""Of the largest command: an axis that does not move up to there is not measured."""
COARSE_S, FINE_S = 8.0, 20.0
"""A ramp would take so long to the largest command."""
STEP_S, LONGEST_S = 0.4, 3.0
SHOWN_S = 0.8
MEASURED_S, SETTLED_S = 0.25, 0.15
READINGS, LATE_S = 5, 0.003
"""A speed is read again, at most so often, while its angles are that far off a straight line in time; the straightest counts."""
LARGE_SHARE = 0.85
BENDS = 0.96
"""A speed below this share of what the straight line through the slower ones says has begun to saturate."""


@dataclass(frozen=True, slots=True)
class AxisUnderTest:
    """top: the largest command, rad/s. acceleration: that of the firmware, rad/s^2. asked: after a movement for a person's eyes,
    was it forward? None where nobody looks, and the encoder is believed. progress: told what comes next."""

    mover: Mover
    axis: int
    name: str
    top: float
    acceleration: float
    asked: Callable[[str], bool] | None
    progress: Callable[[str], None]

    def measure(self) -> Found:
        """All movements, then what they add up to; takes about 20 s. Raises Doubt; however it ends, the motors are disarmed."""
        with self.mover.armed():
            noise = self._noise()
            moved = max(LEAST_MOVED_RAD, 5.0 * noise)
            coarse = {sign: self._onset(sign, moved) for sign in (1.0, -1.0)}
            counts = self._counts(coarse)
            small = max(0.3, min(0.7, 2.0 * max(abs(ramp.command[-1]) for ramp in coarse.values()) / self.top)) * self.top
            seconds, response, first = self._first_step(small, abs(float(coarse[1.0].command[-1])), counts)
            steps = [(1.0, first), *self._steps(small, seconds, counts, "small")[1:]]
            ramps = self._ramps(coarse, counts, moved, response.delay_s)
        forward = None
        if self.asked is not None:
            with self.mover.armed():
                self.mover.step(self.axis, small, SHOWN_S)
            forward = self.asked(self.name)
        with self.mover.armed():
            climbs = {
                sign: self._climb(sign, abs(float(coarse[sign].command[-1])), response, counts) for sign in (1.0, -1.0)
            }
            proven = min(climb.commands[-1] for climb in climbs.values())
            steps += self._steps(max(small, LARGE_SHARE * proven), seconds, counts, "large")
        return conclude(
            Movements(
                name=self.name,
                axis=self.axis,
                counts=counts,
                forward=forward,
                noise_rad=noise,
                moved_rad=moved,
                commanded=self.top,
                acceleration=self.acceleration,
                ramps=ramps,
                steps=steps,
                climbs=climbs,
            )
        )

    def _noise(self) -> float:
        """Standard deviation of a reading at rest, rad."""
        self._say("noise at rest")
        self.mover.rest()
        return float(self.mover.hold(self.axis, 0.0, NOISE_S).angle[:, self.axis].std())

    def _onset(self, sign: float, moved: float) -> Record:
        """A ramp from zero until it turns."""
        self._say(f"where it begins to turn, {_way(sign)}")
        end = sign * DEAD_BAND_SHARE * self.top
        ramp = self.mover.ramp(self.axis, 0.0, sign * self.top / COARSE_S, end, 3 * moved)
        if abs(self._turned(ramp)) < 2 * moved:
            raise Doubt(
                f"{self.name} did not turn for commands up to {end:+.1f} rad/s: check motor power, its driver, and that its "
                "encoder is connected"
            )
        return ramp

    def _counts(self, ramps: dict[float, Record]) -> int:
        counts = {int(np.sign(self._turned(ramp) * sign)) for sign, ramp in ramps.items()}
        if len(counts) > 1:
            raise Doubt(
                f"the encoder of {self.name} counts the same way for both directions: only one of its channels is connected, "
                "or the driver ignores the direction; correct that, and start again"
            )
        return counts.pop()

    def _first_step(self, command: float, onset: float, counts: int) -> tuple[float, Response, Record]:
        """A step long enough to see its end, how long that is, and what it says."""
        seconds = STEP_S
        while True:
            self._say("response to a small step")
            record = self._turning(self.mover.step(self.axis, command, seconds), counts)
            response = fit_steps([Step(record, command - onset)], self.acceleration, onset)
            if response.settled_s <= seconds or seconds >= LONGEST_S:
                return seconds, response, record
            seconds = min(LONGEST_S, max(1.5 * seconds, response.settled_s))

    def _steps(self, command: float, seconds: float, counts: int, size: str) -> list[tuple[float, Record]]:
        records = []
        for turn in range(STEPS):
            for sign in (1.0, -1.0):
                self._say(f"response to {size} steps {_way(sign)}, {turn + 1} of {STEPS}")
                step = self.mover.step(self.axis, sign * command, seconds)
                records.append((sign, self._turning(step, counts)))
        return records

    def _ramps(self, coarse: dict[float, Record], counts: int, moved: float, delay_s: float) -> dict[float, list[Record]]:
        """Slow ramps that begin well below the onset."""
        ramps: dict[float, list[Record]] = {1.0: [], -1.0: []}
        for turn in range(RAMPS):
            for sign in (1.0, -1.0):
                self._say(f"dead band {_way(sign)}, {turn + 1} of {RAMPS}")
                near = abs(onset_of(coarse[sign], self.axis, moved, delay_s))
                end = min(DEAD_BAND_SHARE * self.top, 1.5 * near + 0.1 * self.top)
                ramp = self.mover.ramp(self.axis, sign * 0.6 * near, sign * self.top / FINE_S, sign * end, 3 * moved)
                ramps[sign].append(self._turning(ramp, counts))
        return ramps

    def _climb(self, sign: float, onset: float, response: Response, counts: int) -> Climb:
        """Level by level up to the largest command, or to where the speed no longer grows in proportion."""
        settle = min(LONGEST_S, max(SETTLED_S, response.settled_s))
        commands: list[float] = []
        speeds: list[float] = []
        saturated = False
        fastest = 0.0
        for command in np.linspace(min(1.1 * onset + 0.03 * self.top, 0.6 * self.top), self.top, LEVELS).tolist():
            self._say(f"speed {_way(sign)} at a command of {command:.1f} rad/s, up to {self.top:.1f}")
            speed = self._speed(sign * command, settle, settle, counts)
            if len(speeds) >= 2:
                least = BENDS * float(np.polyval(np.polyfit(commands, speeds, 1), command))
                if speed < least:  # a reading that came late looks the same, but not every time
                    speed = float(np.median([speed, *(self._speed(sign * command, 0.0, settle, counts) for _ in range(2))]))
                saturated = speed < least
            fastest = max(fastest, speed)
            if saturated:
                break
            commands.append(command)
            speeds.append(speed)
        self.mover.rest()
        return Climb(tuple(commands), tuple(speeds), fastest, saturated)

    def _speed(self, command: float, wait: float, settle: float, counts: int) -> float:
        """The steady speed at a command, without sign, rad/s. wait: before it is read, s. settle: the same from rest."""
        readings = []
        for first_s in (wait, *(0.0,) * (READINGS - 1)):
            record = self._turning(self.mover.hold(self.axis, command, first_s + MEASURED_S, settle), counts)
            speed, late_s = speed_of(record, self.axis, float(record.seen_s[-1]) - MEASURED_S)
            readings.append((late_s, abs(speed)))
            if late_s <= LATE_S:
                break
        return min(readings)[1]

    def _turning(self, record: Record, counts: int) -> Record:
        """The record itself. Raises Doubt, before anything larger is commanded, if it did not turn as it did at first."""
        if counts * np.sign(record.command[-1]) * self._turned(record) < LEAST_MOVED_RAD:
            raise Doubt(
                f"{self.name} turned the other way than before on the same command, or not at all: check the wiring of its "
                "encoder and motor"
            )
        return record

    def _say(self, what: str) -> None:
        self.progress(f"{self.name}: {what}")

    def _turned(self, record: Record) -> float:
        return float(record.angle[-1, self.axis] - record.angle[0, self.axis])


def _way(sign: float) -> str:
    return "up" if sign > 0 else "down"
