"""What was measured when INT8 was held against FP32, as one JSON file of the bundle: for the report page and for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.bundle import Bundle
from edge.errors import UserError
from edge.messages import Floats
from export.compare import Comparison
from export.gate import Judged, judged
from export.layers import LayerError
from export.verify import step_distances, step_errors

FILE = "verification.json"
"""Its path in a bundle."""
MOST_COSTS = 1200
"""Plans whose costs are kept, evenly from all states."""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step of the open-loop prediction. alone: relative error of the quantized predictor on FP32 latents. chained: of
    both quantized parts, mean over runs; worst: of the worst run. fp32, int8: mean squared distance to what really came,
    as a share of the latents' variance; absent where nobody knows what was commanded."""

    step: int
    alone: float
    chained: float
    worst: float
    fp32: float | None = None
    int8: float | None = None


class PlanCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """(FP32, INT8) costs of the same plans, each chain on its own latents. chosen: of the plan that INT8 picks, by state."""

    plans: list[tuple[float, float]]
    chosen: list[tuple[float, float]]


class GraphSize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes of a part's graph before and after."""

    fp32: int
    int8: int


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose INT8 this is. made_from, made_by: as in the manifest. against: what INT8 was held against."""

    name: str
    made_from: str
    made_by: str
    against: str


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """figures: as in the manifest's ``int8``. calibrated_on: by part. layers: by part,
    worst first. blame: by part, (layer, error) of layers quantized alone, where the gate was not passed."""

    about: About
    calibrated_on: dict[str, str]
    figures: dict[str, Any]
    gate: list[Judged]
    layers: dict[str, list[LayerError]]
    growth: list[Step]
    sizes: dict[str, GraphSize]
    costs: PlanCosts | None = None
    blame: dict[str, list[tuple[str, float]]] = {}

    @property
    def passed(self) -> bool:
        """Whether every limit holds."""
        return all(line.passed for line in self.gate)

    def to_json(self) -> bytes:
        """For the bundle."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def evidence_of(bundle: Bundle) -> Evidence:
    """The evidence in a bundle; of one that was made without, what its manifest says. Raises UserError."""
    path = bundle.path(FILE)
    if path is not None:
        return parse_evidence(path.read_bytes(), path)
    manifest = bundle.manifest
    about = About(manifest.name, manifest.made_from, manifest.made_by, "FP32")
    return Evidence(about, {}, manifest.int8, judged(manifest.int8), {}, [], {})


def parse_evidence(raw: bytes, path: Path) -> Evidence:
    """path: names it. Raises UserError."""
    try:
        return msgspec.json.decode(raw, type=Evidence)
    except msgspec.DecodeError as error:
        raise UserError(f"{path} cannot be understood ({error}): export the bundle again with this latentloop") from None


def growth(compared: Comparison, *, commanded: bool) -> list[Step]:
    """Step by step, nothing without a predictor. commanded: the actions are those that were sent when the footage was taken,
    or there are none."""
    if not compared.exact.shape[1]:
        return []
    alone, chained = step_errors(compared.exact, compared.quantized), step_errors(compared.exact, compared.chained)
    truth = compared.exact_latents[:, -alone.shape[1] :]
    fp32, int8 = (step_distances(x, truth) if commanded else None for x in (compared.exact, compared.chained))
    return [
        Step(
            step + 1,
            _short(alone[:, step].mean()),
            _short(chained[:, step].mean()),
            _short(chained[:, step].max()),
            None if fp32 is None else _short(fp32[step]),
            None if int8 is None else _short(int8[step]),
        )
        for step in range(alone.shape[1])
    ]


def plan_costs(exact: Floats, quantized: Floats) -> PlanCosts | None:
    """exact, quantized: (S, N); None if there are none."""
    if not exact.size:
        return None
    every = np.stack([exact.ravel(), quantized.ravel()], axis=1)
    kept = every[np.linspace(0, len(every) - 1, min(len(every), MOST_COSTS)).round().astype(int)]
    state, picked = np.arange(len(exact)), quantized.argmin(axis=1)
    chosen = np.stack([exact[state, picked], quantized[state, picked]], axis=1)
    pairs = ([(_short(one), _short(other)) for one, other in some] for some in (kept, chosen))
    return PlanCosts(*pairs)


def _short(value: float) -> float:
    return float(f"{float(value):.5g}")
