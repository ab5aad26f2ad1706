"""The whole robot against the real simulated world: what bad input says, and that no motor was ever armed by it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.arming import arm_when_healthy
from edge.bundle import Bundle, load
from edge.config import parse_config
from edge.demo import World
from edge.engines.tensorrt.background import WAITING, BackgroundBuild
from edge.engines.tensorrt.cache import PlanCache
from edge.messages import Tick
from edge.robot import Robot
from edge.safety import ARMED_STATES
from edge.worlds.guide import ArenaGuide
from firmware_bridge.drivers.simulated.feetech import FeetechBus
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.vesc import VescPair
from tests.edge.test_intrinsics import GOPRO
from tests.firmware_bridge.processes import until

DEADLINE_S = 90.0
"""Only guards against hanging."""

GOOD = """name = "Rover under test"
bundle = "rover"
[camera]
source = "world:frames"
[bridge]
port = "motors"
[goals]
source = "world:goals"
[dashboard]
enabled = false
"""


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running world; robot files go into its folder."""
    folder = tmp_path_factory.mktemp("arena")
    with World(folder, seed=5):
        yield folder


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """``latentloop run`` on a robot file with this text."""
    robot = folder / "robot.toml"
    robot.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", "run", str(robot), "--seconds", "1", *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def wrong_hash(folder: Path) -> str:
    shutil.copytree(load("rover").folder, folder / "tampered", dirs_exist_ok=True)
    with (folder / "tampered" / "encoder.onnx").open("ab") as file:
        file.write(b"\0")
    return GOOD.replace('"rover"', '"tampered"')


def newer_format(folder: Path) -> str:
    shutil.copytree(load("rover").folder, folder / "newer", dirs_exist_ok=True)
    manifest = folder / "newer" / "bundle.toml"
    manifest.write_text(manifest.read_text().replace("format = 1", "format = 99"))
    return GOOD.replace('"rover"', '"newer"')


def no_folder_possible(folder: Path) -> str:
    (folder / "a-file").write_text("in the way")
    return GOOD + '[memory]\nfolder = "a-file/memory"\n'


def port_in_use(folder: Path) -> str:
    taken = socket.create_server(("127.0.0.1", 0))
    _open.append(taken)
    return GOOD.replace("enabled = false", f"port = {taken.getsockname()[1]}")


def with_intrinsics(folder: Path, height: int) -> str:
    """A robot file that names intrinsics measured at 1280 pixels times this height."""
    msgspec.structs.replace(GOPRO, height=height, cy=height / 2).save(folder / "camera.toml")
    return GOOD.replace('"world:frames"', '"world:frames"\nintrinsics = "camera.toml"')


_open: list[socket.socket] = []

