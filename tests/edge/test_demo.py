"""The demo as a person starts it: three real processes, and the figures that the README promises."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DEADLINE_S = 120.0

KEYS = {
    "goals_tried", "goals_reached", "tick_hz", "camera_to_command_ms", "overhead_ms", "engine", "integer_gemms",
    "serial", "firmware",
}  # fmt: skip


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for a demo's temporary files, whose path is short enough for sockets wherever pytest keeps its own."""
    with tempfile.TemporaryDirectory(prefix="ll-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.parametrize("firmware", ["c", "python"])
def test_headless_demo_drives_and_reports(firmware: str, temporary: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "demo", "--headless", "--seconds", "10", "--json", "--firmware", firmware],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary.keys() >= KEYS
    assert summary["planned_ticks"] > 0
    assert summary["serial"]["crc_errors"] == 0
    assert summary["serial"]["acked"] > 0
    assert ("Python" in summary["firmware"]) is (firmware == "python")
    assert not list(temporary.glob("latentloop*")), "the demo left something behind"


@pytest.fixture
def demo(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """A headless demo without an end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "demo", "--headless"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    yield process
    process.kill()
    process.communicate()


def end(demo: subprocess.Popen[str]) -> str:
    """Ctrl-C; returns what the demo then says."""
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 0, err
    assert "Traceback" not in err
    return out


def test_ctrl_c_ends_it_cleanly(demo: subprocess.Popen[str], temporary: Path) -> None:
    assert demo.stdout is not None
    assert any(line.startswith("state") for line in demo.stdout)  # armed, and perhaps driving already
    assert "goals" in end(demo)
    assert not list(temporary.glob("latentloop*")), "the demo left something behind"


def test_after_a_fault_the_simulated_rover_goes_on_by_itself(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    assert any(line.startswith("state  on the way") for line in demo.stdout)
    demo.send_signal(signal.SIGSTOP)
    time.sleep(0.6)  # longer than the lease
    demo.send_signal(signal.SIGCONT)
    assert any(line.startswith("state  the firmware stopped the motors by itself") for line in demo.stdout)
    assert any(line.startswith("state  on the way") for line in demo.stdout)
    end(demo)


def test_kills_leave_nothing_moving_and_nothing_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "bench", "kill", "--kills", "2", "--lease-ms", "400", "--json"],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["episodes_lost"] == report["episodes_damaged"] == 0
    assert report["beliefs_restored"] == report["restarts"]
