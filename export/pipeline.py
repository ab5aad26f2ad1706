"""From a source and footage to a bundle that was shown to be faithful, or to the reasons why there is none.

FP32 graphs -> outlier channels folded into weights -> activation ranges on real frames, the predictor's on its own
rollouts -> Q/DQ -> comparison on footage that calibration has not seen -> gate -> bundle.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle import FORMAT, Bundle, GoalCost, Manifest, Part
from edge.engines.engine import Engine
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Floats
from export.acceptance import Say, accept, blamed
from export.assemble import NO_GRAPHS, assemble, own_version
from export.evidence import About, Evidence
from export.feeds import Progress, few_of_each, run, unwatched
from export.footage import (
    VERIFICATION_PLANS,
    VERIFICATION_SEED,
    babbling,
    drawn_actions,
    labelled_for,
    verified_on,
)
from export.frames import Footage
from export.gate import Failure
from export.quantize.model import quantize_model
from export.refinement import elites_of
from export.remedy import advice, complaints, culprits
from export.sources.source import Feed, Source

CALIBRATION_SEED = 3
CALIBRATION_PLANS = 12
"""Sets of plans; each is N plans of K steps in one call."""
PARITY_ON = 4
"""Inputs on which the FP32 graphs are held against the original framework."""



@dataclass(frozen=True)
class Outcome:
    """evidence: all that was measured. failures: limits that do not hold; with any, bundle is None and nothing was written.
    seconds: by stage."""

    evidence: Evidence
    failures: list[Failure]
    bundle: Bundle | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def report(self) -> dict[str, Any]:
        """What goes into the bundle's ``int8``."""
        return self.evidence.figures

    @property
    def blame(self) -> dict[str, list[tuple[str, float]]]:
        """By part, the layers that cost most when quantized alone; empty if the gate was passed."""
        return self.evidence.blame


def export_bundle(
    source: Source,
    footage: Footage,
    out: Path,
    *,
    keep_float: tuple[str, ...] = (),
    smoothing: bool = True,
    with_fp32: bool = False,
    labels: Path | None = None,
    say: Say = lambda line: None,
    progress: Progress = unwatched,
) -> Outcome:
    """The whole way. keep_float: layers, by the end of their name, to leave in float beside those of the source.
    smoothing: fold outlier channels behind norms into weights (export.quantize.smooth).
    with_fp32: put the graphs from before quantization in as well. labels: a file of export.labels. Blocks for minutes.
    Raises UserError."""
    watch = _Stopwatch()
    labelled = labelled_for(source, labels, footage.calibration, progress)
    keep_float = (*source.keep_float, *keep_float)
    actions = drawn_actions(source, footage.calibration, CALIBRATION_SEED)
    exact: dict[Part, Engine] = {
        part: OnnxRuntimeEngine(graph.SerializeToString(), f"{part} (fp32)") for part, graph in source.graphs.items()
    }
    plans = babbling(source)
    made_by = f"latentloop {own_version()}, {source.made_with}"
    report: dict[str, Any] = {}
    if source.peer is not None:
        say("holding the FP32 graphs against the original framework")
        few = few_of_each(exact, footage.calibration[:PARITY_ON], actions[:PARITY_ON], plans, CALIBRATION_SEED)
        report["parity"] = _parity(source, exact, few)
    watch.lap("parity")

    quantized = quantize_model(
        source.graphs,
        footage.calibration,
        actions,
        seed=CALIBRATION_SEED,
        plans=plans,
        plan_count=CALIBRATION_PLANS,
        made_from=footage.label,
        keep_float=keep_float,
        smoothing=smoothing,
        say=say,
        progress=progress,
    )
    watch.lap("calibration")
    say("verifying on footage that calibration has not seen")
    accepted = accept(
        exact,
        quantized,
        footage.verification,
        drawn_actions(source, footage.verification, VERIFICATION_SEED),
        seed=VERIFICATION_SEED,
        plans=plans,
        plan_count=VERIFICATION_PLANS,
        commanded=not source.actions,
        about=About(source.name, source.made_from, made_by, "its FP32 graphs"),
        verified_on=verified_on(footage),
        already=report,
        labelled=labelled,
        say=say,
        progress=progress,
    )
    watch.lap("verification")
    if accepted.failures:
        say("finding the layers to blame")
        evidence = blamed(accepted, quantized, progress)
        watch.lap("blame")
        return Outcome(evidence, accepted.failures, None, watch.laps)
    manifest = Manifest(
        format=FORMAT,
        name=source.name,
        version="1",
        kind="robot" if source.plan_shape else "camera",
        made_from=source.made_from,
        made_by=made_by,
        licence=source.licence,
        picture=source.picture,
        latent=source.latent,
        time=source.time,
        actions=source.actions,
        goal=_goal(source, accepted.compared.latents),
        graphs=NO_GRAPHS,
        files={},
        int8=accepted.evidence.figures,
    )
    bundle = assemble(out, manifest, quantized, with_fp32=with_fp32, evidence=accepted.evidence)
    watch.lap("writing")
    return Outcome(accepted.evidence, [], bundle, watch.laps)


def _parity(source: Source, exact: Mapping[Part, Engine], samples: Mapping[Part, list[Feed]]) -> dict[str, float]:
    """Relative error of each FP32 graph against the framework it came from, the worst of its samples."""
    assert source.peer is not None
    errors: dict[str, float] = {}
    for part, feeds in samples.items():
        worst = 0.0
        for feed in feeds:
            original = source.peer(part, feed)
            worst = max(worst, float(np.linalg.norm(run(exact[part], feed) - original) / np.linalg.norm(original)))
        errors[part] = float(f"{worst:.3g}")
    return errors


def _goal(source: Source, latents: Floats) -> GoalCost | None:
    """A goal counts as reached at the cost that half of all frames have to the one a step later."""
    if source.plan_shape is None:
        return None
    candidates, horizon = source.plan_shape
    costs = np.square(np.diff(latents, axis=1)).mean(axis=(2, 3))
    reached = max(float(np.median(costs)), 1e-9)
    explained = f"median cost between frames {source.time.step_s:g} s apart in the footage; set it to what your task needs"
    return GoalCost("latent_mse", float(f"{reached:.5g}"), horizon, candidates, elites_of(candidates), explained)


class _Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 1)
        self._last = now


def sentence_of(outcome: Outcome) -> str:
    """Why there is no bundle, and what to do about it; one line per failure, then the layers."""
    lines = [f"below the gate: {complaint}" for complaint in complaints(outcome.evidence)]
    for part, named in culprits(outcome.evidence):
        lines.append(f"layers of the {part} that cost most when quantized alone: {named}")
    lines.append(f"nothing was written; {advice(outcome.evidence)}")
    return "\n".join(lines)
