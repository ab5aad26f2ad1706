"""The bridge in its own process: who dies, who stalls, and what the motors do. Real processes, the compiled firmware."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.controller import AxisMode, BridgeError, FirmwareState
from firmware_bridge.messages import State
from firmware_bridge.process import controller as module
from firmware_bridge.process.controller import ProcessController
from firmware_bridge.process.heartbeat import HeartbeatWord
from firmware_bridge.process.targets import TargetPipe
from tests.firmware_bridge.conftest import Starter
from tests.firmware_bridge.processes import RecordingPlant, until
from tests.firmware_bridge.test_end_to_end import drive, looping

ROOT = Path(__file__).parents[3]
MS = 1_000_000
LEASE_S = 0.5  # generous, because the test machine may be busy
FULL = (10_000, -10_000)


@pytest.fixture
def kind() -> str:
    """Only the compiled firmware: what is under test is the host."""
    return "c"


@pytest.fixture
def bridged(start: Starter, tmp_path: Path) -> Iterator[ProcessController]:
    start()
    controller = ProcessController(str(tmp_path / "port"), lease_s=LEASE_S)
    controller.connect()
    yield controller
    controller.close()


Robot = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def robot(start: Starter, tmp_path: Path, plant: RecordingPlant) -> Iterator[Robot]:
    """Starts a program that drives at full speed through a bridge process, in a terminal's process group of its own."""
    start()
    running: list[subprocess.Popen[str]] = []

    def start_it(alive_s: float = LEASE_S, deaf: bool = False) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.firmware_bridge.process.robot", str(tmp_path / "port")]
        running.append(
            subprocess.Popen(
                [*command, str(LEASE_S), str(alive_s), str(int(deaf))],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=dict(os.environ, PYTHONPATH=str(ROOT)),
                start_new_session=True,
            )
        )
        until(lambda: plant.newest.output_mrad_s == FULL, "full speed", 20.0)
        return running[-1]

    yield start_it
    for process in running:
        for end in (signal.SIGCONT, signal.SIGKILL):
            process.send_signal(end)
        process.communicate()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# -- all is well ---------------------------------------------------------------------------------------------------


def test_connect_arm_move_disarm(bridged: ProcessController, plant: RecordingPlant) -> None:
    assert bridged.telemetry().state is FirmwareState.LINKED
    left, right = bridged.describe()
    assert (left.name, right.name, left.mode, left.unit, left.high) == ("left", "right", AxisMode.VELOCITY, "rad/s", 20.0)
    with looping(bridged, (7.0, -99.0)) as turns:
        time.sleep(0.1)
        assert plant.newest.output_mrad_s == (0, 0)
        drive(bridged, plant, turns, (7_000, -20_000))
        until(lambda: bridged.telemetry().applied is not None, "an acknowledged command")
        bridged.disarm()
        plant.wait_for(State.LINKED)
        assert plant.newest.output_mrad_s == (0, 0)
    until(lambda: bridged.telemetry().state is FirmwareState.LINKED, "the host knows")
    assert bridged.telemetry().stop_cause == "disarmed"


def test_estop_and_its_release(bridged: ProcessController, plant: RecordingPlant) -> None:
    with looping(bridged, (5.0, 5.0)) as turns:
        drive(bridged, plant, turns, (5_000, 5_000))
        bridged.estop()
        plant.wait_for(State.ESTOP)
        with pytest.raises(BridgeError, match="clear it first"):
            bridged.arm()
        until(lambda: bridged.telemetry().state is FirmwareState.ESTOP, "the host knows")
        bridged.clear_estop()
        until(lambda: bridged.telemetry().state is FirmwareState.LINKED, "a new session")
        with pytest.raises(BridgeError, match="no stop or fault"):
            bridged.clear_estop()
        drive(bridged, plant, turns, (5_000, 5_000))


def test_when_a_command_was_acted_on(bridged: ProcessController, plant: RecordingPlant) -> None:
    with looping(bridged, (5.0, 5.0)) as turns:
        drive(bridged, plant, turns, (5_000, 5_000))
        until(lambda: bridged.telemetry().applied is not None, "an acknowledged command")
        applied = bridged.telemetry().applied
        assert applied is not None
        handed_over_ns = applied.valid_until_ns - 1000 * MS  # as ``looping`` makes them
        assert handed_over_ns in turns
        assert handed_over_ns <= applied.sent_ns <= applied.applied_ns
        assert applied.applied_ns < time.monotonic_ns() + applied.bound_ns
        assert 0 < applied.bound_ns < 100 * MS


