"""The debounced alarm on injected times: each delay from both sides, at any frame rate, with gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.surprise import Alarm, AlarmRule

ODD, FINE, BAND = 1e-6, 0.5, 3e-3
RULE = AlarmRule()


def play(alarm: Alarm, p_values: list[float], rate: float, start_s: float = 0.0) -> list[tuple[float, bool, bool]]:
    """(seconds, onset, alarmed) per frame."""
    told = []
    for number, p_value in enumerate(p_values):
        at_s = start_s + number / rate
        onset = alarm.update(p_value, round(at_s * NS_PER_S))
        told.append((at_s, onset, alarm.alarmed))
    return told


def onsets(told: list[tuple[float, bool, bool]]) -> list[float]:
    return [at_s for at_s, onset, _ in told if onset]


# rate in Hz, delay from the first anomalous frame to the onset in s
ONSET_DELAYS = [(30.0, 16 / 30), (25.0, 13 / 25), (12.5, 6 / 12.5), (10.0, 0.5), (5.0, 0.4), (2.0, 1.0), (1.0, 2.0)]


@pytest.mark.parametrize(("rate", "delay"), ONSET_DELAYS)
def test_a_persistent_anomaly_is_an_alarm_after_the_on_delay(rate: float, delay: float) -> None:
    calm = [FINE] * 40
    told = play(Alarm(RULE), calm + [ODD] * 40, rate)
    assert onsets(told) == pytest.approx([40 / rate + delay])
    if rate >= 5.0:
        assert delay <= 0.6


@pytest.mark.parametrize(("odd", "alarmed"), [(5, False), (6, True)])
def test_six_of_ten_at_ten_hertz(odd: int, alarmed: bool) -> None:
    spread = [ODD if number * odd % 10 < odd else FINE for number in range(10)]
    assert sum(p == ODD for p in spread) == odd
    told = play(Alarm(RULE), [FINE] * 20 + spread * 3, 10.0)
    assert bool(onsets(told)) == alarmed


@pytest.mark.parametrize("jitter_ms", [0, 3, 7])
def test_jitter_does_not_cost_the_on_delay(jitter_ms: int) -> None:
    alarm = Alarm(RULE)
    found = None
    for number in range(60):
        at_ns = number * 100_000_000 + (jitter_ms if number % 2 else -jitter_ms) * 1_000_000 + NS_PER_S
        if alarm.update(ODD if number >= 40 else FINE, at_ns):
            found = number
            break
    assert found == 45


@pytest.mark.parametrize(("p_value", "counts"), [(1e-3, True), (1.0001e-3, False)])
def test_the_limit_itself_counts_as_anomalous(p_value: float, counts: bool) -> None:
    assert bool(onsets(play(Alarm(RULE), [FINE] * 10 + [p_value] * 20, 10.0))) == counts


@pytest.mark.parametrize(("clear_frames", "alarmed"), [(19, True), (20, False)])
def test_the_alarm_ends_after_the_off_delay(clear_frames: int, alarmed: bool) -> None:
    told = play(Alarm(RULE), [ODD] * 20 + [FINE] * clear_frames, 10.0)
    assert told[19][2] and told[-1][2] == alarmed


@pytest.mark.parametrize(("p_value", "ends"), [(BAND, False), (5e-3, False), (5.001e-3, True)])
def test_frames_in_the_dead_band_hold_the_alarm(p_value: float, ends: bool) -> None:
    told = play(Alarm(RULE), [ODD] * 20 + [p_value] * 60, 10.0)
    assert told[-1][2] != ends


def test_one_odd_frame_restarts_the_off_delay() -> None:
    told = play(Alarm(RULE), [ODD] * 20 + [FINE] * 15 + [ODD] + [FINE] * 19, 10.0)
    assert told[-1][2]
    assert len(onsets(told)) == 1, "the same alarm, not a second one"


def test_a_persistent_anomaly_is_one_alarm_that_does_not_fade() -> None:
    told = play(Alarm(RULE), [FINE] * 10 + [ODD] * 6000, 10.0)
    assert len(onsets(told)) == 1
    assert told[-1][2]


def test_single_odd_frames_are_no_alarm_even_in_a_slow_or_stalled_stream() -> None:
    assert not onsets(play(Alarm(RULE), ([FINE] * 9 + [ODD]) * 20, 10.0))
    alarm = Alarm(RULE)
    for at_s, p_value in ((0, FINE), (10, ODD), (20, ODD), (21, FINE), (22, FINE), (23, FINE), (30, ODD)):
        assert not alarm.update(p_value, at_s * NS_PER_S)


def test_a_gap_is_no_evidence_for_the_end_either() -> None:
    alarm = Alarm(RULE)
    play(alarm, [ODD] * 20, 10.0)
    alarm.update(FINE, 600 * NS_PER_S)
    assert alarm.alarmed


def test_the_same_frame_twice_changes_nothing() -> None:
    alarm, once = Alarm(RULE), Alarm(RULE)
    twice = [alarm.update(ODD, number // 2 * 100_000_000) for number in range(40)]
    assert twice[::2] == [once.update(ODD, number * 100_000_000) for number in range(20)]
    assert not any(twice[1::2])


def test_a_file_that_begins_anew_empties_the_window() -> None:
    alarm = Alarm(RULE)
    play(alarm, [ODD] * 5, 10.0, start_s=100.0)
    told = play(alarm, [ODD] * 8, 10.0)
    assert onsets(told) == pytest.approx([0.6])


@given(st.lists(st.tuples(st.sampled_from([ODD, BAND, FINE]), st.integers(-50, 900)), max_size=200))
def test_onset_is_exactly_the_step_into_alarm(frames: list[tuple[float, int]]) -> None:
    alarm = Alarm(RULE)
    at_ms, before = 10_000, False
    for p_value, step_ms in frames:
        at_ms += step_ms
        onset = alarm.update(p_value, at_ms * 1_000_000)
        assert onset == (alarm.alarmed and not before)
        assert not onset or p_value == ODD
        before = alarm.alarmed


@pytest.mark.parametrize(
    "bad",
    [{"alarm_p": 0.0}, {"alarm_p": 1.0}, {"clear_factor": 0.5}, {"on_s": 1.0}, {"off_s": -1.0}, {"min_frames": 0}],
)
def test_senseless_rules_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="an alarm rule needs"):
        AlarmRule(**bad)  # type: ignore[arg-type]
