"""What a stranger meets: nobody there, the wrong firmware, a dead motor, a pulled plug. One sentence, and the file as it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.demo import World
from firmware_bridge.board import AxisLimits, Board, BoardAxis
from firmware_bridge.messages import Mode
from tests.calibration.test_motors_command import HANGS_S, ROBOT, command, driven, run
from tests.edge.until import until
from tests.firmware_bridge.test_connect_errors import Answer, device, firmware

DEAD_RIGHT = "[right]\ngain = 0\n"


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    path = tmp_path / "robot.toml"
    path.write_text(ROBOT)
    return path


@pytest.fixture
def world(tmp_path: Path, robot: Path) -> Iterator[World]:
    """A running world beside the robot file, whose right motor is dead."""
    (tmp_path / "wheels.toml").write_text(DEAD_RIGHT)
    with World(tmp_path, seed=3, wheels=tmp_path / "wheels.toml") as started:
        yield started


def board(*axes: str) -> Board:
    return Board(tuple(BoardAxis(name, Mode.VELOCITY, AxisLimits(20_000, 400_000)) for name in axes))


def unchanged(robot: Path) -> bool:
    return robot.read_text() == ROBOT and not list(robot.parent.glob("*.bak"))


AT_THE_OTHER_END: dict[str, tuple[Callable[[], Answer], tuple[str, ...], str]] = {
    "nobody": (lambda: lambda data: b"", (), r"no answer from \S+ to HELLO: check power, cable and that the firmware is flashed"),
    "fewer axes": (lambda: firmware(board("left")), (), r"drives other axes \(left\) than are wanted \(left, right\): flash"),
    "more axes": (lambda: firmware(board("left", "right", "arm")), (), r"drives other axes \(left, right, arm\) than are wanted"),
    "a real robot": (firmware, ("--yes",), r"never proved to stop: run latentloop bridge selftest /dev/pts/\d+"),
}


@pytest.mark.parametrize("case", AT_THE_OTHER_END)
def test_the_wrong_thing_on_the_port_is_one_sentence(robot: Path, case: str) -> None:
    answer, options, says = AT_THE_OTHER_END[case]
    with device(answer()) as port:
        done = run(str(robot), "--port", port, *options)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(rf"latentloop: [^\n]*{says}[^\n]*\n", done.stderr), done.stderr
    assert unchanged(robot)


def test_another_controller_is_one_sentence(robot: Path) -> None:
    done = run(str(robot), "--port", "vesc:/dev/ttyACM0")
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"latentloop: [^\n]*vesc:/dev/ttyACM0 is another controller: tune that with[^\n]*\n", done.stderr)
    assert unchanged(robot)


def _nothing(world: World, process: subprocess.Popen[str]) -> None: ...


def _pull_the_plug(world: World, process: subprocess.Popen[str]) -> None:
    children = Path(f"/proc/{world.pid}/task/{world.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)


def _press_ctrl_c(world: World, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


WHILE_IT_MOVES: dict[str, tuple[str, Callable[[World, subprocess.Popen[str]], None], int, str]] = {
    "the axis does not turn": ("right", _nothing, 2, r"latentloop: right did not turn for [^\n]*: check motor power"),
    "the plug is pulled": ("left", _pull_the_plug, 2, r"latentloop: the firmware cannot be armed, it is offline: check cable and"),
    "ctrl-c": ("left", _press_ctrl_c, 130, r"stopped: the motors are disarmed, nothing was written"),
}


@pytest.mark.parametrize("case", WHILE_IT_MOVES)
def test_what_goes_wrong_while_it_moves_stops_the_motors(world: World, robot: Path, case: str) -> None:
    axis, happens, code, says = WHILE_IT_MOVES[case]
    calibrating = command(str(robot), "--yes", "--axis", axis)
    with subprocess.Popen(calibrating, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: driven(robot.parent)[1] or process.poll() is not None)
        happens(world, process)
        out, err = process.communicate(timeout=HANGS_S)
    assert process.returncode == code and out == ""
    assert re.fullmatch(rf"{says}[^\n]*\n", err), err
    until(lambda: driven(robot.parent)[1] is False)
    assert unchanged(robot)
