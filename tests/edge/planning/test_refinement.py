"""One round of the search on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.messages import Floats
from edge.planning.refinement import WORST, late_weights, rank_weights, refine, usable

K, A, ELITES = 3, 2, 2


def plans(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(-1, 1, (count, K, A)).astype(np.float32)


def centre(elites: Floats) -> Floats:
    return np.average(elites, axis=0, weights=rank_weights(ELITES))


def deviation(elites: Floats) -> Floats:
    return np.sqrt(np.average((elites - centre(elites)) ** 2, axis=0, weights=rank_weights(ELITES)))


def round_of(distance: list[float], noise: float = 0.0, inertia: float = 0.0) -> tuple[Floats, Floats, Floats, float]:
    actions = plans(len(distance))
    spread = np.full((1, K, A), 0.5, np.float32)
    drawn = np.full((len(distance) - 2 - ELITES, K, A), noise, np.float32)
    table = np.repeat(np.array(distance, np.float32)[:, None], K, axis=1)
    return actions, *refine(actions, table, np.full(K, 1 / K, np.float32), spread, drawn, inertia)


def test_the_next_plans_are_the_mean_standing_still_the_elites_and_new_ones() -> None:
    actions, refined, spread, cost = round_of([5, 4, 1, 3, 2, 6], noise=1.0)
    elites = actions[[2, 4]]
    assert cost == pytest.approx(1.0)
    np.testing.assert_allclose(refined[0], centre(elites), rtol=1e-5)
    assert not refined[1].any()
    np.testing.assert_array_equal(refined[2:4], elites)
    np.testing.assert_allclose(spread[0], deviation(elites), rtol=1e-5)
    np.testing.assert_allclose(refined[4], np.clip(refined[0] + spread[0], -1, 1), rtol=1e-6)


def test_inertia_keeps_its_share_of_the_old_mean_and_spread() -> None:
    actions, refined, spread, _ = round_of([5, 4, 1, 3, 2, 6], inertia=0.25)
    elites = actions[[2, 4]]
    np.testing.assert_allclose(refined[0], 0.25 * actions[0] + 0.75 * centre(elites), rtol=1e-5)
    np.testing.assert_allclose(spread[0], 0.25 * 0.5 + 0.75 * deviation(elites), rtol=1e-5)


@pytest.mark.parametrize("worst", [np.nan, np.inf, 2e30])
def test_what_is_not_a_number_is_no_elite_and_nothing_but_such_is_not_usable(worst: float) -> None:
    actions, refined, _, cost = round_of([worst, worst, worst, 3, 2, worst])
    np.testing.assert_array_equal(refined[2:4], actions[[4, 3]])
    assert usable(cost)
    assert not usable(round_of([worst] * 6)[3])
    assert not usable(WORST) and not usable(np.nan) and usable(0.0)


@given(noise=st.floats(-100, 100, width=32))
def test_no_plan_leaves_the_range(noise: float) -> None:
    assert np.abs(round_of([5, 4, 1, 3, 2, 6], noise=noise)[1]).max() <= 1.0


def test_better_elites_weigh_more() -> None:
    weights = rank_weights(6)
    assert weights.dtype == np.float32 and weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(weights, [0.4024, 0.2534, 0.1662, 0.1044, 0.0564, 0.0172], atol=1e-4)
    assert rank_weights(1) == 1.0


@pytest.mark.parametrize("lateness", [0.0, 1.0, 4.0])
def test_late_steps_count_more(lateness: float) -> None:
    weights = late_weights(5, lateness)
    assert weights.dtype == np.float32 and weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(weights / weights[-1], (np.arange(1, 6) / 5) ** lateness, rtol=1e-5)
