"""The measurements run and count right; what they measure is for the documentation, and no test."""

from __future__ import annotations

import shutil
import signal

import pytest

from firmware_bridge import measure

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


def silent(text: str) -> None: ...


def test_round_trips_and_steady_commands(firmware_cache: None) -> None:
    found = measure.round_trip("c", times=20)
    assert 0 < found["min"] <= found["median"] <= found["p99"] <= found["max"]
    steady = measure.steady("c", 1.0, 50.0, silent)
    assert steady["turns"] <= 51
    assert steady["host_percent"] == pytest.approx(steady["loop_percent"] + steady["bridge_process_percent"], abs=0.02)


@pytest.mark.parametrize("whole", [False, True])
def test_a_stop_is_measured_from_the_signal(firmware_cache: None, whole: bool) -> None:
    found = measure.stops("c", signal.SIGKILL, whole, trials=1, busy=0, note=silent)
    assert found["trials"] + found["stopped_before"] >= 1
    if found["trials"]:
        assert found["signal_to_safe_stop_ms"]["min"] > 0


def test_the_99th_percentile_is_one_of_the_values() -> None:
    assert measure._summary([float(value) for value in range(1, 101)]) == {"min": 1, "median": 50.5, "p99": 100, "max": 100}


def test_a_host_that_ends_before_it_moves_anything_is_no_trial(firmware_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_HOST", "raise SystemExit(3)")
    found = measure.stops("c", signal.SIGKILL, False, trials=1, busy=0, note=silent)
    assert (found["trials"], found["stopped_before"]) == (0, 1)
