"""What the movements of one axis add up to. What is not certain is refused, with the axis and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.motion import Doubt, Record
from calibration.response import Line, Response, Step, fit_line, fit_steps, onset_of
from edge.config import AxisConfig, WayConfig

FEWEST_LEVELS = 3
SPREAD_SHARE, SPREAD_TOP_SHARE = 0.2, 0.02
"""Dead bands of one axis may differ by the larger of: this share of their mean, this share of the largest command."""
NOTHING_SHARE = 0.01
"""A dead band below this share of the largest command counts as none: so small it is not told from the time a wheel
needs to be seen turning."""
LEAST_R_SQUARED = 0.98
LARGEST_MISFIT = 0.05
DELAY_SPREAD_S, DELAY_SPREAD_SHARE = 0.015, 0.3
LEAST_GAIN_SHARE = 0.5
"""The weaker of the two ways must reach this share of the stronger one's gain."""


@dataclass(frozen=True, slots=True)
class Climb:
    """Commands, growing, and the steady speed at each, sizes in rad/s. fastest: of all. saturated: the speed stopped growing
    in proportion before the largest command; the levels where it did not are left out."""

    commands: tuple[float, ...]
    speeds: tuple[float, ...]
    fastest: float
    saturated: bool


@dataclass(frozen=True, slots=True)
class Movements:
    """Everything that one axis was made to do, by the sign of the command where it was done both ways. counts: +1 where the
    encoder counts up on a positive command. moved_rad: what counts as turning. commanded: the largest command allowed, rad/s.
    acceleration: that the firmware lets commands change with, rad/s^2."""

    name: str
    axis: int
    counts: int
    forward: bool | None
    noise_rad: float
    moved_rad: float
    commanded: float
    acceleration: float
    ramps: Mapping[float, Sequence[Record]]
    steps: Sequence[tuple[float, Record]]
    climbs: Mapping[float, Climb]


@dataclass(frozen=True, slots=True)
class Way:
    """One way of turning, rad/s. dead_bands: that of each ramp. line: speed over command."""

    dead_bands: tuple[float, ...]
    line: Line
    climb: Climb

    @property
    def dead_band(self) -> float:
        """The mean."""
        return float(np.mean(self.dead_bands))

    @property
    def dead_band_error(self) -> float:
        """Half the spread."""
        return 0.5 * float(np.ptp(self.dead_bands))


@dataclass(frozen=True, slots=True)
class Found:
    """One axis. forward: whether the wheel turned forward on a positive command, as a person saw it; None if nobody was
    asked. positive, negative: by the sign of the command. commanded: the largest command given, rad/s."""

    name: str
    counts: int
    forward: bool | None
    noise_rad: float
    response: Response
    positive: Way
    negative: Way
    commanded: float

    @property
    def reversed(self) -> bool:
        """A positive command turns the wheel backward; without a person the encoder is believed."""
        return not self.forward if self.forward is not None else self.counts < 0

    @property
    def encoder_reversed(self) -> bool:
        """The encoder counts down when the wheel turns forward; only a person can know."""
        return self.forward is not None and self.forward != (self.counts > 0)

    @property
    def ways(self) -> dict[str, Way]:
        """The same two as a person names them."""
        if self.reversed:
            return {"forward": self.negative, "backward": self.positive}
        return {"forward": self.positive, "backward": self.negative}

    @property
    def max_slew(self) -> float | None:
        """rad/s^2 of the wheel, where it is the motor that limits it."""
        slew = self.response.slew
        return None if slew is None else slew * min(self.positive.line.gain, self.negative.line.gain)

    def config(self, measured: str) -> AxisConfig:
        """What the runtime uses. measured: when and how, for people."""
        slew = self.max_slew
        forward, backward = (self._way(way) for way in self.ways.values())
        return AxisConfig(
            reversed=self.reversed,
            encoder_reversed=self.encoder_reversed,
            max_slew=None if slew is None else round(slew, 1),
            latency_ms=round(1e3 * self.response.delay_s, 1),
            time_constant_ms=round(1e3 * self.response.time_constant_s, 1),
            measured=measured,
            forward=forward,
            backward=backward,
        )

    def _way(self, way: Way) -> WayConfig:
        band = way.dead_band if way.dead_band >= NOTHING_SHARE * self.commanded else 0.0
        friction = min(max(0.0, way.line.friction), band)
        return WayConfig(
            dead_band=round(band, 3),
            friction=round(friction, 3),
            gain=round(way.line.gain, 4),
            max_speed=round(way.climb.fastest, 2),
        )


def conclude(moved: Movements) -> Found:
    """Work it out, and refuse what is not certain. Raises Doubt."""
    lines = {sign: _line(moved.name, climb) for sign, climb in moved.climbs.items()}
    crossing = float(np.mean([abs(ramp.command[-1]) for ramps in moved.ramps.values() for ramp in ramps]))
    steps = [
        Step(record, abs(float(record.command[-1])) - max(0.0, lines[sign].friction)) for sign, record in moved.steps
    ]
    response = fit_steps(steps, moved.acceleration, crossing)
    ways = {}
    for sign, ramps in moved.ramps.items():
        bands = tuple(abs(onset_of(ramp, moved.axis, moved.moved_rad, response.delay_s)) for ramp in ramps)
        ways[sign] = Way(bands, lines[sign], moved.climbs[sign])
    found = Found(
        moved.name, moved.counts, moved.forward, moved.noise_rad, response, ways[1.0], ways[-1.0], moved.commanded
    )
    _check(found)
    return found


def _line(name: str, climb: Climb) -> Line:
    if len(climb.commands) < FEWEST_LEVELS:
        raise Doubt(
            f"{name} has reached its full speed at a command of {climb.commands[-1]:.1f} rad/s already: the firmware takes it for "
            "a much faster motor, correct the gear ratio or encoder resolution there"
        )
    return fit_line(np.array(climb.commands), np.array(climb.speeds))


def _check(found: Found) -> None:
    name, response = found.name, found.response
    for label, way in (("positive", found.positive), ("negative", found.negative)):
        if 2 * way.dead_band_error > max(SPREAD_SHARE * way.dead_band, SPREAD_TOP_SHARE * found.commanded):
            each = ", ".join(f"{band:.2f}" for band in way.dead_bands)
            raise Doubt(
                f"{name} begins to turn at a different {label} command each time ({each} rad/s): something rubs or slips, or "
                "its encoder is coarse; let the wheel turn freely, and start again"
            )
        line = way.line
        if not line.r_squared >= LEAST_R_SQUARED or line.gain <= 0.0:
            raise Doubt(
                f"the speed of {name} is no straight line over {label} commands (R² is {line.r_squared:.3f} and must be "
                f"{LEAST_R_SQUARED}): check the supply voltage, and that the wheel turns freely"
            )
    weaker, stronger = sorted((found.positive.line.gain, found.negative.line.gain))
    if weaker < LEAST_GAIN_SHARE * stronger:
        raise Doubt(f"{name} turns {stronger / weaker:.1f} times as fast one way as the other: check its driver, and what rubs")
    if not response.misfit <= LARGEST_MISFIT:
        raise Doubt(
            f"{name} does not follow a step as a motor does ({100 * response.misfit:.0f} % of the way are not explained): check "
            "for play, slipping and loose connections"
        )
    spread = float(np.std(response.delays_s))
    if spread > max(DELAY_SPREAD_S, DELAY_SPREAD_SHARE * response.delay_s):
        raise Doubt(
            f"{name} answers after {1e3 * response.delay_s:.0f} ms, give or take {1e3 * spread:.0f}: end other programs on this "
            "machine, check the line, and start again"
        )
