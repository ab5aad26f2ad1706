"""What quantization cost: INT8 held against FP32, in the terms that matter to the loop and the planner."""

from __future__ import annotations

import numpy as np

from edge.engines.trial import spearman
from edge.messages import Floats

SAME_ACTION = 0.1
"""Actions that differ by no more count as the same: a twentieth of an axis's range."""


def latent_report(exact: Floats, quantized: Floats) -> dict[str, float]:
    """Latents (..., D): cosine (mean, worst) and relative error, ||a - b|| / ||a|| (mean, worst)."""
    a, b = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (exact, quantized))
    norms = np.linalg.norm(a, axis=1)
    cosine = (a * b).sum(axis=1) / (norms * np.linalg.norm(b, axis=1))
    error = np.linalg.norm(a - b, axis=1) / norms
    return _rounded(
        {
            "cosine": cosine.mean(),
            "worst_cosine": cosine.min(),
            "relative_error": error.mean(),
            "worst_relative_error": error.max(),
        }
    )


def share_of_variance(exact: Floats, quantized: Floats) -> float:
    """Mean squared difference of latents (E, T, tokens, D) as a share of their variance from picture to picture. Unlike
    the cosine it does not flatter latents that are mostly the same for every picture; infinite if all are."""
    variance = float(exact.astype(np.float64).var(axis=(0, 1)).mean())
    difference = float(np.square(exact.astype(np.float64) - quantized).mean())
    return float(f"{difference / variance:.5g}") if variance > 0.0 else float("inf")


def rollout_report(exact: Floats, quantized: Floats, truth: Floats) -> dict[str, float]:
    """Predictions (E, K, T, D) open loop. For the first, a middle and the last step: the mean squared difference of
    INT8 to FP32, and the errors of both against what really came, all as shares of the latent variance."""
    variance = truth.var(axis=(0, 1)).mean()
    report: dict[str, float] = {}
    steps = exact.shape[1]
    for step in sorted({1, (steps + 1) // 2, steps}):
        at = step - 1
        report[f"int8_to_fp32_at_{step}"] = np.square(quantized[:, at] - exact[:, at]).mean() / variance
        report[f"fp32_error_at_{step}"] = np.square(exact[:, at] - truth[:, at]).mean() / variance
        report[f"int8_error_at_{step}"] = np.square(quantized[:, at] - truth[:, at]).mean() / variance
    return _rounded(report)


def growth_report(exact: Floats, quantized: Floats) -> dict[str, float]:
    """Predictions (E, K, T, D) open loop: the relative error ||a - b|| / ||a|| of INT8 after the first, a middle and the
    last step, mean over runs."""
    steps = exact.shape[1]
    errors = step_errors(exact, quantized)
    return _rounded({f"relative_error_at_{k}": errors[:, k - 1].mean() for k in sorted({1, (steps + 1) // 2, steps})})


def step_errors(exact: Floats, quantized: Floats) -> Floats:
    """Predictions (E, K, T, D) open loop -> relative error ||a - b|| / ||a|| of whole latents, (E, K)."""
    flat = exact.reshape(*exact.shape[:2], -1).astype(np.float64)
    difference = np.linalg.norm(flat - quantized.reshape(flat.shape), axis=-1)
    return np.asarray(difference / np.maximum(np.linalg.norm(flat, axis=-1), 1e-30))


def step_distances(predicted: Floats, truth: Floats) -> Floats:
    """Predictions and what really came, (E, K, T, D) -> mean squared difference by step as a share of the latents'
    variance from picture to picture, (K,); 1 is what a constant guess reaches."""
    variance = max(float(truth.astype(np.float64).var(axis=(0, 1)).mean()), 1e-30)
    return np.asarray(np.square(predicted.astype(np.float64) - truth).mean(axis=(0, 2, 3)) / variance)


def action_report(exact: Floats, quantized: Floats) -> dict[str, float]:
    """The actions that were chosen with either arithmetic, (S, A) in -1 .. 1. action_agreement: the share of
    states in which no axis differs by more than SAME_ACTION; action_difference: mean over states and axes."""
    difference = np.abs(exact.astype(np.float64) - quantized)
    return _rounded(
        {
            "action_agreement": float((difference <= SAME_ACTION).all(axis=1).mean()),
            "action_difference": float(difference.mean()),
        }
    )


def auroc(anomalous: Floats, normal: Floats) -> float:
    """The chance that a score of an anomalous frame is above one of a normal frame, ties counting half (Mann and Whitney
    1947). anomalous, normal: scores, (n,) and (m,), neither empty."""
    ordered = np.sort(normal)
    below, up_to = (np.searchsorted(ordered, anomalous, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(normal)))


def plan_report(exact: Floats, quantized: Floats, firsts: Floats | None = None) -> dict[str, float]:
    """Costs (S, N) of the same N plans in S states. rank_correlation: Spearman's, mean and worst over states.
    same_best: how often INT8 picks FP32's best plan. regret: how much dearer, by FP32's costs, INT8's pick is than
    FP32's best, as a share of the spread between the best and the median plan (mean). firsts: the first action of every
    plan, (S, N, A), for action_agreement and action_difference of the picks, see :func:`action_report`."""
    correlations = [spearman(a, b) for a, b in zip(exact, quantized, strict=True)]
    best, picked = exact.argmin(axis=1), quantized.argmin(axis=1)
    state = np.arange(len(exact))
    spread = np.median(exact, axis=1) - exact[state, best]
    report = _rounded(
        {
            "rank_correlation": float(np.mean(correlations)),
            "worst_rank_correlation": min(correlations),
            "same_best": float(np.mean(best == picked)),
            "regret": float(np.mean((exact[state, picked] - exact[state, best]) / np.maximum(spread, 1e-12))),
        }
    )
    return report if firsts is None else report | action_report(firsts[state, best], firsts[state, picked])


def _rounded(report: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{float(value):.5g}") for name, value in report.items()}
