"""The acceptance gate: what INT8 may cost at most, and which layers to blame if it costs more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np


@dataclass(frozen=True)
class Limit:
    """One bound on one figure of the report. part: whose layers are to blame, empty where none are."""

    part: str
    section: str
    figure: str
    least: float = -np.inf
    most: float = np.inf


LIMITS = (
    Limit("encoder", "parity", "encoder", most=1e-4),
    Limit("predictor", "parity", "predictor", most=1e-4),
    Limit("predictor", "parity", "rollout", most=1e-4),
    Limit("encoder", "encoder", "cosine", least=0.999),
    Limit("encoder", "encoder", "relative_error", most=0.05),
    Limit("predictor", "predictor", "cosine", least=0.999),
    Limit("predictor", "predictor", "relative_error", most=0.05),
    Limit("predictor", "end_to_end", "cosine", least=0.999),
    Limit("predictor", "end_to_end", "relative_error", most=0.05),
    Limit("predictor", "planner", "rank_correlation", least=0.99),
    Limit("predictor", "planner", "action_agreement", least=0.95),
    Limit("predictor", "end_to_end", "rank_correlation", least=0.99),
    Limit("encoder", "anomaly", "auroc_loss", most=0.01),
    Limit("", "target", "refusals", most=0),
    Limit("", "target", "float_gemms", most=0),
)
"""parity: the relative error of the FP32 graph against the original framework. target: where one was named, the nodes that
its TensorRT would refuse or get wrong, or on a CPU the Linears that do not run in integers; no layer in float mends either. The
others: INT8 against FP32, part by part on the same inputs, and end_to_end, where the quantized encoder feeds the quantized
predictor; that is the predictor's to mend, as the encoder has limits of its own."""


class Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the gate: what was measured, what it must be. measured: None where it is not a number."""

    section: str
    figure: str
    measured: float | None
    passed: bool
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Failure:
    """One bound that does not hold. sentence: says so, for people."""

    limit: Limit
    value: float

    @property
    def sentence(self) -> str:
        limit = self.limit
        bound = f"at least {limit.least:g}" if np.isfinite(limit.least) else f"at most {limit.most:g}"
        return f"{limit.section} {limit.figure.replace('_', ' ')} is {self.value:.5g} and must be {bound}"


def failures(report: Mapping[str, Any], limits: Sequence[Limit] = LIMITS) -> list[Failure]:
    """Every limit that the report breaks; figures that it does not have are passed over. A figure that is not a number
    breaks its limit."""
    return [Failure(limit, value) for limit, value in _measured(report, limits) if not limit.least <= value <= limit.most]


def judged(report: Mapping[str, Any], limits: Sequence[Limit] = LIMITS) -> list[Judged]:
    """The whole gate, line by line, as far as the report has the figures."""
    return [
        Judged(
            limit.section,
            limit.figure,
            value if np.isfinite(value) else None,
            limit.least <= value <= limit.most,
            limit.least if np.isfinite(limit.least) else None,
            limit.most if np.isfinite(limit.most) else None,
        )
        for limit, value in _measured(report, limits)
    ]


def _measured(report: Mapping[str, Any], limits: Sequence[Limit]) -> Iterator[tuple[Limit, float]]:
    for limit in limits:
        value = report.get(limit.section, {}).get(limit.figure)
        if value is not None:
            yield limit, float(value)
