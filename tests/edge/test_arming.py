"""A simulated robot is armed again after faults, however often that is refused; never after a person took it back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from edge.arming import PATIENCE_S, arm_when_healthy, keep_armed
from edge.clock import NS_PER_S
from edge.messages import RobotState
from tests.edge.test_safety import Bench


class Script(threading.Event):
    """Instead of waiting does one thing after the other, then says stop."""

    def __init__(self, bench: Bench, *acts: Callable[[], object]) -> None:
        super().__init__()
        self._bench, self._acts = bench, list(acts)

    def wait(self, timeout: float | None = None) -> bool:
        self._bench.clock.advance_ns(round((timeout or 0.0) * NS_PER_S))
        if not self._acts:
            return True
        self._acts.pop(0)()
        self._bench.tick()
        return False


def fault(bench: Bench) -> None:
    bench.motors.faults, bench.motors.silent_ns = (), NS_PER_S
    bench.tick()
    assert bench.supervisor.state is RobotState.FAULT
    bench.motors.silent_ns = 0


def refuse(bench: Bench, why: str) -> None:
    bench.motors.refuse = why


def test_after_a_fault_it_is_armed_again_even_if_the_first_tries_are_refused() -> None:
    bench = Bench().armed()
    refuse(bench, "not now")
    acts = [lambda: fault(bench), lambda: None, lambda: refuse(bench, ""), lambda: None]
    keep_armed(bench.supervisor, Script(bench, *acts))
    assert bench.supervisor.state in (RobotState.ARMED, RobotState.ACTING)


@pytest.mark.parametrize("take_back", ["disarm", "emergency_stop"])
def test_what_a_person_took_back_stays(take_back: str) -> None:
    bench = Bench().armed()
    refuse(bench, "not now")
    supervisor = bench.supervisor

    def by_a_person() -> None:
        if take_back == "disarm":
            supervisor.disarm()
        else:
            supervisor.emergency_stop("the button")

    def clear() -> None:
        if take_back == "emergency_stop":
            supervisor.clear_stop()

    acts = [lambda: fault(bench), by_a_person, lambda: refuse(bench, ""), clear, lambda: None]
    keep_armed(supervisor, Script(bench, *acts))
    assert supervisor.state is RobotState.DISARMED


def test_arming_waits_for_health_and_gives_up_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    refuse(bench, "not now")
    assert arm_when_healthy(bench.supervisor, bench.clock, Script(bench, *([lambda: None] * 3), lambda: refuse(bench, "")))
    assert bench.supervisor.state is RobotState.ARMED
    bench = Bench()
    refuse(bench, "never")
    tries = round(PATIENCE_S / 0.1) + 10
    assert not arm_when_healthy(bench.supervisor, bench.clock, Script(bench, *([lambda: None] * tries)))
    assert "not armed: the firmware refused: never" in capsys.readouterr().err