BAD = {
    "missing camera": (lambda f: GOOD.replace("world:frames", "nowhere.mp4"), "nowhere.mp4"),
    "no world behind the camera": (lambda f: GOOD.replace("world:frames", "world:gone"), "gone"),
    "no intrinsics": (lambda f: GOOD.replace("frames\"", "frames\"\nintrinsics = \"gone.toml\""), "gone.toml"),
    "intrinsics of another shape": (lambda f: with_intrinsics(f, 720), "pictures of 640x480 do not fit"),
    "no serial port": (lambda f: GOOD.replace('"motors"', '"/dev/ttyNOPE"'), "/dev/ttyNOPE"),
    "unknown controller": (lambda f: GOOD.replace('"motors"', '"vesk:/dev/ttyACM0"'), "did you mean 'vesc'?"),
    "key of another controller": (lambda f: GOOD.replace('"motors"', '"vesc:/dev/ttyACM0?ids=1"'), "the keys of vesc are"),
    "no serial port, without a bridge process": (
        lambda f: GOOD.replace('"motors"', '"/dev/ttyNOPE"\nown_process = false'),
        "/dev/ttyNOPE",
    ),
    "no such USB device": (lambda f: GOOD.replace('"motors"', '"usb:dead:beef"'), "no serial port usb:dead:beef is plugged in"),
    "no such motor driver": (lambda f: GOOD.replace('"motors"', '"fetech:/dev/ttyUSB0"'), "did you mean 'feetech'?"),
    "no such bundle": (lambda f: GOOD.replace('"rover"', '"unicorn"'), "unicorn"),
    "a watcher's bundle": (lambda f: GOOD.replace('"rover"', '"camera"'), "latentloop watch"),
    "wrong hash": (wrong_hash, "encoder.onnx"),
    "newer format": (newer_format, "99"),
    "misspelt key": (lambda f: GOOD.replace("port =", "prot ="), "did you mean 'port'?"),
    "not TOML": (lambda f: GOOD + "[[", "TOML"),
    "out of range": (lambda f: GOOD + "[safety]\nspeed = 3\n", "allowed: 0 to 1"),
    "memory folder in the way": (no_folder_possible, "a-file/memory"),
    "port in use": (port_in_use, "in use"),
    "planner budget": (lambda f: GOOD + "[planner]\nbudget_ms = 200\n", "budget_ms"),
    "axis of another robot": (
        lambda f: GOOD + "[axes.lift.forward]\nmax_speed = 1\n[axes.lift.backward]\nmax_speed = 1\n",
        "[axes.lift] is for no axis",
    ),
    "limit of another axis": (
        lambda f: GOOD + "[bridge.limits.lift]\nspeed = 1\n",
        "lift.speed is for no axis of",
    ),
    "limit that would loosen": (
        lambda f: GOOD + "[bridge.limits.left]\nspeed = 25\n",
        "takes 0 to 20 rad/s; limits can only be tightened",
    ),
    "limits of a controller that has its own": (
        lambda f: GOOD.replace('"motors"', '"vesc:/dev/ttyACM0"') + "[bridge.limits.left]\nspeed = 5\n",
        "left.speed is a setting of latentloop's firmware",
    ),
    "no goal picture": (lambda f: GOOD.replace("world:goals", "nothing.png"), "nothing.png"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_arms_nothing(arena: Path, case: str) -> None:
    make, names = BAD[case]
    done = run(arena, make(arena), "--arm")
    assert done.returncode == 2, done.stderr
    assert names in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    guide = ArenaGuide(arena / "goals")
    try:
        motors = guide.motors()
    finally:
        guide.close()
    assert motors["state"] not in ("active", "safe_stop", "safe")
    assert not motors["moving"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_memory_folder(arena: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = run(arena, GOOD + f'[memory]\nfolder = "{tmp_path}/memory"\n')
    assert done.returncode == 2
    assert "memory" in done.stderr


REVERSED = """
[axes.{name}]
reversed = true
[axes.{name}.forward]
max_speed = 20
[axes.{name}.backward]
max_speed = 20
"""


def test_a_calibrated_axis_is_sent_the_other_way_round(arena: Path, tmp_path: Path) -> None:
    """Wheels that are in order, said to be reversed: they must turn against what was decided."""
    text = GOOD + f'[memory]\nfolder = "{tmp_path}/memory"\n' + "".join(REVERSED.format(name=n) for n in ("left", "right"))
    ticks: list[Tick] = []
    stop = threading.Event()

    def observe(tick: Tick) -> None:
        ticks.append(tick)
        if len(ticks) >= 60:
            stop.set()

    with Robot(parse_config(text.encode(), "robot.toml"), arena, observers=(observe,)) as robot:
        arming = threading.Thread(target=arm_when_healthy, args=(robot.supervisor, robot.clock, stop))
        arming.start()
        robot.run(stop)
        arming.join()
    told = np.array([tick.command.targets for tick in ticks if tick.command is not None])
    turned = np.array([tick.telemetry.velocity for tick in ticks if tick.command is not None and tick.telemetry is not None])
    assert len(told) > 10
    assert float((told[:-1] * turned[1:]).sum()) < 0.0


def test_engines_are_built_until_the_robot_is_armed_and_not_while_it_is(
    arena: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = "import sys, time; print('encoder as int8: building', file=sys.stderr); time.sleep(600)"

    def build(bundle: Bundle) -> BackgroundBuild:
        return BackgroundBuild(bundle, (sys.executable, "-u", "-c", builder), PlanCache(tmp_path / "engines"))

    monkeypatch.setattr("edge.robot.build_in_background", build)
    told: list[tuple[bool, str]] = []
    stop = threading.Event()
    text = GOOD + f'[memory]\nfolder = "{tmp_path}/memory"\n'
    with Robot(parse_config(text.encode(), "robot.toml"), arena, observers=(lambda tick: observe(tick),)) as robot:

        def observe(tick: Tick) -> None:
            assert robot.building is not None
            told.append((tick.state in ARMED_STATES, robot.building.state.text))
            if told[-1][1] == WAITING or len(told) >= 600:
                stop.set()
            elif told[-1][1].endswith("encoder as int8") and arming.ident is None:
                arming.start()

        arming = threading.Thread(target=arm_when_healthy, args=(robot.supervisor, robot.clock, stop))
        robot.run(stop)
        arming.join()
    assert (False, "building TensorRT engine encoder as int8") in told and told[-1] == (True, WAITING)


def driven(folder: Path, line: Line, spec: str, memory: Path) -> list[Tick]:
    """An armed robot with that controller until every motor has moved; the world's camera sees other wheels."""
    text = GOOD.replace('"motors"', f'"{spec}"') + f'[memory]\nfolder = "{memory}"\n'
    ticks: list[Tick] = []
    stop = threading.Event()

    def observe(tick: Tick) -> None:
        ticks.append(tick)
        if all(motor.travelled > 0.2 for motor in line.device.motors) or len(ticks) >= 100:
            stop.set()

    with Robot(parse_config(text.encode(), "robot.toml"), folder, observers=(observe,)) as robot:
        arming = threading.Thread(target=arm_when_healthy, args=(robot.supervisor, robot.clock, stop))
        arming.start()
        robot.run(stop)
        arming.join()
    return ticks


@pytest.mark.parametrize(
    ("device", "spec"),
    [(VescPair, "vesc:{}?can=2&speed=20&acceleration=200"), (FeetechBus, "feetech:{}?ids=1,2&command=velocity&speed=8")],
)
def test_other_controllers_are_driven_by_the_same_loop(
    arena: Path, tmp_path: Path, device: Callable[[], VescPair | FeetechBus], spec: str
) -> None:
    with Line(device()) as line:
        ticks = driven(arena, line, spec.format(line.port), tmp_path / "memory")
        assert all(motor.travelled > 0.2 for motor in line.device.motors)
        assert ticks[-1].telemetry is not None and ticks[-1].telemetry.health.supply_v == 12.0
        until(lambda: all(motor.velocity == 0.0 for motor in line.device.motors), "a standstill")


def test_a_real_controller_that_is_not_proved_is_not_armed(arena: Path) -> None:
    with Line(VescPair()) as line:
        line._announcement.close()  # as if it were real
        done = run(arena, GOOD.replace('"motors"', f'"vesc:{line.port}?can=2&speed=20"'), "--arm", "--seconds", "8")
        assert all(motor.travelled == 0.0 for motor in line.device.motors)
    says = "latentloop: not armed: this controller was never proved to stop: run latentloop bridge selftest 'vesc:"
    assert done.stderr.startswith(says) and done.stderr.count("\n") == 1


def test_a_unit_that_is_not_the_bundles_is_refused_before_anything_moves(arena: Path) -> None:
    with Line(FeetechBus()) as line:
        done = run(arena, GOOD.replace('"motors"', f'"feetech:{line.port}?ids=1,2"'), "--arm")
        assert done.returncode == 2 and "add command=velocity to the port" in done.stderr and done.stderr.count("\n") == 1
        assert all(motor.travelled == 0.0 for motor in line.device.motors)


def test_the_robot_drives_and_remembers(arena: Path) -> None:
    robot = GOOD + '[memory]\nfolder = "kept"\n[goals]\n'.replace("[goals]\n", "")
    first = run(arena, robot, "--arm", "--seconds", "8", "--json")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary["planned_ticks"] > 0
    assert summary["serial"]["crc_errors"] == 0
    assert summary["serial"]["acked"] > 0
    assert summary["memory"]["episodes"] > 0
    assert set(summary["integer_gemms"]) == {"encoder", "predictor", "rollout"}
    assert all(count > 0 for count in summary["integer_gemms"].values())
    again = run(arena, robot, "--seconds", "1")
    assert "belief restored" in again.stdout
    assert again.returncode == 0
    other = run(arena, robot.replace(GOOD, with_intrinsics(arena, 960)), "--seconds", "1")
    assert other.returncode == 0, other.stderr
    assert "cold start" in other.stdout, "what was seen through the lens is not believed without it"
