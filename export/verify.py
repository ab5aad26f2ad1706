"""What quantization cost: INT8 held against FP32, in the terms that matter to the loop and the planner."""

from __future__ import annotations

import numpy as np

from edge.messages import Floats


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
    norms = np.linalg.norm(exact.reshape(*exact.shape[:2], -1), axis=-1)
    errors = np.linalg.norm((exact - quantized).reshape(*exact.shape[:2], -1), axis=-1) / norms
    return _rounded({f"relative_error_at_{k}": errors[:, k - 1].mean() for k in sorted({1, (steps + 1) // 2, steps})})


def plan_report(exact: Floats, quantized: Floats) -> dict[str, float]:
    """Costs (S, N) of the same N plans in S states. rank_correlation: Spearman's, mean and worst over states.
    same_best: how often INT8 picks FP32's best plan. regret: how much dearer, by FP32's costs, INT8's pick is than
    FP32's best, as a share of the spread between the best and the median plan (mean)."""
    correlations = [spearman(a, b) for a, b in zip(exact, quantized, strict=True)]
    best, picked = exact.argmin(axis=1), quantized.argmin(axis=1)
    state = np.arange(len(exact))
    spread = np.median(exact, axis=1) - exact[state, best]
    return _rounded(
        {
            "rank_correlation": float(np.mean(correlations)),
            "worst_rank_correlation": min(correlations),
            "same_best": float(np.mean(best == picked)),
            "regret": float(np.mean((exact[state, picked] - exact[state, best]) / np.maximum(spread, 1e-12))),
        }
    )


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two vectors without ties (costs are continuous)."""
    differences = a.argsort().argsort() - b.argsort().argsort()
    count = len(a)
    return 1.0 - 6.0 * float(np.square(differences).sum()) / (count * (count * count - 1))


def _rounded(report: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{float(value):.5g}") for name, value in report.items()}
