"""The states of the guard, as a table: from where, on what, to where."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.controller import BridgeError, FirmwareState
from firmware_bridge.drivers.guard import ENGAGE_WITHIN_NS, Guard

MS = 1_000_000
ALIVE = 10_000 * MS
S = FirmwareState


def linked() -> Guard:
    guard = Guard()
    guard.linked()
    guard.beat(ALIVE, True)
    return guard


def active() -> Guard:
    guard = linked()
    guard.may_arm(0)
    guard.armed(0)
    guard.commanded(ALIVE)
    guard.step(0, False)
    return guard


def after(guard: Guard, act: Callable[[Guard], object]) -> Guard:
    act(guard)
    return guard


def stopping() -> Guard:
    return after(active(), lambda g: (g.beat(0, True), g.step(1, False)))


def safe() -> Guard:
    return after(stopping(), lambda g: g.step(2, True))


def stopped() -> Guard:
    return after(active(), Guard.estop)


def broken() -> Guard:
    return after(active(), lambda g: g.fault(("hot",)))


TABLE = [
    (Guard, lambda g: g.linked(), S.LINKED),
    (linked, lambda g: (g.may_arm(0), g.armed(0)), S.ACTIVE),
    (linked, lambda g: g.disarm(), S.LINKED),
    (linked, lambda g: g.estop(), S.ESTOP),
    (linked, lambda g: g.fault(("hot",)), S.FAULT),
    (linked, lambda g: g.lost(), S.OFFLINE),
    (active, lambda g: g.step(ALIVE - 1, False), S.ACTIVE),
    (active, lambda g: g.step(ALIVE, False), S.SAFE_STOP),
    (active, lambda g: (g.beat(ALIVE, False), g.step(1, False)), S.SAFE_STOP),
    (active, lambda g: (g.commanded(5), g.step(5, False)), S.SAFE_STOP),
    (active, lambda g: g.disarm(), S.SAFE_STOP),
    (active, lambda g: g.estop(), S.ESTOP),
    (active, lambda g: g.lost(), S.OFFLINE),
    (stopping, lambda g: g.step(2, False), S.SAFE_STOP),
    (stopping, lambda g: g.step(2, True), S.SAFE),
    (stopping, lambda g: (g.disarm(), g.step(2, True)), S.LINKED),
    (stopping, lambda g: g.beat(ALIVE, True), S.SAFE_STOP),
    (stopping, lambda g: g.fault(("hot",)), S.FAULT),
    (safe, lambda g: (g.beat(ALIVE, True), g.may_arm(3), g.armed(3)), S.ACTIVE),
    (safe, lambda g: g.disarm(), S.LINKED),
    (safe, lambda g: (g.beat(ALIVE, True), g.commanded(ALIVE), g.step(3, True)), S.SAFE),
    (stopped, lambda g: g.disarm(), S.ESTOP),
    (stopped, lambda g: g.fault(("hot",)), S.ESTOP),
    (stopped, lambda g: (g.lost(), g.linked()), S.ESTOP),
    (stopped, lambda g: g.clear(), S.LINKED),
    (broken, lambda g: g.fault(()), S.FAULT),
    (broken, lambda g: (g.fault(()), g.clear()), S.LINKED),
    (broken, lambda g: g.estop(), S.ESTOP),
    (Guard, lambda g: (g.estop(), g.linked()), S.ESTOP),
]


@pytest.mark.parametrize(("start", "act", "state"), TABLE)
def test_transition(start: Callable[[], Guard], act: Callable[[Guard], object], state: FirmwareState) -> None:
    assert after(start(), act).state is state


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (Guard, "do not answer"),
        (stopped, "stopped with estop"),
        (broken, "hot"),
        (stopping, "no control loop"),
        (lambda: after(linked(), lambda g: g.beat(0, True)), "no control loop"),
    ],
)
def test_arming_is_refused_with_the_reason(start: Callable[[], Guard], why: str) -> None:
    with pytest.raises(BridgeError, match=why):
        start().may_arm(1)


def test_a_loop_that_does_not_engage_after_arming_is_given_a_second() -> None:
    guard = linked()
    guard.beat(ALIVE, False)
    guard.armed(0)
    guard.step(ENGAGE_WITHIN_NS - 1, True)
    assert guard.state is S.ACTIVE
    guard.step(ENGAGE_WITHIN_NS, True)
    assert guard.state is S.SAFE


def test_faults_are_named_together_and_not_cleared_while_present() -> None:
    guard = broken()
    guard.fault(("hot", "weak"))
    assert guard.faults == ("hot", "weak")
    with pytest.raises(BridgeError, match="still there"):
        guard.clear()
    with pytest.raises(BridgeError, match="no stop or fault"):
        linked().may_clear()


ACTS: list[Callable[[Guard, int], object]] = [
    lambda g, t: g.linked() if g.state is S.OFFLINE else None,
    lambda g, t: g.lost(),
    lambda g, t: g.disarm(),
    lambda g, t: g.estop(),
    lambda g, t: g.beat(t + 50, True),
    lambda g, t: g.beat(t + 50, False),
    lambda g, t: g.commanded(t + 50),
    lambda g, t: g.fault(("hot",)),
    lambda g, t: g.fault(()),
]


@given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 60), st.booleans()), max_size=80))
def test_only_arming_makes_it_active(acts: list[tuple[Callable[[Guard, int], object], int, bool]]) -> None:
    guard, now = Guard(), 0
    for act, later, standing in acts:
        now += later
        act(guard, now)
        guard.step(now, standing)
        assert guard.state is not S.ACTIVE
