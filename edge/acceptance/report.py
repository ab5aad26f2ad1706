"""What an acceptance run found, as data: checks that passed or not, figures, and what was not run and why.

Nothing in it names the machine's user, host or folders, so that it can be sent to strangers.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edge.engines.tensorrt.record import Record
from edge.engines.trial import Distance, MadeOf

Outcome = Literal["passed", "failed", "not run"]


class Check(msgspec.Struct, frozen=True):
    """One thing that had to be shown. found: what was, for people."""

    what: str
    outcome: Outcome
    found: str


class Timing(msgspec.Struct, frozen=True):
    """Milliseconds of one call. sensors: name -> mean and max while it ran."""

    calls: int
    p50: float
    p90: float
    p99: float
    worst: float
    sensors: dict[str, dict[str, float]]


class CpuPart(msgspec.Struct, frozen=True):
    """One part in onnxruntime. samples: inputs compared, made_of: which. distance: of its INT8 from float arithmetic.
    output_sha256: of its outputs on the inputs that every machine gets; they differ between kinds of processors. outputs:
    name -> mean, standard deviation and the first values, which differ little."""

    part: str
    runtime: str
    precision: str
    quantized_linears: int
    integer_gemms: int
    samples: int
    made_of: MadeOf
    distance: Distance
    output_sha256: str
    outputs: dict[str, dict[str, Any]]
    timing: Timing


class GpuEngine(msgspec.Struct, frozen=True):
    """One plan with what it was measured at; timing is None if it was refused."""

    record: Record
    timing: Timing | None
    cuda_graph: bool


class Acceptance(msgspec.Struct, frozen=True):
    """machine: facts by name. gpu_not_run: why the GPU part was not run, empty if it was."""

    latentloop: str
    bundle: str
    bundle_sha256: str
    machine: dict[str, str]
    threads: int
    checks: list[Check]
    cpu: list[CpuPart]
    gpu: list[GpuEngine]
    gpu_not_run: str
    format: int = 1

    @property
    def accepted(self) -> bool:
        """Only if everything was run and passed."""
        return all(check.outcome == "passed" for check in self.checks) and bool(self.checks)
