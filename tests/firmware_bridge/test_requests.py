"""Repeating what was not answered: how often, how soon, and what a late answer still does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.messages import Ack, Arm, Code, Disarm, Message, Ping
from firmware_bridge.requests import TRIES, Requests
from firmware_bridge.round_trip import LONGEST_NS, SHORTEST_NS, UNMEASURED_NS, RoundTrip

MS = 1_000_000


def ack(kind: type[Message], seq: int) -> Ack:
    return Ack(seq, kind.TYPE, Code.OK)


# -- the timeout ---------------------------------------------------------------------------------------------------


def test_the_example_of_the_rfc() -> None:
    """RFC 6298 section 2, by hand: R = 60 ms gives 60 + 4 * 30; then R' = 100 ms."""
    trip = RoundTrip()
    assert trip.timeout_ns == UNMEASURED_NS
    trip.measured(60 * MS)
    assert trip.timeout_ns == 180 * MS
    trip.measured(100 * MS)
    variation, smoothed = 0.75 * 30 + 0.25 * 40, 0.875 * 60 + 0.125 * 100
    assert trip.timeout_ns == round((smoothed + 4 * variation) * MS)


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**12)), max_size=60))
def test_it_stays_between_its_ends(history: list[int | None]) -> None:
    """None: a question that ran out."""
    trip = RoundTrip()
    for took in history:
        before = trip.timeout_ns
        if took is None:
            trip.expired()
            assert trip.timeout_ns == min(LONGEST_NS, 2 * before)
        else:
            trip.measured(took)
        assert SHORTEST_NS <= trip.timeout_ns <= LONGEST_NS


def test_a_slow_line_settles_above_its_round_trip() -> None:
    """Klipper's issue 690: with a fixed 25 ms every question over such a line is asked twice."""
    trip, repeats = RoundTrip(), 0
    for took in [45 * MS + (i % 5) * MS for i in range(50)]:
        repeats += took > trip.timeout_ns
        trip.measured(took)
    assert repeats == 0
    assert 48 * MS < trip.timeout_ns < 100 * MS


# -- the requests --------------------------------------------------------------------------------------------------


def test_it_is_repeated_ever_later_and_then_given_up() -> None:
    trip = RoundTrip()
    trip.measured(MS)
    requests, sent = Requests(trip), [0]
    request = requests.add(Disarm(), 7, 0)
    for now in range(0, 3000 * MS, MS):
        if requests.due(now):
            sent.append(now)
        if request.done.is_set():
            break
    assert [after - before for before, after in pairwise(sent)] == [25 * MS, 50 * MS, 100 * MS, 200 * MS]
    assert len(sent) == TRIES
    assert request.code is None


def test_a_late_answer_to_a_repeated_question_counts_and_measures_nothing() -> None:
    trip = RoundTrip()
    trip.measured(MS)
    requests = Requests(trip)
    request = requests.add(Arm(1, 2), 9, 0)
    assert requests.due(25 * MS) == [request]
    waits = trip.timeout_ns
    assert requests.answered(ack(Arm, 9), 26 * MS) is request  # of the first or of the second question?
    assert request.done.is_set() and request.code == Code.OK
    assert trip.timeout_ns == waits == 50 * MS
    assert requests.answered(ack(Arm, 9), 51 * MS) is None
    assert requests.due(10_000 * MS) == []


def test_an_answer_to_an_unrepeated_question_measures() -> None:
    trip = RoundTrip()
    requests = Requests(trip)
    requests.add(Ping(), 1, 0)
    requests.answered(ack(Ping, 1), 200 * MS)
    assert trip.timeout_ns == LONGEST_NS


@pytest.mark.parametrize("answer", [ack(Arm, 4), ack(Disarm, 3)])
def test_an_answer_to_something_else_is_none(answer: Ack) -> None:
    requests = Requests(RoundTrip())
    request = requests.add(Arm(1, 2), 3, 0)
    assert requests.answered(answer, MS) is None
    assert not request.done.is_set()


def test_what_is_withdrawn_is_not_repeated() -> None:
    requests = Requests(RoundTrip())
    arm, disarm = requests.add(Arm(1, 2), 1, 0), requests.add(Disarm(), 2, 0)
    requests.withdraw(Arm)
    assert arm.done.is_set() and arm.code is None
    assert requests.due(1000 * MS) == [disarm]
    requests.withdraw()
    assert disarm.done.is_set()
