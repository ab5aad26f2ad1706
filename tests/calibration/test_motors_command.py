"""``calibrate motors`` as a command, on a real pseudo-terminal with the compiled firmware: asked, killed, refused."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import load_config
from edge.demo import World
from edge.worlds.guide import ArenaGuide
from tests.edge.until import until

ROBOT = """# The rover of this test.
name = "Rover under test"
bundle = "rover"
[camera]
source = "world:frames"
[bridge]
port = "motors" # of the world
lease_ms = 250
"""
WHEELS = """[left]
reversed = true
encoder_reversed = true
gain = 0.8
dead_band = 1.6
friction = 1.3
delay_ms = 30
noise_mrad = 0.5
"""
HANGS_S = 300.0
AT_REST = (("linked", False), ("safe", False))
"""Stopped between two movements, it was disarmed already."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running world whose left motor and encoder are both connected the wrong way round."""
    folder = tmp_path_factory.mktemp("w")
    (folder / "wheels.toml").write_text(WHEELS)
    with World(folder, seed=3, wheels=folder / "wheels.toml"):
        yield folder


@pytest.fixture
def robot(world: Path) -> Iterator[Path]:
    path = world / "robot.toml"
    path.write_text(ROBOT)
    yield path
    path.chmod(0o644)
    for old in world.glob("robot.toml*"):
        old.unlink()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli", "calibrate", "motors", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANGS_S, check=False
    )


def driven(world: Path) -> tuple[str, bool]:
    """What the motor driver hears: the firmware's state, and whether it moves."""
    guide = ArenaGuide(world / "goals")
    try:
        motors = guide.motors()
    finally:
        guide.close()
    return motors["state"], motors["moving"]


def test_a_person_is_asked_and_the_file_is_written(world: Path, robot: Path) -> None:
    person, terminal = pty.openpty()
    asked = command(str(robot), "--axis", "left", "--axis", "left", "--json")
    with subprocess.Popen(asked, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        os.write(person, b"ARM\nwhat\nb\n")
        until(lambda: driven(world)[1] or process.poll() is not None)
        process.send_signal(signal.SIGSTOP)  # the machine stalls; the movement is made again afterwards
        until(lambda: driven(world) in AT_REST)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=HANGS_S)
    os.close(person)
    os.close(terminal)
    assert process.returncode == 0, err
    assert "THE WHEELS MUST BE OFF THE GROUND" in err and err.count("Did it turn as when driving forward") == 2
    report = json.loads(out)
    found = load_config(robot).axes
    assert list(found) == list(report["axes"]) == ["left"]
    left = found["left"]
    assert left.reversed and left.encoder_reversed
    for way in (left.forward, left.backward):
        assert way.dead_band == pytest.approx(1.6, abs=0.2)
        assert way.gain == pytest.approx(0.8, rel=0.05)
        assert way.friction == pytest.approx(1.3, abs=0.2)
    assert left.latency_ms == pytest.approx(30.0, abs=15.0)
    assert "UTC" in left.measured and "latentloop-host" in left.measured
    assert robot.read_text().startswith(ROBOT)
    assert Path(report["kept"]).read_text() == ROBOT
    assert driven(world)[1] is False


def test_the_port_is_driven_from_a_process_of_its_own(world: Path, robot: Path) -> None:
    with subprocess.Popen(command(str(robot), "--yes"), stderr=subprocess.PIPE, text=True) as process:
        until(lambda: driven(world)[1] or process.poll() is not None)
        (bridge,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert "firmware_bridge.process.child" in Path(f"/proc/{bridge}/cmdline").read_text()
        process.send_signal(signal.SIGSTOP)  # so that nobody starts another one
        os.kill(int(bridge), signal.SIGKILL)
        until(lambda: driven(world) in AT_REST)
        process.kill()
    assert robot.read_text() == ROBOT


def test_without_a_process_of_its_own_where_the_file_says_so(world: Path, robot: Path) -> None:
    robot.write_text(ROBOT + "own_process = false\n")
    with subprocess.Popen(command(str(robot), "--yes"), stderr=subprocess.PIPE, text=True) as process:
        until(lambda: driven(world)[1] or process.poll() is not None)
        assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""
        process.kill()
    until(lambda: driven(world) in AT_REST)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_ended_in_the_middle_the_motors_stop_and_nothing_is_written(world: Path, robot: Path, how: signal.Signals) -> None:
    with subprocess.Popen(
        command(str(robot), "--yes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: driven(world)[1] or process.poll() is not None)
        process.send_signal(how)
        _, err = process.communicate(timeout=HANGS_S)
    until(lambda: driven(world) in AT_REST)
    assert robot.read_text() == ROBOT
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert err == "stopped: the motors are disarmed, nothing was written\n"


CAMERA_ONLY = ROBOT.replace('bundle = "rover"', 'bundle = "camera"')
BAD: dict[str, tuple[str, tuple[str, ...], str]] = {
    "no such port": (ROBOT, ("--port", "/dev/ttyNOPE"), "there is no serial port /dev/ttyNOPE"),
    "no port, but a file": (ROBOT, ("--port", "robot.toml"), "is not a serial port"),
    "a robot without axes": (CAMERA_ONLY, ("--yes",), "moves nothing"),
    "no such axis": (ROBOT, ("--axis", "lefft"), "its axes are left, right"),
    "not a robot file": ("name = 3\n", (), "robot.toml"),
    "nobody there": (ROBOT, (), "run this in a terminal"),
    "an axis of another robot": (ROBOT + "[axes.left]\nreversed = 1\n", (), "axes.left.reversed must be true or false"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_moves_nothing(world: Path, robot: Path, case: str) -> None:
    text, options, says = BAD[case]
    robot.write_text(text)
    done = run(str(robot), *(str(robot) if option == "robot.toml" else option for option in options))
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert robot.read_text() == text
    assert driven(world)[1] is False


def test_a_busy_port_a_read_only_file_and_no_file(world: Path, robot: Path) -> None:
    with subprocess.Popen(
        command(str(robot), "--yes", "--axis", "right"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        until(lambda: driven(world)[1] or other.poll() is not None)
        busy = run(str(robot), "--yes")
        other.send_signal(signal.SIGINT)
        other.communicate(timeout=HANGS_S)
    assert busy.returncode == 2 and "motors is in use by " in busy.stderr and "python (process " in busy.stderr
    robot.chmod(0o444)
    locked = run(str(robot), "--yes")
    assert locked.returncode == 2 and "is read-only" in locked.stderr
    for nothing in (run(), run(str(robot), "--demo")):
        assert nothing.returncode == 2 and "a robot file or --demo" in nothing.stderr
