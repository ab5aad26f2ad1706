"""Everything that is measured before INT8 is accepted: end to end, layer by layer, what TensorRT says, and the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edge.bundle import Part
from edge.engines.engine import Engine
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Floats
from export.compare import SEARCHED, Comparison, compare
from export.effort import affordable, affordable_by_all
from export.evidence import About, Evidence, GraphSize, growth, plan_costs
from export.external_weights import size
from export.feeds import Plans, Progress, few_of_each, unwatched
from export.gate import Failure, failures, judged
from export.labels import Labelled, anomaly_report
from export.layers import layer_errors
from export.lint.rules import lint
from export.lint.target import CPU, TARGETS, Target
from export.quantize.pipeline import Quantized
from export.quantize.sensitivity import damage_by_layer
from export.sources.source import Feed

NAMED = 5
"""Layers that are blamed."""
TOLD = 3
"""Findings of the lint that are told for each target; dynamic scales alone have two for every Linear."""
LAYERS_ON = 4
"""Inputs on which layers are compared and, below the gate, tried one by one."""

CALLS_OF_A_SEARCH = 20
"""Of the rollout, by both chains in one state."""

Say = Callable[[str], None]


def int8_engine(part: Part, model: bytes) -> Engine:
    """A quantized part as the CPU runs it."""
    return OnnxRuntimeEngine(model, f"{part} (int8)")


@dataclass(frozen=True)
class Acceptance:
    """evidence: for the bundle and the report, its blame empty. failures: limits that do not hold. compared: the latents
    and predictions. samples: the inputs that layers were compared on."""

    evidence: Evidence
    failures: list[Failure]
    compared: Comparison
    samples: Mapping[Part, list[Feed]]


def accept(
    exact: Mapping[Part, Engine],
    quantized: Mapping[Part, Quantized],
    pictures: NDArray[np.uint8],
    actions: Floats,
    *,
    seed: int,
    plans: Plans,
    plan_count: int,
    commanded: bool,
    about: About,
    verified_on: str,
    already: Mapping[str, Any] | None = None,
    labelled: Labelled | None = None,
    target: str | None = None,
    load: Callable[[Part, bytes], Engine] = int8_engine,
    say: Say = lambda line: None,
    progress: Progress = unwatched,
) -> Acceptance:
    """Measure on footage that calibration has not seen.

    pictures: (E, T, ...) as in compare. actions: (E, T, A); commanded: they are those of the footage. already: figures of
    the report that others measured. target: of TARGETS, or CPU: what it must run is part of the verdict. load: starts a
    quantized part. Blocks for minutes. Raises UserError.
    """
    engines: dict[Part, Engine] = {part: load(part, q.model) for part, q in quantized.items()}
    graphs = {part: q.fp32 for part, q in quantized.items()}
    searched = affordable(graphs["rollout"], SEARCHED, least=0, times=CALLS_OF_A_SEARCH) if "rollout" in graphs else 0
    compared = compare(
        exact,
        engines,
        pictures,
        actions,
        seed=seed,
        plans=plans,
        plan_count=plan_count,
        searched=searched,
        progress=progress,
    )
    report: dict[str, Any] = {**(already or {}), **compared.report}
    if labelled is not None:
        say("telling labelled anomalies from normal frames")
        report["anomaly"] = anomaly_report(exact, engines, labelled, progress)
    report["linears_quantized"] = {part: q.linears for part, q in quantized.items()}
    smoothed = {part: len(q.smoothed.folded) for part, q in quantized.items() if q.smoothed}
    if smoothed:
        report["norms_folded"] = smoothed
    report["integer_gemms"] = {part: engine.info.integer_gemms for part, engine in engines.items()}
    if target != CPU:
        say("asking the lint what TensorRT would refuse")
    asked = TARGETS if target is None else {name: each for name, each in TARGETS.items() if name == target}
    report["lint"] = linted({part: q.model for part, q in quantized.items()}, say, asked)
    if target == CPU:
        lost = sum(q.linears - report["integer_gemms"][part] for part, q in quantized.items())
        report["target"] = {"name": target, "float_gemms": lost}
    elif target is not None:
        report["target"] = {"name": target, "refusals": len(report["lint"][target])}
    report["verified_on"] = verified_on
    say("comparing layer by layer")
    count = affordable_by_all(graphs.values(), LAYERS_ON, times=LAYERS_ON)
    few = few_of_each(exact, pictures[:count], actions[:count], plans, seed)
    layers = {}
    for part, q in quantized.items():
        if not q.table.tensors:  # dynamic scales: its layers have no names of their own
            continue
        layers[str(part)] = layer_errors(q.fp32, onnx.load_from_string(q.model), few[part], progress)
    evidence = Evidence(
        about,
        calibrated_on={part: f"{q.table.made_from}; {q.table.method}" for part, q in quantized.items()},
        figures=report,
        gate=judged(report),
        layers=layers,
        growth=growth(compared, commanded=commanded),
        sizes={part: GraphSize(size(q.fp32), len(q.model)) for part, q in quantized.items()},
        costs=plan_costs(compared.exact_costs, compared.costs),
    )
    return Acceptance(evidence, failures(report), compared, few)


def blamed(accepted: Acceptance, quantized: Mapping[Part, Quantized], progress: Progress = unwatched) -> Evidence:
    """The evidence with the layers that cost most when quantized alone, of every part that is below the gate."""
    blame = {}
    for part, q in quantized.items():
        if any(failure.limit.part == part and failure.limit.section != "parity" for failure in accepted.failures):
            damage = damage_by_layer(part, q, accepted.samples[part], progress)
            blame[str(part)] = [(each.layer, each.error) for each in damage[:NAMED]]
    return msgspec.structs.replace(accepted.evidence, blame=blame)


def linted(
    graphs: Mapping[Part, bytes], say: Say = lambda line: None, targets: Mapping[str, Target] = TARGETS
) -> dict[str, list[str]]:
    """By target, what TensorRT would refuse or get wrong. The first few are told, all are kept; no reason to stop where nobody
    named a target, as a CPU may run it all the same."""
    found: dict[str, list[str]] = {name: [] for name in targets}
    for part, graph in graphs.items():
        model = onnx.load_from_string(graph)
        for name, target in targets.items():
            for finding in lint(model, target):
                if finding.effect != "costly":
                    found[name].append(f"{part}: {finding}")
    for name, findings in found.items():
        for line in findings[:TOLD]:
            say(f"{name} will not run it: {line}")
        if len(findings) > TOLD:
            say(f"{name} will not run it: {len(findings) - TOLD} more such findings are in the report")
    return found
