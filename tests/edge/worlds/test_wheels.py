"""Worn wheels: each fault does what it says and nothing else, and a perfect wheel is none at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import ConfigError
from edge.worlds import wheels
from edge.worlds.wheels import Drivetrain, Wheel, load_wheels

STEP_S = 0.005


def strives(wheel: Wheel, output: float, speed: float, steps: int = 1) -> float:
    train = Drivetrain([wheel], STEP_S)
    for _ in range(steps):
        found = train.step([output], [speed])[0]
    return found


@pytest.mark.parametrize(
    ("wheel", "output", "speed", "goal"),
    [
        (Wheel(), 7.0, 0.0, 7.0),
        (Wheel(), 0.0, 7.0, 0.0),
        (Wheel(reversed=True), 7.0, 0.0, -7.0),
        (Wheel(gain=0.5), -8.0, 0.0, -4.0),
        (Wheel(dead_band=2.0, friction=1.0), 2.0, 0.0, 0.0),  # static friction holds
        (Wheel(dead_band=2.0, friction=1.0), 2.1, 0.0, 1.1),
        (Wheel(dead_band=2.0, friction=1.0), 1.5, 0.5, 0.5),  # it turns already
        (Wheel(dead_band=2.0, friction=1.0), 1.0, 0.5, 0.0),
        (Wheel(max_speed=3.0), -20.0, 0.0, -3.0),
        (Wheel(max_acceleration=100.0), 20.0, 0.0, 0.5),
    ],
)
def test_what_a_motor_strives_for(wheel: Wheel, output: float, speed: float, goal: float) -> None:
    assert strives(wheel, output, speed) == pytest.approx(goal)


def test_a_late_wheel_is_late_by_whole_steps() -> None:
    wheel = Wheel(delay_ms=20)
    assert strives(wheel, 5.0, 0.0, steps=4) == 0.0
    assert strives(wheel, 5.0, 0.0, steps=5) == 5.0


def test_encoders() -> None:
    angles, speeds = Drivetrain([Wheel(), Wheel(encoder_reversed=True)], STEP_S).encoders([1.0, 2.0], [3.0, 4.0])
    assert (angles, speeds) == ([1.0, -2.0], [3.0, -4.0])
    noisy = Drivetrain([Wheel(noise_mrad=1.0)], STEP_S, seed=1)
    read = [noisy.encoders([1.0], [0.0])[0][0] for _ in range(1000)]
    assert sum(read) / 1000 == pytest.approx(1.0, abs=2e-4) and max(read) - min(read) < 0.01


def test_the_file_that_ships_can_be_read_and_bad_ones_are_one_line(tmp_path: Path) -> None:
    left, right = load_wheels(Path(wheels.__file__).with_name("worn_wheels.toml"))
    assert left.reversed and right.max_acceleration == 90.0
    path = tmp_path / "wheels.toml"
    for text, says in (
        ("[left]\ngian = 1", "did you mean 'gain'"),
        ("[left]\nfriction = 1", "left.friction is 1 and must be at most the dead band, 0"),
        ("[left", "not valid TOML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=says):
            load_wheels(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_wheels(tmp_path / "none.toml")
