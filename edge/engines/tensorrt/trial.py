"""One engine held against another of the same graph on the same inputs: may it take its place, and how fast is it?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.engines.engine import Array, Engine, write_input
from edge.engines.tensorrt.record import Verdict

Feed = Mapping[str, Array]
MIN_COSINE = 0.999
MAX_RELATIVE_ERROR = 0.05
MIN_RANK_CORRELATION = 0.99
"""The limits of the export's gate (docs/export.md), and here no input may break them, not only the mean of all."""


PICKED = ("refined", "next_spread")
"""What a rollout makes of the best plans. Two of nearly equal cost may change places, so it is the costs that count."""


def judge(reference: Engine, candidate: Engine, feeds: Sequence[Feed], *, seconds: float = 2.0) -> Verdict:
    """Compare every output on every feed, then take times call by call in turn. Raises EngineError.

    The rank correlation is of a rollout's distances (N, K) at the last step, over the N candidates.
    """
    cosines, errors, ranks = [1.0], [0.0], []
    for feed in feeds:
        exact, found = outputs(reference, feed), outputs(candidate, feed)
        for name, a in exact.items():
            b = found[name]
            if not np.isfinite(b).all():
                return Verdict(False, f"{name} is not finite on one of {len(feeds)} inputs", samples=len(feeds))
            if name in PICKED:
                continue
            cosines.append(cosine(a, b))
            errors.append(relative_error(a, b))
            if name == "distance":
                ranks.append(spearman(a[:, -1], b[:, -1]))
    own, theirs = latencies((candidate, reference), seconds)
    rank = min(ranks) if ranks else None
    reason = ""
    if min(cosines) < MIN_COSINE:
        reason = f"the worst cosine is {min(cosines):.5f} and must be at least {MIN_COSINE}"
    elif max(errors) > MAX_RELATIVE_ERROR:
        reason = f"the worst relative error is {max(errors):.4f} and must be at most {MAX_RELATIVE_ERROR}"
    elif rank is not None and rank < MIN_RANK_CORRELATION:
        reason = f"the worst rank correlation of plans is {rank:.4f} and must be at least {MIN_RANK_CORRELATION}"
    return Verdict(
        not reason,
        reason,
        cosine=round(min(cosines), 6),
        relative_error=round(max(errors), 6),
        rank_correlation=None if rank is None else round(rank, 5),
        milliseconds=round(float(np.median(own)), 4),
        reference_milliseconds=round(float(np.median(theirs)), 4),
        samples=len(feeds),
    )


def outputs(engine: Engine, feed: Feed) -> dict[str, Array]:
    """One call; copies of all outputs by name."""
    for name, values in feed.items():
        write_input(engine, name, values)
    engine.enqueue()
    engine.wait()
    return {name: engine.output(name).copy() for name in engine.outputs}


def latencies(engines: Sequence[Engine], seconds: float, least: int = 20) -> list[list[float]]:
    """Milliseconds of each call, all engines in turn, for so long and at least so often; inputs stay as they are."""
    times: list[list[float]] = [[] for _ in engines]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < least:
        for engine, taken in zip(engines, times, strict=True):
            started = time.perf_counter()
            engine.enqueue()
            engine.wait()
            taken.append((time.perf_counter() - started) * 1e3)
    return times


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of two tensors as flat vectors; 1 if both are zero."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / size if size else float(np.array_equal(x, y))


def relative_error(a: NDArray[Any], b: NDArray[Any]) -> float:
    """||a - b|| / ||a||; infinite if a is zero and b is not."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    size, difference = float(np.linalg.norm(x)), float(np.linalg.norm(x - y))
    return difference / size if size else float("inf") if difference else 0.0


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's rank correlation of two vectors without ties."""
    differences = a.argsort().argsort() - b.argsort().argsort()
    n = len(a)
    return 1.0 - 6.0 * float(np.square(differences).sum()) / (n * (n * n - 1)) if n > 1 else 1.0
