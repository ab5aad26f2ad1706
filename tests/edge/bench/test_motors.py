"""What a fault of the wheels costs the closed loop and a calibration gives back: all of it in injected time, from fixed seeds."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import pytest

from calibration.axis import AxisUnderTest
from calibration.motion import Mover
from edge import cli
from edge.bench.motors import FAULTS, Wheels, bench_motors, in_words
from edge.bench.world import Choose, Episode, drive_by_oracle
from edge.clock import FakeClock
from edge.config import AxisConfig, PlannerConfig
from tests.calibration.injected_motors import BOOT, InjectedMotors
from tests.firmware_bridge.cores import CCore, build_library

EPISODES = 2
TOP = 20.0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C core as a shared library; skips where there is no compiler."""
    return build_library(tmp_path_factory.mktemp("core"))


def by_oracle(episode: Episode) -> Choose:
    """A small search with the physics of perfect wheels; the world model itself takes minutes."""
    return drive_by_oracle(episode, PlannerConfig(iterations=2), candidates=32, horizon=8)


def calibrated(library: ctypes.CDLL, wheels: Wheels) -> Mapping[str, AxisConfig]:
    """Both axes, measured by the real movements against the real firmware core, in injected time."""
    motors = InjectedMotors(CCore(library, BOOT, 0), FakeClock(), wheels, seed=3)
    motors.run(20)
    mover = Mover(motors, motors.clock, (TOP, TOP), 100_000_000)
    axes = ((0, "left"), (1, "right"))
    return {
        name: AxisUnderTest(mover, axis, name, TOP, 400.0, None, lambda line: None).measure().config("") for axis, name in axes
    }


def test_worn_wheels_reach_nothing_before_a_calibration_and_everything_after(library: ctypes.CDLL) -> None:
    said: list[str] = []
    report = bench_motors(["worn"], EPISODES, by_oracle, lambda wheels: calibrated(library, wheels), said.append)
    worn = report["faults"]["worn"]
    assert report["perfect"]["reached"] == EPISODES
    assert (worn["before"]["reached"], worn["after"]["reached"]) == (0, EPISODES)
    assert worn["before"]["steps"] == [None] * EPISODES and worn["before"]["median_steps"] is None
    assert worn["after"]["median_steps"] <= 1.5 * report["perfect"]["median_steps"]
    assert worn["planted"]["left"]["reversed"] is True and "reversed" not in worn["planted"]["right"]
    assert set(worn["axes"]) == {"left", "right"}
    table = in_words(report).splitlines()
    assert table[2].split() == ["worn", "0", "of", "2", "-", "2", "of", "2", f"{worn['after']['median_steps']:g}"]
    assert said


def test_a_weak_wheel_takes_longer_before_than_after(library: ctypes.CDLL) -> None:
    report = bench_motors(["gain"], EPISODES, by_oracle, lambda wheels: calibrated(library, wheels), lambda text: None)
    gain = report["faults"]["gain"]
    assert gain["after"]["reached"] == EPISODES
    slow = [99 if steps is None else steps for steps in gain["before"]["steps"]]
    assert sum(gain["after"]["steps"]) < sum(slow)


def test_each_fault_is_one_that_the_arena_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for left, right in FAULTS.values():
        for wheel in (left, right):
            assert wheel.friction <= wheel.dead_band
    assert cli.main(["bench", "motors", "--episodes", "0"]) == 2
    assert capsys.readouterr().err == "latentloop: --episodes is 0 and must be 1 or more\n"
