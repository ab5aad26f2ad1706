"""P-values: super-uniform on exchangeable data, monotone, honest about dependence; files that are broken say so."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.surprise.calibration import MIN_FRAMES, AlarmCalibration, CalibrationError, correlation_time, fit_tail, of_two

BUNDLE = "d" * 64


def fitted(frames: int = 200, tokens: int = 1, seed: int = 0) -> AlarmCalibration:
    draw = np.random.default_rng(seed)
    errors = draw.exponential(size=frames).astype(np.float32)
    distances = draw.exponential(size=(frames, tokens)).astype(np.float32)
    return AlarmCalibration.fit(errors, distances, grid=None, bundle_sha256=BUNDLE, made_from="dice")


@pytest.mark.parametrize("law", ["exponential", "uniform", "pareto", "rounded"])
@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.2, 0.5])
def test_p_values_are_super_uniform_on_exchangeable_scores(law: str, alpha: float) -> None:
    """P(p <= alpha) <= alpha over calibration and test together; checked within three standard deviations."""
    draw = np.random.default_rng(17)
    trials, hits = 1500, 0
    for _ in range(trials):
        scores = {
            "exponential": lambda: draw.exponential(size=101),
            "uniform": lambda: draw.random(101),
            "pareto": lambda: draw.pareto(2.0, 101),
            "rounded": lambda: np.floor(draw.exponential(size=101) * 3),
        }[law]()
        hits += fit_tail(scores[:100]).p_value(float(scores[100])) <= alpha
    assert hits / trials <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)


def test_p_values_are_not_uselessly_large_on_independent_scores() -> None:
    draw = np.random.default_rng(3)
    tail = fit_tail(draw.exponential(size=2000))
    fresh = draw.exponential(size=4000)
    for alpha in (0.05, 0.2):
        assert np.mean([tail.p_value(float(score)) <= alpha for score in fresh]) >= 0.7 * alpha


@pytest.mark.parametrize(("law", "allowed"), [("exponential", 3.0), ("pareto", 6.0), ("uniform", 3.0)])
def test_extrapolated_p_values_are_of_the_right_order(law: str, allowed: float) -> None:
    """Below 1 / (m + 1) the tail is a model: on average over calibrations it may err by the stated factor only."""
    draw = np.random.default_rng(23)
    alpha = 1e-4
    true: list[float] = []
    for _ in range(40):
        scores = {
            "exponential": lambda: draw.exponential(size=1000),
            "pareto": lambda: draw.pareto(3.0, 1000),
            "uniform": lambda: draw.random(1000),
        }[law]()
        limit = fit_tail(scores).score_at(alpha)
        true.append(
            {"exponential": math.exp(-limit), "pareto": (1 + limit) ** -3.0, "uniform": max(0.0, 1 - limit)}[law]
        )
    assert np.mean(true) <= allowed * alpha


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=20, max_size=200),
    st.lists(st.floats(-10, 1e7), min_size=2, max_size=30),
)
def test_p_values_fall_with_the_score_and_stay_in_range(scores: list[float], queries: list[float]) -> None:
    tail = fit_tail(np.array(scores))
    p_values = [tail.p_value(query) for query in sorted(queries)]
    assert all(0.0 < p <= 1.0 for p in p_values)
    assert all(later <= earlier for earlier, later in itertools.pairwise(p_values))
    below_all = tail.p_value(min(scores) - 1.0)
    assert below_all == 1.0


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e3), min_size=20, max_size=100),
    st.sampled_from([0.5, 0.1, 0.03, 1e-3, 1e-5]),
)
def test_the_threshold_is_where_the_p_value_crosses(scores: list[float], wanted: float) -> None:
    tail = fit_tail(np.array(scores))
    limit = tail.score_at(wanted)
    assert tail.p_value(limit + 1e-9 + 1e-6 * abs(limit)) <= wanted * (1 + 1e-3)
    if wanted <= 1.0 / (tail.effective + 1.0):
        assert tail.p_value(limit) == pytest.approx(wanted, rel=1e-3)


def test_extrapolation_begins_at_the_highest_score_and_is_continuous_there() -> None:
    tail = fit_tail(np.random.default_rng(0).exponential(size=300))
    highest = tail.scores[-1]
    assert not tail.extrapolated(highest)
    assert tail.extrapolated(math.nextafter(highest, math.inf))
    assert tail.p_value(highest * (1 + 1e-12)) == pytest.approx(1 / (tail.effective + 1), rel=1e-6)
    assert tail.p_value(highest) == pytest.approx((1 + tail.effective / 300) / (tail.effective + 1))
    assert tail.p_value(math.nan) == tail.p_value(math.inf) == pytest.approx(1e-12)


def autoregressive(frames: int, memory: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    values = np.empty(frames)
    value = draw.standard_normal()
    for frame in range(frames):
        value = memory * value + math.sqrt(1 - memory**2) * draw.standard_normal()
        values[frame] = value
    return values


@pytest.mark.parametrize(("memory", "low", "high"), [(0.0, 1.0, 1.6), (0.8, 5.0, 14.0), (0.95, 18.0, 70.0)])
def test_correlated_frames_count_for_fewer(memory: float, low: float, high: float) -> None:
    """The true time of an AR(1) process is (1 + r) / (1 - r): 1, 9 and 39 frames."""
    found = np.median([correlation_time(autoregressive(3000, memory, seed)) for seed in range(7)])
    assert low <= found <= high
    tail = fit_tail(autoregressive(3000, memory, 1))
    assert tail.effective == pytest.approx(3000 / correlation_time(autoregressive(3000, memory, 1)))


def test_dependence_makes_the_p_value_larger_never_smaller() -> None:
    scores = autoregressive(1000, 0.95, 0)
    shuffled = np.random.default_rng(0).permutation(scores)
    dependent, independent = fit_tail(scores), fit_tail(shuffled)
    for query in np.linspace(scores.min(), scores.max() + 3, 50):
        assert dependent.p_value(float(query)) >= independent.p_value(float(query)) - 1e-12


def test_of_two_p_values_the_smaller_counts_double() -> None:
    """P(min of two, Bonferroni <= alpha) <= alpha, independent or not."""
    draw = np.random.default_rng(5)
    pairs = draw.random((20_000, 2))
    for first, second in (pairs.T, (pairs[:, 0], pairs[:, 0]), (pairs[:, 0], 1.0 - pairs[:, 0])):
        least = np.array([of_two(min(a, b)) for a, b in zip(first, second, strict=True)])
        assert least.max() <= 1.0
        for alpha in (0.02, 0.2):
            assert (least <= alpha).mean() <= 1.1 * alpha


def test_one_threshold_is_equally_strict_for_both_scores() -> None:
    draw = np.random.default_rng(1)
    fast, slow = draw.random(2000), autoregressive(2000, 0.95, 0)
    calibration = AlarmCalibration.fit(
        fast.astype(np.float32), slow[:, None].astype(np.float32), grid=None, bundle_sha256=BUNDLE, made_from="dice"
    )
    assert calibration.error.effective == calibration.unfamiliarity.effective == pytest.approx(fit_tail(slow).effective, rel=1e-3)


def test_footage_without_variation_does_not_make_rounding_an_alarm() -> None:
    tail = fit_tail(np.full(100, 2.0))
    assert tail.p_value(2.0) == 1.0
    assert tail.p_value(2.0 + 1e-6) > 0.005
    assert tail.p_value(2.1) < 1e-6
    assert fit_tail(np.zeros(100)).p_value(0.0) == 1.0


def test_a_patch_that_always_moves_does_not_set_the_limit_for_a_still_one() -> None:
    draw = np.random.default_rng(0)
    level = np.ones(192, dtype=np.float32)
    level[:6] = 20.0
    scores = (draw.exponential(size=(600, 192)) * level).astype(np.float32)
    calibration = AlarmCalibration.fit(scores[:, 0], scores, grid=None, bundle_sha256=BUNDLE, made_from="dice")
    levels = np.array(calibration.levels)
    assert 15.0 < levels[:6].mean() < 25.0
    assert (levels[6:] < 1.6).all()


def test_calibration_works_on_few_frames_and_on_very_many() -> None:
    assert fitted(MIN_FRAMES).frames == MIN_FRAMES
    many = fit_tail(np.random.default_rng(0).exponential(size=50_000))
    assert len(many.scores) <= 20_000


def test_bad_arrays_are_one_sentence() -> None:
    good = np.ones((100, 2), dtype=np.float32)
    broken = good.copy()
    broken[3, 1] = np.nan
    for errors, distances, words in (
        (good[:49, 0], good, "dice gave 49 frames"),
        (good[:, 0], good[:48], "dice gave 48 frames"),
        (good[:, 0], broken, "not finite"),
        (broken[:, 1], good, "not finite"),
    ):
        with pytest.raises(CalibrationError, match=words):
            AlarmCalibration.fit(errors, distances, grid=None, bundle_sha256=BUNDLE, made_from="dice")


@pytest.mark.parametrize("tokens", [1, 12])
def test_the_file_brings_back_the_same_calibration(tmp_path: Path, tokens: int) -> None:
    calibration = fitted(100, tokens)
    path = tmp_path / "deep" / "alarms.json"
    calibration.save(path)
    calibration.save(path)
    assert AlarmCalibration.load(path, bundle_sha256=BUNDLE, tokens=tokens) == calibration
    assert [p.name for p in path.parent.iterdir()] == ["alarms.json"], "no half-written leftovers"
    assert json.loads(path.read_text())["made_from"] == "dice"


def changed(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 1}, "has format 1 and this program reads 2"),
        ({"bundle_sha256": "e" * 64}, "made for bundle eeeeeeeeeeee and this is dddddddddddd"),
        ({"tokens": 2, "levels": [1, 1]}, "made for 2 tokens"),
        ({"levels": []}, "levels needs 1 numbers"),
        ({"levels": [0.0]}, "levels needs 1 numbers"),
        ({"surplus": 1}, "surplus"),
        ({"frames": "many"}, "frames"),
        ({"error": {"scores": [2.0, 1.0], "effective": 2, "threshold": 0.5, "shape": 0, "scale": 1}}, "sorted"),
        ({"error": {"scores": [1.0], "effective": 1, "threshold": 0.5, "shape": 0, "scale": 0}}, "out of range"),
        ({"error": {"scores": [], "effective": 1, "threshold": 0.5, "shape": 0, "scale": 1}}, "at least one"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "alarms.json"
    fitted().save(path)
    changed(path, **change)
    with pytest.raises(CalibrationError, match=words) as refused:
        AlarmCalibration.load(path, bundle_sha256=BUNDLE, tokens=1)
    assert str(path) in str(refused.value) and "run 'latentloop calibrate alarms' again" in str(refused.value)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_damage_to_the_file_is_one_sentence_or_still_valid(data: st.DataObject, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("alarms") / "alarms.json"
    content = bytearray(msgspec.json.encode(fitted(60)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    path.write_bytes(content)
    try:
        AlarmCalibration.load(path, bundle_sha256=BUNDLE, tokens=1)
    except CalibrationError as error:
        assert str(path) in str(error)


def test_missing_and_unwritable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        AlarmCalibration.load(tmp_path / "none.json", bundle_sha256=BUNDLE, tokens=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match="cannot be written"):
        fitted().save(tmp_path / "file" / "alarms.json")
