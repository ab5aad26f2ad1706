"""The restart policy as a table: how long it waits, when it forgets, when it gives up."""

from __future__ import annotations

import pytest

from edge.cameras.restarts import RestartPolicy, Restarts
from edge.clock import NS_PER_S

POLICY = RestartPolicy()
SHORT_NS = NS_PER_S
LONG_NS = round(POLICY.healthy_s * NS_PER_S)


def test_the_wait_doubles_up_to_its_bound_and_a_live_source_is_never_given_up() -> None:
    restarts = Restarts(POLICY, live=True)
    waits = [restarts.after_failure(SHORT_NS, 7) for _ in range(9)]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0])
    assert restarts.count == 9


@pytest.mark.parametrize(("ran_ns", "wait_s"), [(LONG_NS - 1, 0.8), (LONG_NS, 0.2)])
def test_a_healthy_run_begins_the_wait_anew(ran_ns: int, wait_s: float) -> None:
    restarts = Restarts(POLICY, live=True)
    for _ in range(2):
        restarts.after_failure(SHORT_NS, 0)
    assert restarts.after_failure(ran_ns, 10**6) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("places", "given_up_at"),
    [
        ([100, 100, 100], 2),  # where the last picture was, at each failure
        ([-1, -1, -1], 2),
        ([100, 115, 129], 2),  # decoders run ahead, so the same place is a neighbourhood
        ([100, 130, 160, 190, 220], None),  # new damage every second, but it gets on
        ([100, 100, 130, 130, 130], 4),
    ],
)
def test_a_file_is_given_up_at_the_third_failure_in_one_place(places: list[int], given_up_at: int | None) -> None:
    restarts = Restarts(POLICY, live=False)
    waits = [restarts.after_failure(SHORT_NS, place) for place in places]
    assert (waits.index(None) if None in waits else None) == given_up_at
