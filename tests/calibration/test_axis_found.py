"""What an axis did is refused, with its name and the remedy, where it adds up to nothing certain."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from calibration import axis
from calibration.axis_found import Climb, Found, Movements, conclude
from calibration.motion import Doubt, Mover
from edge.clock import FakeClock
from edge.worlds.wheels import Wheel
from tests.calibration.injected_motors import BOOT, InjectedMotors
from tests.firmware_bridge.cores import CCore, build_library

TOP = 20.0
Tamper = Callable[[Movements], Movements]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Movements:
    """Of a good motor, as really made in injected time; skips where there is no compiler."""
    library: ctypes.CDLL = build_library(tmp_path_factory.mktemp("core"))
    wheels = (Wheel(dead_band=1.6, friction=1.3, gain=0.8, delay_ms=30, noise_mrad=0.5), Wheel())
    motors = InjectedMotors(CCore(library, BOOT, 0), FakeClock(), wheels, 3)
    motors.run(20)
    kept: list[Movements] = []

    def keep(made: Movements) -> Found:
        kept.append(made)
        return conclude(made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axis, "conclude", keep)
        mover = Mover(motors, motors.clock, (TOP, TOP), 100_000_000)
        axis.AxisUnderTest(mover, 0, "left", TOP, 400.0, None, lambda line: None).measure()
    return kept[0]


def _one_onset(share: float) -> Tamper:
    """The first ramp down began to turn at another command."""

    def tamper(moved: Movements) -> Movements:
        first, *others = moved.ramps[-1.0]
        return replace(moved, ramps={**moved.ramps, -1.0: [replace(first, command=share * first.command), *others]})

    return tamper


def _speeds(sign: float, change: Callable[[np.ndarray], np.ndarray]) -> Tamper:  # type: ignore[type-arg]
    def tamper(moved: Movements) -> Movements:
        climb = moved.climbs[sign]
        speeds = tuple(change(np.array(climb.speeds)).tolist())
        return replace(moved, climbs={**moved.climbs, sign: replace(climb, speeds=speeds)})

    return tamper


def _few_levels(moved: Movements) -> Movements:
    climb = moved.climbs[1.0]
    short = Climb(climb.commands[:2], climb.speeds[:2], climb.fastest, True)
    return replace(moved, climbs={**moved.climbs, 1.0: short})


def _shaken(share: float) -> Tamper:
    """Every step swings beside its way by this share of it."""

    def tamper(moved: Movements) -> Movements:
        steps = []
        for sign, record in moved.steps:
            way = np.ptp(record.angle[:, moved.axis])
            swing = share * way * np.sin(30.0 * record.seen_s)[:, None]
            steps.append((sign, replace(record, angle=record.angle + swing)))
        return replace(moved, steps=steps)

    return tamper


def _late(by_s: float) -> Tamper:
    """Every other step came later."""

    def tamper(moved: Movements) -> Movements:
        steps = [
            (sign, replace(record, seen_s=record.seen_s + by_s) if place % 2 else record)
            for place, (sign, record) in enumerate(moved.steps)
        ]
        return replace(moved, steps=steps)

    return tamper


def _scattered(speeds: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(speeds * (1.0 + 0.25 * np.array([1, -1, 1, -1, 1, -1, 1])[: len(speeds)]))


REFUSED: dict[str, tuple[Tamper, str]] = {
    "one onset differs": (_one_onset(1.5), "left begins to turn at a different negative command each time .* turn freely"),
    "speeds scatter": (_speeds(1.0, _scattered), r"speed of left is no straight line over positive .*R² is 0\.\d+ .* supply"),
    "speeds fall": (_speeds(1.0, lambda speeds: speeds[::-1]), "speed of left is no straight line over positive"),
    "speeds do not change": (_speeds(-1.0, np.ones_like), "speed of left is no straight line over negative"),
    "half as fast one way": (_speeds(-1.0, lambda speeds: 0.45 * speeds), r"left turns 2\.2 times as fast one way .* driver"),
    "full speed at once": (_few_levels, "left has reached its full speed at a command of .* gear ratio"),
    "shaken": (_shaken(0.12), "left does not follow a step as a motor does .* play, slipping"),
    "not always as late": (_late(0.045), "left answers after .* give or take .* end other programs"),
}
ALLOWED: dict[str, Tamper] = {
    "as it was": lambda moved: moved,
    "an onset that differs a little": _one_onset(1.1),
    "somewhat slower one way": _speeds(-1.0, lambda speeds: 0.7 * speeds),
    "a little shaken": _shaken(0.02),
    "almost always as late": _late(0.01),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_refused(moved: Movements, name: str) -> None:
    tamper, says = REFUSED[name]
    with pytest.raises(Doubt, match=says) as caught:
        conclude(tamper(moved))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ALLOWED)
def test_what_real_motors_do_is_not(moved: Movements, name: str) -> None:
    config = conclude(ALLOWED[name](moved)).config("")
    assert config.forward.gain == pytest.approx(0.8, rel=0.01)
    assert config.latency_ms == pytest.approx(30.0, abs=10.0)
