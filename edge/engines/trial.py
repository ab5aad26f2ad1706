"""One engine held against onnxruntime on the same inputs: may it take onnxruntime's place, and how fast is it?

What counts is the distance to float arithmetic. Two INT8 engines round a few activations to different neighbours, and on
pictures unlike those of the calibration that alone can be more than any fixed limit; but an engine that is as near to
float arithmetic as onnxruntime's INT8 is as good.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.engines.engine import Array, Engine, write_input

Feed = Mapping[str, Array]
MadeOf = Literal["noise", "footage"]
"""What the pictures behind inputs are: made up, or the samples of footage that came with the bundle."""
MIN_COSINE = 0.999
MAX_RELATIVE_ERROR = 0.05
MIN_RANK_CORRELATION = 0.99
"""The limits of the export's gate (docs/export.md)."""
SLACK = 1.5
"""An engine may be so many times as far off as onnxruntime's INT8, where that is more than the limits allow."""

PICKED = ("refined", "next_spread")
"""What a rollout makes of the best plans. Two of nearly equal cost may change places, so it is the costs that count."""


@dataclass(frozen=True, slots=True)
class Feeds:
    """Inputs of one part."""

    made_of: MadeOf
    inputs: Sequence[Feed]

    def __len__(self) -> int:
        return len(self.inputs)

    def __iter__(self) -> Iterator[Feed]:
        return iter(self.inputs)


class Distance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an engine is from float arithmetic, means over all inputs. rank_correlation: of a rollout's plans."""

    cosine: float
    relative_error: float
    rank_correlation: float | None = None


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a trial. reason: why the engine was refused, empty if it was not. distance: of the engine. reference: of
    onnxruntime as it would run otherwise. milliseconds: of one call, the median; reference_milliseconds: of onnxruntime,
    taking turns with it. samples: inputs compared, made_of: which."""

    accepted: bool
    reason: str = ""
    distance: Distance | None = None
    reference: Distance | None = None
    milliseconds: float | None = None
    reference_milliseconds: float | None = None
    samples: int = 0
    made_of: MadeOf = "noise"


def judge(exact: Engine, reference: Engine, candidate: Engine, feeds: Feeds, *, seconds: float = 2.0) -> Verdict:
    """Compare all outputs on all feeds, then take times call by call in turn. Raises EngineError.

    exact: float arithmetic. reference: what would run if the candidate does not.
    """
    wanted = [outputs(exact, feed) for feed in feeds]
    usual = distance(wanted, [outputs(reference, feed) for feed in feeds])
    found = [outputs(candidate, feed) for feed in feeds]
    for each in found:
        for name, values in each.items():
            if not np.isfinite(values).all():
                reason = f"{name} is not finite on one of {len(feeds)} inputs"
                return Verdict(False, reason, samples=len(feeds), made_of=feeds.made_of)
    own = distance(wanted, found)
    reason = next(iter(excesses(own, usual)), "")
    taken, theirs = latencies((candidate, reference), seconds)
    return Verdict(
        not reason,
        reason,
        distance=own,
        reference=usual,
        milliseconds=round(float(np.median(taken)), 4),
        reference_milliseconds=round(float(np.median(theirs)), 4),
        samples=len(feeds),
        made_of=feeds.made_of,
    )


def distance(wanted: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]) -> Distance:
    """Of outputs by name. The rank correlation is of distances (N, K) at the last step, over the N candidates."""
    pairs = [(a[name], b[name]) for a, b in zip(wanted, found, strict=True) for name in a if name not in PICKED]
    ranks = [
        spearman(a["distance"][:, -1], b["distance"][:, -1]) for a, b in zip(wanted, found, strict=True) if "distance" in a
    ]
    return Distance(
        cosine=round(float(np.mean([cosine(a, b) for a, b in pairs])), 6),
        relative_error=round(float(np.mean([relative_error(a, b) for a, b in pairs])), 6),
        rank_correlation=round(float(np.mean(ranks)), 5) if ranks else None,
    )


def excesses(own: Distance, usual: Distance) -> list[str]:
    """Every figure of an engine that is too far off, one clause each. usual: of what it would replace."""
    most = max(MAX_RELATIVE_ERROR, SLACK * usual.relative_error)
    least = min(MIN_COSINE, 1 - SLACK * (1 - usual.cosine))
    found = []
    if not own.relative_error <= most:
        found.append(f"the relative error is {own.relative_error:.4f} and must be at most {most:.4f}")
    if not own.cosine >= least:
        found.append(f"the cosine is {own.cosine:.5f} and must be at least {least:.5f}")
    if own.rank_correlation is not None and usual.rank_correlation is not None:
        least = min(MIN_RANK_CORRELATION, 1 - SLACK * (1 - usual.rank_correlation))
        if not own.rank_correlation >= least:
            found.append(f"the rank correlation of plans is {own.rank_correlation:.4f} and must be at least {least:.4f}")
    return found


def outputs(engine: Engine, feed: Feed) -> dict[str, Array]:
    """One call; copies of all outputs by name."""
    for name, values in feed.items():
        write_input(engine, name, values)
    engine.enqueue()
    engine.wait()
    return {name: engine.output(name).copy() for name in engine.outputs}


def latencies(engines: Sequence[Engine], seconds: float, least: int = 10) -> list[list[float]]:
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