@pytest.mark.parametrize("targets", [(1.0,), (float("nan"), 0.0), (0.0, float("inf"))])
def test_targets_that_are_none(targets: tuple[float, ...]) -> None:
    with pytest.raises(BridgeError):
        ProcessController("/dev/null").send(targets, 0)


# -- the child ends ------------------------------------------------------------------------------------------------


def test_a_killed_child_stops_the_motors_and_comes_back_disarmed(
    bridged: ProcessController, plant: RecordingPlant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with looping(bridged, (5.0, 5.0)) as turns:
        drive(bridged, plant, turns, (5_000, 5_000))
        first = bridged.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: bridged.telemetry().state is FirmwareState.OFFLINE, "the death is seen")
        assert "killed by SIGKILL" in bridged.telemetry().trouble
        until(lambda: bridged.telemetry().state is FirmwareState.LINKED, "it is back", 20.0)
        assert bridged.pid != first
        assert bridged.telemetry().trouble == ""
        seen = len(plant.packets)
        time.sleep(0.3)  # the loop goes on as if nothing had happened
        assert {(p.state, p.output_mrad_s) for p in plant.packets[seen:]} == {(State.LINKED, (0, 0))}
        drive(bridged, plant, turns, (5_000, 5_000))
    assert any("killed by SIGKILL" in record.message for record in caplog.records)
    until(lambda: any("connected again; not armed" in r.message for r in caplog.records), "the child's log in the parent's")


def test_a_child_that_falls_silent_is_killed(bridged: ProcessController, plant: RecordingPlant) -> None:
    with looping(bridged, (5.0, 5.0)) as turns:
        drive(bridged, plant, turns, (5_000, 5_000))
        first = bridged.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        plant.wait_for(State.SAFE)
        until(lambda: "fell silent and was killed" in bridged.telemetry().trouble, "it is given up")
        until(lambda: bridged.telemetry().state is FirmwareState.LINKED, "another one is there", 20.0)
        assert not alive(first)


def test_a_child_that_takes_no_stop_is_killed_and_the_next_one_stops(
    bridged: ProcessController, plant: RecordingPlant
) -> None:
    with looping(bridged, (5.0, 5.0)) as turns:
        drive(bridged, plant, turns, (5_000, 5_000))
    first = bridged.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    for _ in range(2000):  # until no more fits into the socket
        bridged.send((0.0, 0.0), 0)
    bridged.estop()
    until(lambda: not alive(first), "a child that cannot be stopped is killed")
    plant.wait_for(State.ESTOP)  # by the next child, which was told


def test_a_port_that_vanished_with_the_child(
    start: Starter, tmp_path: Path, plant: RecordingPlant, caplog: pytest.LogCaptureFixture
) -> None:
    firmware = start()
    controller = ProcessController(str(tmp_path / "port"), lease_s=LEASE_S)
    controller.connect()
    firmware.close()
    assert controller.pid is not None
    os.kill(controller.pid, signal.SIGKILL)
    until(lambda: any("no serial port" in record.message for record in caplog.records), "it looks for the port", 20.0)
    assert controller.telemetry().state is FirmwareState.OFFLINE
    start()
    until(lambda: controller.telemetry().state is FirmwareState.LINKED, "it is found again", 20.0)
    controller.close()


@pytest.mark.parametrize("words", ["there is no serial port"])
def test_what_cannot_be_connected_is_said_in_one_line_and_leaves_nothing(tmp_path: Path, words: str) -> None:
    controller = ProcessController(str(tmp_path / "gone"))
    for _ in range(2):
        with pytest.raises(BridgeError, match=words) as caught:
            controller.connect()
        assert "\n" not in str(caught.value)
    pid = controller.pid
    assert pid is None or not alive(pid)
    assert controller.telemetry().state is FirmwareState.OFFLINE
    controller.close()
    with pytest.raises(BridgeError, match="was closed"):
        controller.connect()


def test_a_child_that_cannot_even_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.spawn.sys, "executable", "/bin/false")
    with pytest.raises(BridgeError, match="ended with exit code 1 before it was connected"):
        ProcessController("/dev/null").connect()
    monkeypatch.setattr(module.spawn.sys, "executable", "/no/such/python")
    with pytest.raises(BridgeError, match="cannot be started"):
        ProcessController("/dev/null").connect()


def test_closing_stops_the_motors_and_ends_the_child(bridged: ProcessController, plant: RecordingPlant) -> None:
    with looping(bridged, (5.0, 5.0)) as turns:
        drive(bridged, plant, turns, (5_000, 5_000))
        pid = bridged.pid
        assert pid is not None
        bridged.close()
        bridged.close()
        plant.wait_for(State.LINKED)
    assert not alive(pid)
    assert bridged.telemetry().state is FirmwareState.OFFLINE
    with pytest.raises(BridgeError, match="was closed"):
        bridged.connect()


