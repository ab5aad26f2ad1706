"""The error bound of the clock estimate holds for every path that obeys causality; and how wrong it is on models of real lines.

``pytest -s tests/firmware_bridge/test_clock_sync.py`` prints the figures of the models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.clock_sync import DRIFT_PPM, ClockSync
from firmware_bridge.link_keeper import TIME_EVERY_NS

MS = 1_000_000


def device_ns(host_ns: int, offset_ns: int, ppm: float) -> int:
    return host_ns + offset_ns + int(host_ns * ppm / 1e6)


@given(
    offset_ns=st.integers(0, 2**62),
    ppm=st.floats(-DRIFT_PPM / 2, DRIFT_PPM / 2),
    paths=st.lists(
        st.tuples(st.integers(0, 30 * MS), st.integers(0, 30 * MS), st.integers(0, 5 * MS), st.integers(1, 3000 * MS)),
        min_size=1,
        max_size=80,
    ),
    later=st.integers(0, 60_000 * MS),
)
def test_the_bound_holds(offset_ns: int, ppm: float, paths: list[tuple[int, int, int, int]], later: int) -> None:
    """paths: there, back, inside the device, and the pause before the exchange, ns."""
    sync, now = ClockSync(), 0
    for there, back, inside, pause in paths:
        sent = now + pause
        rx, tx = sent + there, sent + there + inside
        now = tx + back
        sync.add(sent, device_ns(rx, offset_ns, ppm) // 1000, device_ns(tx, offset_ns, ppm) // 1000, now)
    assert sync.ready
    now += later
    truth_us = device_ns(now, offset_ns, ppm) // 1000
    error_us = (sync.to_device_us(now) - truth_us + 2**31) % 2**32 - 2**31
    assert abs(error_us) * 1000 <= sync.error_bound_ns(now) + 2000  # rounding to whole microseconds, twice


def test_a_question_that_was_held_up_does_not_move_the_line_but_a_slower_line_does() -> None:
    sync = ClockSync()

    def exchange(second: int, there_us: int) -> None:
        at_us = second * 1_000_000 + there_us
        sync.add(second * 1000 * MS, at_us, at_us, (at_us + 19_900) * 1000)

    for second in range(30):
        exchange(second, 100)
    before = sync.to_device_us(30_000 * MS)
    exchange(30, 15_000)
    assert abs(sync.to_device_us(30_000 * MS) - before) < 5
    for second in range(31, 60):
        exchange(second, 15_000)
    assert sync.to_device_us(59_000 * MS) - 59_000_000 > before - 30_000_000 + 5_000


def test_a_device_clock_that_jumps_is_followed() -> None:
    sync = ClockSync()
    for second in range(10):
        sync.add(second * 1000 * MS, second * 1_000_000 + 50, second * 1_000_000 + 60, second * 1000 * MS + MS // 5)
    sync.add(10_000 * MS, 70_000_050, 70_000_060, 10_000 * MS + MS // 5)
    assert abs(sync.to_device_us(10_000 * MS) - 70_000_000) < 100


@pytest.mark.parametrize("exchange", [(10_000, 0, 0, 9_000), (0, 5, 4, 10_000), (0, 0, 9, 8_000)])
def test_impossible_exchanges_are_ignored(exchange: tuple[int, int, int, int]) -> None:
    sync = ClockSync()
    sync.add(*exchange)
    assert not sync.ready


@given(at=st.integers(0, 2**64), behind_us=st.integers(-(2**30), 2**30))
def test_device_time_comes_back_across_the_wrap(at: int, behind_us: int) -> None:
    sync = ClockSync()
    sync.add(0, 2**32 - 7, 2**32 - 7, 2_000)
    host = at + behind_us * 1000
    back = sync.to_host_ns(sync.to_device_us(host), at)
    assert abs(back - host) <= 2_000


# -- models of lines -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LineModel:
    """Ways there and back in us: a constant, an exponential jitter, a wait spread evenly (until the next USB poll or the
    latency timer), and in some of a hundred ways a spike of up to 20 ms. worst_p95_us: what the estimate must reach."""

    name: str
    there_us: float
    back_us: float
    jitter_us: float
    back_wait_us: float
    spikes_percent: float
    worst_p95_us: float

    def there(self, draw: random.Random) -> float:
        return self.there_us + self._noise(draw)

    def back(self, draw: random.Random) -> float:
        return self.back_us + draw.uniform(0, self.back_wait_us) + self._noise(draw)

    def _noise(self, draw: random.Random) -> float:
        spike = draw.uniform(0, 20_000) if draw.uniform(0, 100) < self.spikes_percent else 0.0
        return draw.expovariate(1 / self.jitter_us) + spike


MODELS = (
    LineModel("USB-CDC, 0.2 ms there and 0.6 ms back", 200, 600, 100, 0, 2, worst_p95_us=150),
    LineModel("FTDI with its latency timer at 16 ms", 300, 300, 100, 16_000, 2, worst_p95_us=500),
    LineModel("UART of a SoC, 1 Mbaud", 280, 380, 20, 0, 0, worst_p95_us=100),
)
MINUTES = 10


def errors(model: LineModel, ppm: float, seed: int) -> list[tuple[float, float]]:
    """Error and published bound, us, three times after each exchange, from the end of the handshake on. Exchanges come as the
    controller makes them: eight in the handshake, then one every 0.98 s."""
    draw, sync, found = random.Random(seed), ClockSync(), []

    def device_us(host_us: float) -> float:
        return host_us * (1 + ppm / 1e6) + 5e6

    sent_us, beginning = 1e9, 8
    for turn in range(beginning + MINUTES * 60):
        rx_us = sent_us + model.there(draw)
        tx_us = rx_us + 20
        arrived_us = tx_us + model.back(draw)
        sync.add(int(sent_us * 1e3), int(device_us(rx_us)), int(device_us(tx_us)), int(arrived_us * 1e3))
        next_us = arrived_us + (1_000 if turn < beginning - 1 else TIME_EVERY_NS / 1e3)
        for later in (0.0, 0.5, 0.99) if turn >= beginning - 1 else ():
            at_us = arrived_us + later * (next_us - arrived_us)
            off_us = (sync.to_device_us(int(at_us * 1e3)) - int(device_us(at_us)) + 2**31) % 2**32 - 2**31
            found.append((abs(off_us), sync.error_bound_ns(int(at_us * 1e3)) / 1e3))
        sent_us = next_us
    return found


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_how_wrong_it_is_on_models_of_lines(model: LineModel) -> None:
    found = [each for ppm in (-30, 30) for seed in range(3) for each in errors(model, ppm, seed)]
    off, bounds = (sorted(values) for values in zip(*found, strict=True))
    p95 = off[int(0.95 * len(off))]
    print(
        f"\n{model.name}: offset error {off[len(off) // 2]:.0f} us at the median, {p95:.0f} us at the 95th percentile; "
        f"published bound {bounds[len(bounds) // 2]:.0f} us at the median"
    )
    assert p95 <= model.worst_p95_us
    assert all(error <= bound + 2 for error, bound in found)  # two roundings to whole microseconds

