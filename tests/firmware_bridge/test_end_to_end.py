"""A real host, a real pseudo-terminal and a real firmware process; what the motors got is what counts."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from firmware_bridge.controller import BridgeError, FirmwareState
from firmware_bridge.handshake import shake_hands
from firmware_bridge.link import Link
from firmware_bridge.messages import Arm, Lease, SetNow, State
from firmware_bridge.plant import MotorFeedback
from firmware_bridge.serial_controller import AxisLimits, SerialController
from firmware_bridge.serial_port import open_port
from tests.firmware_bridge.conftest import Starter
from tests.firmware_bridge.processes import RecordingPlant, until

ROOT = Path(__file__).parents[2]
MS = 1_000_000
LEASE_MS = 250  # generous, because the test machine may be busy

HOST = """
import sys, time
from firmware_bridge.serial_controller import SerialController
controller = SerialController(sys.argv[1], lease_s=float(sys.argv[2]))
controller.connect()
controller.heartbeat(time.monotonic_ns() + 10**9, True)
controller.arm()
print("armed", flush=True)
while True:
    now = time.monotonic_ns()
    controller.heartbeat(now + 1_000_000_000, True)
    controller.send((10.0, -10.0), now + 1_000_000_000)
    time.sleep(0.05)
"""


PAUSE_NS = 150 * MS
"""A process that stands still for longer than this may lose its lease, or be taken for gone, and the motors stop."""
ARMABLE = (FirmwareState.LINKED, FirmwareState.SAFE, FirmwareState.ACTIVE)

WAKER = "import os, signal, sys, time; time.sleep(float(sys.argv[2])); os.kill(int(sys.argv[1]), signal.SIGCONT)"


@contextmanager
def looping(
    controller: SerialController, targets: Sequence[float], engaged: bool = True, alive_ns: int = 1000 * MS
) -> Iterator[list[int]]:
    """A control loop at 50 Hz; yields when it had its turns, monotonic ns. alive_ns: how long each of them counts."""
    ending = threading.Event()
    turns = [time.monotonic_ns()]

    def loop() -> None:
        while not ending.wait(0.02):
            now = time.monotonic_ns()
            turns.append(now)
            controller.heartbeat(now + alive_ns, engaged)
            controller.send(targets, now + alive_ns)

    controller.heartbeat(time.monotonic_ns() + alive_ns, engaged)
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield turns
    finally:
        ending.set()
        thread.join()


def drive(controller: SerialController, plant: RecordingPlant, turns: list[int], speeds: tuple[int, int]) -> int:
    """Arm, and wait until the motors turn at these speeds, mrad/s. Returns how often it was armed.

    A machine that stands still for longer than a lease stops the motors for good, as it must. Only if the turns of the loop or
    the packets of the firmware show such a pause is the attempt void, and another made; a stop without one is a failure.
    """
    for attempt in range(1, 6):
        turn, packet = len(turns) - 1, len(plant.packets) - 1
        refused = ""
        try:
            controller.arm()
            until(
                lambda: plant.newest.output_mrad_s == speeds or controller.telemetry().state is not FirmwareState.ACTIVE,
                f"{speeds} mrad/s, or a stop",
            )
        except BridgeError as error:
            refused = str(error)
        reached = not refused and plant.newest.output_mrad_s == speeds
        until(lambda: controller.telemetry().state in ARMABLE, "the link is back")
        now = time.monotonic_ns()  # woken up, this thread may run before the loop does, or before the next packet is in
        host = [*turns[turn:], now]
        firmware = [*(each.mono_ns for each in plant.packets[packet:]), now]
        paused = max(after - before for times in (host, firmware) for before, after in pairwise(times))
        if paused < PAUSE_NS:
            assert reached, f"stopped ({refused or controller.stop_cause}), and nothing was paused"
            return attempt
        time.sleep(0.2)  # what was said during the pause is still being read
    raise AssertionError(f"the machine was paused during all {attempt} attempts")


@pytest.fixture
def host(start: Starter, tmp_path: Path, plant: RecordingPlant) -> Iterator[subprocess.Popen[str]]:
    """A host process that drives at 10 and -10 rad/s, already at full speed."""
    start()
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", HOST, str(tmp_path / "port"), str(LEASE_MS / 1000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "armed\n"
        until(lambda: plant.newest.output_mrad_s == (10_000, -10_000), "full speed")
        yield process
        process.kill()


def test_connect_arm_move_disarm(controller: SerialController, plant: RecordingPlant, kind: str) -> None:
    seen = controller.telemetry()
    assert seen.state is FirmwareState.LINKED
    assert seen.firmware == {"c": "latentloop-host 0.1 (C)", "python": "latentloop-host 0.1 (Python reference)"}[kind]
    plant.feedback = MotorFeedback((1500, -2500), (100, -200), (250, -30))
    with looping(controller, (7.0, -99.0)) as turns:
        time.sleep(0.1)
        assert plant.newest.output_mrad_s == (0, 0)
        drive(controller, plant, turns, (7_000, -20_000))  # clamped
        until(lambda: controller.last_ack_latency_ns is not None, "an acknowledged command")
        controller.disarm()
        plant.wait_for(State.LINKED)
        assert plant.newest.output_mrad_s == (0, 0)
    until(lambda: controller.telemetry().position == (1.5, -2.5), "the encoders")
    seen = controller.telemetry()
    assert (seen.velocity, seen.current, seen.faults) == ((0.1, -0.2), (0.25, -0.03), ())
    assert seen.counts.sent > seen.counts.acked > 4
    assert seen.counts.received > 5
    assert (seen.counts.crc_errors, controller.limited > 0) == (0, True)
    assert controller.clock_error_bound_ns is not None
    until(lambda: controller.device_counts is not None, "the device's counters")


@pytest.mark.parametrize(("who", "ms"), [("host", 700), ("firmware", 700), ("firmware", 400)])
def test_a_pause_while_driving_is_told_from_a_stop_without_one(
    start: Starter, plant: RecordingPlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, ms: int
) -> None:
    """Of this file's own ``drive``: what a busy machine does to the other tests, made by SIGSTOP. Longer than the lease of
    500 ms, or than the 300 ms of silence after which a host takes the firmware for gone: both stop the motors for good."""
    firmware = start()
    controller = SerialController(str(tmp_path / "port"), lease_s=0.5)
    controller.connect()
    pid = firmware.pid if who == "firmware" else os.getpid()
    wakers: list[subprocess.Popen[bytes]] = []
    targets = [0.0, 0.0]
    arm = controller.arm

    def arm_and_freeze() -> None:
        arm()
        if not wakers:
            wakers.append(subprocess.Popen([sys.executable, "-c", WAKER, str(pid), str(ms / 1000)]))
            os.kill(pid, signal.SIGSTOP)
            targets[:] = 7.0, -99.0  # only now, so that nothing is reached before the pause

    monkeypatch.setattr(controller, "arm", arm_and_freeze)
    with looping(controller, targets) as turns:
        assert drive(controller, plant, turns, (7_000, -20_000)) > 1
        controller.disarm()
        plant.wait_for(State.LINKED)
    assert wakers[0].wait() == 0
    controller.close()


def test_a_stop_without_a_pause_fails_a_test(controller: SerialController, plant: RecordingPlant) -> None:
    with looping(controller, (7.0, 7.0)) as turns:
        spoiler = threading.Thread(target=lambda: plant.wait_for(State.ACTIVE) and controller.disarm())
        spoiler.start()
        with pytest.raises(AssertionError, match="nothing was paused"):
            drive(controller, plant, turns, (1, 1))
        spoiler.join()


def test_the_ramp_obeys_the_acceleration_limit(host: subprocess.Popen[str], plant: RecordingPlant) -> None:
    moving = [p for p in plant.packets if p.output_mrad_s != (0, 0)]
    for before, after in pairwise(moving):
        ms = (after.mono_ns - before.mono_ns) / 1e6
        assert abs(after.output_mrad_s[0] - before.output_mrad_s[0]) <= 400 * ms + 2  # device time is in whole us


def test_a_killed_host_stops_the_motors(host: subprocess.Popen[str], plant: RecordingPlant) -> None:
    host.send_signal(signal.SIGKILL)
    plant.wait_for(State.SAFE)
    first = next(i for i, p in enumerate(plant.packets) if p.state is State.SAFE_STOP)
    before, stop = plant.packets[first - 1], plant.packets[first]
    still = next(p for p in plant.packets if p.state is State.SAFE)
    assert (before.mono_ns - stop.last_lease_mono_ns) / MS <= LEASE_MS
    longest = max(50.0, (stop.mono_ns - before.mono_ns) / MS)  # longer only if the machine did not run the firmware
    assert (stop.mono_ns - stop.last_lease_mono_ns) / MS <= LEASE_MS + longest
    assert still.output_mrad_s == (0, 0)
    assert stop.output_mrad_s[0] > 0
    assert (still.mono_ns - stop.mono_ns) / MS >= stop.output_mrad_s[0] / 400 - 0.1  # it was ramped down, not cut


def test_a_host_that_freezes_and_wakes_up_moves_nothing(host: subprocess.Popen[str], plant: RecordingPlant) -> None:
    host.send_signal(signal.SIGSTOP)
    plant.wait_for(State.SAFE)
    host.send_signal(signal.SIGCONT)
    seen = len(plant.packets)
    until(lambda: plant.newest.last_lease_mono_ns > plant.packets[seen - 1].mono_ns, "the host is back")
    time.sleep(0.3)
    assert {(p.state, p.output_mrad_s) for p in plant.packets[seen:]} <= {
        (State.SAFE, (0, 0)),
        (State.LINKED, (0, 0)),
    }


def test_bytes_stuck_in_the_line_do_not_revive_motion(start: Starter, plant: RecordingPlant, tmp_path: Path) -> None:
    """The firmware is frozen while the host goes on; then it finds a second of old traffic in its buffer."""
    firmware = start()
    link = Link(open_port(firmware.port, 115_200))
    session = shake_hands(link, "the port", ("left", "right"), time.monotonic_ns() + 5000 * MS)

    def say(ms: int, engaged: int = 1) -> None:
        now = time.monotonic_ns()
        until_us = session.clock.to_device_us(now + ms * MS)
        link.send(Lease(until_us, 0, engaged, 0, 0), session.id)
        link.send(SetNow(1, 3, (10_000, 10_000), until_us), session.id)

    say(400)
    link.send(Arm(session.limits_crc, session.boot_id), session.id)
    until(lambda: say(400) or plant.newest.output_mrad_s == (10_000, 10_000), "full speed")
    os.kill(firmware.pid, signal.SIGSTOP)
    try:
        for _ in range(50):
            say(100)
            time.sleep(0.01)
        time.sleep(0.2)
        seen = len(plant.packets)
    finally:
        os.kill(firmware.pid, signal.SIGCONT)
    plant.wait_for(State.SAFE)
    time.sleep(0.1)
    link.close()
    after = plant.packets[seen:]
    assert {p.state for p in after} <= {State.ACTIVE, State.SAFE_STOP, State.SAFE}
    speeds = [p.output_mrad_s[0] for p in after if p.state is not State.ACTIVE]
    assert speeds == sorted(speeds, reverse=True) and speeds[-1] == 0
    assert plant.newest.state is State.SAFE


def test_what_the_device_allows_and_when_it_measured(controller: SerialController, plant: RecordingPlant) -> None:
    assert controller.limits == (AxisLimits(20.0, 400.0), AxisLimits(20.0, 400.0))
    for place in range(1, 6):
        before, bound = time.monotonic_ns(), controller.clock_error_bound_ns
        assert bound is not None
        plant.feedback = MotorFeedback((1000 * place, 0), (0, 0), (0, 0))
        until(lambda: controller.telemetry().position == (place, 0), "the new angle")  # noqa: B023
        seen = controller.telemetry()
        assert before - bound < seen.measured_ns < seen.received_ns + bound + MS
    controller.close()
    with pytest.raises(BridgeError, match="not connected"):
        controller.limits  # noqa: B018


def test_noise_on_the_line_is_counted_and_harmless(
    controller: SerialController, plant: RecordingPlant, tmp_path: Path
) -> None:
    line = os.open(tmp_path / "port", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, (5_000, 5_000))
        seen = len(plant.packets)
        for _ in range(20):
            os.write(line, b"AT+CGMI\r\n" + secrets.token_bytes(60) + b"\0" + secrets.token_bytes(30))
            time.sleep(0.02)
        until(lambda: _noise(controller) >= 20, "the device noticed")
        assert {(p.state, p.output_mrad_s) for p in plant.packets[seen:]} == {(State.ACTIVE, (5_000, 5_000))}
    os.close(line)


def test_a_flooded_line_does_not_hold_up_the_stop(
    host: subprocess.Popen[str], plant: RecordingPlant, tmp_path: Path
) -> None:
    flood = [sys.executable, "-c", f"while True: open({str(tmp_path / 'port')!r}, 'wb', 0).write(b'noise' * 800)"]
    host.kill()
    with subprocess.Popen(flood) as flooding:
        plant.wait_for(State.SAFE)
        flooding.kill()


def test_estop_and_its_release(controller: SerialController, plant: RecordingPlant) -> None:
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, (5_000, 5_000))
        seen = len(plant.packets)
        controller.estop()
        plant.wait_for(State.ESTOP)
        speeds = {p.output_mrad_s[0] for p in plant.packets[seen:]}
        assert speeds <= {5_000, 0}  # cut, not ramped
        with pytest.raises(BridgeError, match="clear it first"):
            controller.arm()
        until(lambda: controller.telemetry().state is FirmwareState.ESTOP, "the host knows")
        controller.clear_estop()
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "a new session")
        time.sleep(0.1)
        assert (plant.newest.state, plant.newest.output_mrad_s) == (State.LINKED, (0, 0))
        with pytest.raises(BridgeError, match="no stop or fault"):
            controller.clear_estop()
        drive(controller, plant, turns, (5_000, 5_000))


def test_a_restarted_firmware_is_found_again_and_stays_disarmed(
    start: Starter, plant: RecordingPlant, tmp_path: Path
) -> None:
    first = start()
    controller = SerialController(str(tmp_path / "port"), lease_s=0.5)
    controller.connect()
    try:
        with looping(controller, (5.0, 5.0)) as turns:
            drive(controller, plant, turns, (5_000, 5_000))
            first.close()
            until(lambda: controller.telemetry().state is FirmwareState.OFFLINE, "the loss is seen")
            assert controller.trouble
            with pytest.raises(BridgeError, match="not connected"):
                controller.arm()
            seen = len(plant.packets)
            start()
            until(lambda: controller.telemetry().state is FirmwareState.LINKED, "the link is back")
            assert controller.trouble == ""
            until(lambda: plant.newest.last_lease_mono_ns, "it is leased")
            time.sleep(0.2)
            assert {(p.state, p.output_mrad_s) for p in plant.packets[seen:]} <= {
                (State.IDLE, (0, 0)),
                (State.LINKED, (0, 0)),
            }
            assert controller.telemetry().counts.dropped > 0
            drive(controller, plant, turns, (5_000, 5_000))
    finally:
        controller.close()


def test_a_frozen_firmware_is_offline_and_comes_back_disarmed(start: Starter, plant: RecordingPlant, tmp_path: Path) -> None:
    firmware = start()
    controller = SerialController(str(tmp_path / "port"), lease_s=0.5)
    controller.connect()
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, (5_000, 5_000))
        os.kill(firmware.pid, signal.SIGSTOP)
        until(lambda: controller.telemetry().state is FirmwareState.OFFLINE, "the silence is noticed")
        os.kill(firmware.pid, signal.SIGCONT)
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "the link is back")
        time.sleep(0.1)
        assert (plant.newest.state, plant.newest.output_mrad_s) == (State.LINKED, (0, 0))
    controller.close()


def test_the_lease_ends_with_the_loop(controller: SerialController, plant: RecordingPlant) -> None:
    """The host process lives on, only its loop has ended: no thread of the bridge may keep the motors alive."""
    with looping(controller, (5.0, 5.0), alive_ns=300 * MS) as turns:
        drive(controller, plant, turns, (5_000, 5_000))
    plant.wait_for(State.SAFE)
    until(lambda: controller.stop_cause in ("lease_expired", "command_expired"), "the cause")
    assert plant.newest.output_mrad_s == (0, 0)


def test_a_loop_that_does_not_engage_leaves_active(controller: SerialController, plant: RecordingPlant) -> None:
    with looping(controller, (5.0, 5.0)):
        controller.arm()
        plant.wait_for(State.ACTIVE)
    with looping(controller, (5.0, 5.0), engaged=False):
        plant.wait_for(State.SAFE)
    until(lambda: controller.stop_cause == "disengaged", "the cause")


def test_arming_needs_a_live_loop(controller: SerialController) -> None:
    with pytest.raises(BridgeError, match="no control loop is alive: start it first"):
        controller.arm()
    with pytest.raises(BridgeError, match="no stop or fault"):
        controller.clear_estop()


def test_closing_stops_the_motors(controller: SerialController, plant: RecordingPlant) -> None:
    with looping(controller, (5.0, 5.0)) as turns:
        drive(controller, plant, turns, (5_000, 5_000))
        controller.close()
        controller.close()
        plant.wait_for(State.LINKED)
    assert controller.telemetry().state is FirmwareState.OFFLINE
    with pytest.raises(BridgeError, match="was closed"):
        controller.connect()


def test_motors_that_vanish_are_a_fault(controller: SerialController, plant: RecordingPlant) -> None:
    plant.close()
    until(lambda: controller.telemetry().state is FirmwareState.FAULT, "the fault")
    assert controller.telemetry().faults == ("driver_lost",)
    controller.clear_estop()
    until(lambda: "latched" in controller.trouble, "the refusal")
    again = RecordingPlant(plant.path)
    try:
        again.wait_for(State.FAULT)
        controller.clear_estop()
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "it is well again")
    finally:
        controller.close()
        again.close()


def test_the_firmware_ends_with_its_parent(firmware_cache: None, kind: str, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from firmware_bridge import host_firmware\n"
        "print(host_firmware.start(link=Path(sys.argv[1]), prefer=sys.argv[2]).pid, flush=True); time.sleep(60)"
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", script, str(tmp_path / "port"), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    until(lambda: not _alive(pid), "the firmware ends")
    assert not (tmp_path / "port").is_symlink()


def _noise(controller: SerialController) -> int:
    counts = controller.device_counts
    return 0 if counts is None else counts.crc_errors + counts.cobs_errors + counts.overruns + counts.unknown


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