# -- the parent ends or stalls ---------------------------------------------------------------------------------------


def test_a_killed_parent_stops_the_motors(robot: Robot, plant: RecordingPlant) -> None:
    process = robot()
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    plant.wait_for(State.LINKED)  # the child disarms: the firmware need not even wait for the end of the lease
    assert plant.newest.output_mrad_s == (0, 0)
    until(lambda: not alive(child), "the child ends with its parent")


def test_a_parent_that_stands_still_stops_the_motors_at_its_deadline(robot: Robot, plant: RecordingPlant) -> None:
    process = robot(alive_s=0.4)
    process.send_signal(signal.SIGSTOP)
    stopped_ns = time.monotonic_ns()
    plant.wait_for(State.SAFE)
    stop = next(p for p in plant.packets if p.state is State.SAFE_STOP)
    assert stop.mono_ns - stopped_ns < 450 * MS + _slack(plant)
    seen = len(plant.packets)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    assert {p.output_mrad_s for p in plant.packets[seen:]} == {(0, 0)}


def test_a_parent_that_stalls_for_less_than_its_deadline_stops_nothing(robot: Robot, plant: RecordingPlant) -> None:
    """The pause is longer than the lease: it is the child that keeps it fed."""
    process = robot(alive_s=1.5)
    seen = len(plant.packets)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.8)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    assert {(p.state, p.output_mrad_s) for p in plant.packets[seen:]} == {(State.ACTIVE, FULL)}


def test_ctrl_c_stops_the_motors_first_and_ends_cleanly(robot: Robot, plant: RecordingPlant) -> None:
    process = robot()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and child alike
    plant.wait_for(State.LINKED)
    assert process.communicate(timeout=60.0)[0].endswith("closed\n")
    assert process.returncode == 0


def test_ctrl_c_stops_the_motors_of_a_program_that_hangs(robot: Robot, plant: RecordingPlant) -> None:
    process = robot(alive_s=1.5, deaf=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)
    plant.wait_for(State.LINKED)
    assert process.poll() is None and alive(child)


def test_sigterm_ends_the_child_alone(robot: Robot, plant: RecordingPlant) -> None:
    process = robot()
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), signal.SIGTERM)
    plant.wait_for(State.LINKED)
    assert plant.newest.output_mrad_s == (0, 0)


def _slack(plant: RecordingPlant) -> int:
    """The longest pause of the firmware process itself, ns: how long this machine did not run it."""
    times = [each.mono_ns for each in plant.packets]
    return max(after - before for before, after in pairwise(times))


# -- what is said at every turn ---------------------------------------------------------------------------------------------


@given(alive_until_ns=st.integers(-5, 2**63 - 1), engaged=st.booleans())
def test_a_heartbeat_arrives_as_a_whole(alive_until_ns: int, engaged: bool) -> None:
    word = HeartbeatWord()
    assert word.read() == (0, False)
    reader = HeartbeatWord(os.dup(word.descriptor))
    word.write(alive_until_ns, engaged)
    assert reader.read() == (max(0, alive_until_ns), engaged)


@given(said=st.lists(st.tuples(st.tuples(*[st.floats(allow_nan=False)] * 3), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_of_several_targets_the_newest_count(said: list[tuple[tuple[float, float, float], int]]) -> None:
    pipe = TargetPipe(3)
    reader = TargetPipe(3, os.dup(pipe.descriptor))
    assert all(pipe.write(*each, order) for order, each in enumerate(said, 1))
    targets, valid_until_ns, order = reader.newest()
    assert (tuple(targets), valid_until_ns) == said[-1] and order == len(said)
    with pytest.raises(BlockingIOError):
        reader.newest()
    del pipe
    with pytest.raises(EOFError):
        reader.newest()


@pytest.mark.parametrize("axes", [1, 2, 6, 8])
def test_a_full_pipe_takes_no_more_and_loses_nothing_of_what_it_took(axes: int) -> None:
    pipe = TargetPipe(axes)
    taken = 0
    while pipe.write((float(taken),) * axes, taken, taken):
        assert not pipe.full or taken > 150  # 0.75 s of a loop at 200 Hz
        taken += 1
    assert pipe.full
    assert pipe.newest() == ([taken - 1.0] * axes, taken - 1, taken - 1)
    assert not pipe.full and pipe.write((0.0,) * axes, 0, taken)


def test_what_is_said_to_nobody_is_counted_as_held_back() -> None:
    controller = ProcessController("/dev/null")
    for _ in range(5000):
        controller.send((0.0, 0.0), 0)
    assert controller.telemetry().counts.dropped == 5000
