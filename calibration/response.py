"""From commands and encoder readings to the numbers of a motor: dead time, time constant, slew, gain, friction.

A motor is taken to be a first-order lag behind a dead time (FOPDT, the usual plant model of controller tuning), whose input
the firmware, or the motor's own torque, lets change only so fast. The angle after a step of command is then

    angle(t) = angle0 + speed * (P(t - L) - P(t - L - T)) / T,     P(t) = t^2/2 - tau t + tau^2 (1 - exp(-t / tau)), t > 0

with the dead time L, the time constant tau and the duration T of the ramp. It is fitted to angles, which encoders measure,
and not to speeds, which somebody has derived from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from calibration.motion import Record

Doubles = NDArray[np.float64]

LONGEST_DELAY_S = 0.3
TIME_CONSTANTS_S = (0.002, 1.0)
SLOWEST_SLEW = 1 / 40
"""Of the acceleration that the firmware allows."""
_PER_STEP = 60
_GRID = (7, 6, 5)
_STARTS = 4
_ITERATIONS = 40
_DIFFERENCE = (1e-5, 1e-4, 1e-4)


@dataclass(frozen=True, slots=True)
class Step:
    """A step from rest. record: as moved. drive: command beyond the friction, rad/s."""

    record: Record
    drive: float


@dataclass(frozen=True, slots=True)
class Response:
    """delay_s: from a command to the first motion. time_constant_s: of the lag. slew: of the drive, rad/s^2, where it is the
    motor that limits it, else None. delays_s: float64, that of each step alone. misfit: RMS error as a share of the way
    that was turned."""

    delay_s: float
    time_constant_s: float
    slew: float | None
    delays_s: Doubles
    misfit: float

    @property
    def settled_s(self) -> float:
        """A step is over after this."""
        return self.delay_s + 5 * self.time_constant_s


@dataclass(frozen=True, slots=True)
class Line:
    """speed = gain * (|command| - friction), by least squares. gain_error: standard error of the gain."""

    gain: float
    friction: float
    gain_error: float
    r_squared: float


def fit_steps(steps: Sequence[Step], acceleration: float, crossing: float = 0.0) -> Response:
    """acceleration: rad/s^2 that the firmware lets the command change with. crossing: command, rad/s, that a ramp must pass
    before anything moves; its time is not counted as delay."""
    thinned = [_thinned(step) for step in steps]
    fixed, plain = _best(thinned, (acceleration, acceleration))
    free, limited = _best(thinned, (SLOWEST_SLEW * acceleration, acceleration))
    # Another parameter always fits a little better; a motor that limits fits much better.
    found = float(np.exp(limited[2]))
    slew = found if found < 0.7 * acceleration and free < 0.8 * fixed else None
    error, best = (free, limited) if slew is not None else (fixed, plain)
    delays = np.array([_delay_of(each, best) for each in thinned]) - crossing / acceleration
    ways = sum(float(np.ptp(angle)) ** 2 * len(angle) for _, angle, _ in thinned)
    delay = max(0.0, float(best[0]) - crossing / acceleration)
    return Response(delay, float(np.exp(best[1])), slew, delays, float(np.sqrt(error / ways)))


def fit_line(commands: Doubles, speeds: Doubles) -> Line:
    """commands, speeds: float64 (N,), N of 3 or more, sizes without sign, rad/s."""
    gain, offset = np.polyfit(commands, speeds, 1)
    rest = speeds - (gain * commands + offset)
    spread = float(((commands - commands.mean()) ** 2).sum())
    total = float(((speeds - speeds.mean()) ** 2).sum())
    error = np.sqrt(float((rest**2).sum()) / (len(commands) - 2) / spread)
    r_squared = 1.0 - float((rest**2).sum()) / total if total else 0.0
    friction = -offset / gain if gain else 0.0
    return Line(float(gain), float(friction), float(error), r_squared)


def speed_of(record: Record, axis: int, after_s: float) -> tuple[float, float]:
    """The steady speed of an axis at the end of a record, rad/s: slope of its angle after that time. And the RMS of what is
    not on that line, as time, s: readings that came late or a speed that was not steady."""
    late = record.seen_s >= after_s
    if late.sum() < 3:
        return 0.0, np.inf
    times, angle = record.seen_s[late], record.angle[late, axis]
    line = np.polyfit(times, angle, 1)
    off = float(np.sqrt(np.mean((angle - np.polyval(line, times)) ** 2)))
    return float(line[0]), off / max(abs(float(line[0])), 1e-9)


def onset_of(record: Record, axis: int, moved_rad: float, delay_s: float) -> float:
    """The command, rad/s, in force when an axis began to turn during a ramp. moved_rad: what counts as turning."""
    away = np.abs(record.angle[:, axis] - record.angle[: max(1, int(np.argmax(record.seen_s > 0.05))), axis].mean()) > moved_rad
    still = np.flatnonzero(~away)
    last = record.seen_s[still[-1]] if len(still) else 0.0
    return float(np.interp(last - delay_s, record.sent_s, record.command))


# -- the fit -----------------------------------------------------------------------------------------------------------

_Thin = tuple[Doubles, Doubles, float]


def _thinned(step: Step) -> _Thin:
    times, angle = step.record.seen_s, step.record.angle
    turning = int(np.argmax(np.ptp(angle, axis=0)))
    keep = np.unique(np.linspace(0, len(times) - 1, _PER_STEP).astype(int))
    return times[keep], angle[keep, turning], abs(step.drive)


def _shape(times: Doubles, tau: float, ramp_s: float) -> Doubles:
    """The angle, for speed 1, of a lag behind a ramp that lasts ramp_s. times: any shape, s since the ramp began."""

    def primitive(t: Doubles) -> Doubles:
        t = np.maximum(t, 0.0)
        return np.asarray(0.5 * t * t - tau * t + tau * tau * (1.0 - np.exp(-t / tau)))

    return (primitive(times) - primitive(times - ramp_s)) / ramp_s


def _residual(step: _Thin, point: Doubles) -> Doubles:
    """float64 (N,), rad, with start and speed by linear least squares. point: delay, log of time constant, log of slew."""
    times, angle, drive = step
    shape = _shape(times - point[0], float(np.exp(point[1])), max(drive / float(np.exp(point[2])), 1e-4))
    shape -= shape.mean()
    centred = angle - angle.mean()
    power = float(shape @ shape)
    return centred if power == 0.0 else np.asarray(centred - shape * (float(shape @ centred) / power))


def _best(steps: Sequence[_Thin], slews: tuple[float, float]) -> tuple[float, Doubles]:
    """The smallest squared error, and its point. The best points of a coarse grid are refined by Levenberg-Marquardt, because
    delay, lag and ramp trade against each other in a curved valley."""
    low = np.array([0.0, np.log(TIME_CONSTANTS_S[0]), np.log(slews[0])])
    high = np.array([LONGEST_DELAY_S, np.log(TIME_CONSTANTS_S[1]), np.log(slews[1])])
    axes = [np.linspace(a, b, n) if b > a else np.array([a]) for a, b, n in zip(low, high, _GRID, strict=True)]

    def residual(point: Doubles) -> Doubles:
        return np.concatenate([_residual(step, point) for step in steps])

    coarse = [np.array(point) for point in product(*axes)]
    errors = [float(rest @ rest) for rest in map(residual, coarse)]
    tried = [_refined(residual, coarse[place], low, high) for place in np.argsort(errors)[:_STARTS]]
    return min(tried, key=lambda found: found[0])


def _refined(
    residual: Callable[[Doubles], Doubles], point: Doubles, low: Doubles, high: Doubles
) -> tuple[float, Doubles]:
    rest = residual(point)
    error, damping = float(rest @ rest), 1e-2
    for _ in range(_ITERATIONS):
        slopes = np.empty((len(rest), len(point)))
        for place, size in enumerate(_DIFFERENCE):
            size = -size if point[place] + size > high[place] else size
            moved = point.copy()
            moved[place] += size
            slopes[:, place] = (residual(moved) - rest) / size
        normal = slopes.T @ slopes
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -slopes.T @ rest)
        candidate = np.clip(point + step, low, high)
        new = residual(candidate)
        if float(new @ new) < error:
            settled = error - float(new @ new) < 1e-9 * error
            point, rest, error, damping = candidate, new, float(new @ new), damping / 4
            if settled:
                break
        else:
            damping *= 8
            if damping > 1e8:
                break
    return error, point


def _delay_of(step: _Thin, at: Doubles) -> float:
    delays = np.linspace(max(0.0, at[0] - 0.05), at[0] + 0.05, 201)
    errors = [float(rest @ rest) for rest in (_residual(step, np.array([delay, at[1], at[2]])) for delay in delays)]
    return float(delays[int(np.argmin(errors))])
