"""The measures of the INT8 report, on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from edge.engines.trial import spearman
from export.verify import (
    action_report,
    auroc,
    growth_report,
    latent_report,
    plan_report,
    rollout_report,
    share_of_variance,
    step_distances,
    step_errors,
)


def test_spearman_is_about_order_only():
    costs = np.random.default_rng(0).normal(size=50).astype(np.float32)
    assert spearman(costs, np.exp(costs)) == pytest.approx(1.0)
    assert spearman(costs, -costs) == pytest.approx(-1.0)
    assert spearman(np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 6, 7, 8, 7.5])) == pytest.approx(0.9)  # by hand


def test_latents_are_compared_row_by_row():
    exact = np.array([[[3.0, 4.0]], [[0.0, 2.0]]], np.float32)
    report = latent_report(exact, np.array([[[3.0, 4.0]], [[2.0, 0.0]]], np.float32))
    assert (report["cosine"], report["worst_cosine"]) == (0.5, 0.0)
    assert report["worst_relative_error"] == pytest.approx(np.sqrt(2), rel=1e-4)


def test_rollouts_are_compared_at_the_first_the_middle_and_the_last_step():
    truth = np.random.default_rng(0).normal(size=(40, 5, 1, 8)).astype(np.float32)
    drift = np.arange(5, dtype=np.float32)[None, :, None, None]
    report = rollout_report(truth, truth + drift, truth)
    variance = truth.var(axis=(0, 1)).mean()
    assert report["fp32_error_at_5"] == 0.0 and report["int8_to_fp32_at_1"] == 0.0
    assert report["int8_error_at_3"] == pytest.approx(4.0 / variance, rel=1e-4)
    assert report["int8_error_at_5"] == pytest.approx(16.0 / variance, rel=1e-4)


def test_regret_is_what_the_other_choice_costs():
    exact = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], np.float32)
    quantized = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0]], np.float32)
    report = plan_report(exact, quantized)
    assert report["same_best"] == 0.5
    assert report["regret"] == 0.5  # half of the states, each by one whole spread to the median
    assert report["worst_rank_correlation"] == 0.5


def test_growth_is_the_relative_error_of_whole_latents():
    exact = np.full((2, 5, 1, 4), 2.0, np.float32)
    wrong = exact * (1.0 + np.arange(5, dtype=np.float32)[None, :, None, None] / 10.0)
    assert growth_report(exact, wrong) == pytest.approx(
        {"relative_error_at_1": 0.0, "relative_error_at_3": 0.2, "relative_error_at_5": 0.4}, abs=1e-4
    )


def test_the_share_of_variance_sees_through_a_large_constant():
    exact = np.random.default_rng(0).normal(size=(6, 5, 1, 8)).astype(np.float32)
    wrong = exact + np.float32(0.5)
    share = share_of_variance(exact, wrong)
    assert share == pytest.approx(0.25 / exact.var(axis=(0, 1)).mean(), rel=1e-3)
    assert share_of_variance(exact + 1000, wrong + 1000) == pytest.approx(share, rel=1e-2)
    assert share_of_variance(np.ones_like(exact), wrong) == np.inf


def test_the_same_action_is_one_within_a_twentieth_of_the_range():
    one = np.array([[0.0, 0.5], [0.0, 0.5], [-1.0, 1.0]], np.float32)
    other = one + np.array([[0.05, -0.09], [0.0, 0.11], [0.0, 0.0]], np.float32)
    report = action_report(one, other)
    assert report["action_agreement"] == pytest.approx(2 / 3, abs=1e-4)
    assert report["action_difference"] == pytest.approx(0.25 / 6, rel=1e-3)
    costs = np.array([[1.0, 2.0, 3.0]], np.float32)
    firsts = np.array([[[0.0], [0.05], [1.0]]], np.float32)
    near = plan_report(costs, np.array([[2.0, 1.0, 3.0]], np.float32), firsts)
    far = plan_report(costs, np.array([[2.0, 3.0, 1.0]], np.float32), firsts)
    assert (near["same_best"], near["action_agreement"], far["action_agreement"]) == (0.0, 1.0, 0.0)


def test_auroc_is_the_chance_to_rank_a_pair_rightly():
    rng = np.random.default_rng(3)
    normal, anomalous = rng.normal(size=80).round(1), rng.normal(0.7, size=50).round(1)  # rounded: ties must count half
    pairs = anomalous[:, None] - normal
    assert auroc(anomalous, normal) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert auroc(normal + 100, normal) == 1.0 and auroc(normal, normal) == 0.5


def test_steps_are_measured_one_by_one():
    exact = np.full((2, 3, 1, 4), 2.0, np.float32)
    wrong = exact * np.array([1.0, 1.1, 1.2], np.float32)[None, :, None, None]
    np.testing.assert_allclose(step_errors(exact, wrong), [[0.0, 0.1, 0.2]] * 2, atol=1e-6)
    truth = np.random.default_rng(0).normal(size=(500, 3, 1, 4)).astype(np.float32)
    np.testing.assert_allclose(step_distances(np.full_like(truth, truth.mean()), truth), 1.0, rtol=0.1)
    assert step_distances(truth, truth).max() == 0.0
