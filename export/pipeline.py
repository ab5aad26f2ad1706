"""From a source and footage to a bundle that was shown to be faithful, or to the reasons why there is none.

FP32 graphs -> outlier channels folded into weights -> activation ranges on real frames, the predictor's on its own
rollouts -> Q/DQ -> comparison on footage that calibration has not seen -> gate -> bundle.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.bundle import FORMAT, Bundle, GoalCost, Manifest, Part
from edge.engines.engine import Engine
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.errors import UserError
from edge.intrinsics import Intrinsics
from edge.messages import Floats
from export.acceptance import Acceptance, Say, accept
from export.assemble import NO_GRAPHS, assemble, own_version
from export.compare import compare
from export.effort import affordable_by_all
from export.evidence import About, Evidence
from export.external_weights import engine_of, loadable, size, too_large
from export.feeds import Progress, few_of_each, run, unwatched
from export.footage import (
    VERIFICATION_PLANS,
    VERIFICATION_SEED,
    babbling,
    drawn_actions,
    labelled_for,
    plan_sets,
    verified_on,
)
from export.frames import Footage
from export.gate import Failure, failures
from export.quantize.model import quantize_model
from export.quantize.pipeline import SMOOTHED, Calibration, Quantized, quantize_dynamically, requantize
from export.refinement import elites_of
from export.remedy import advice, complaints, culprits, refusals
from export.remembering import Remembering
from export.restoring import restore_layers
from export.sampling import samples_of
from export.sources.source import Feed, Source
from export.stages import Stages

CALIBRATION_SEED = 3
CALIBRATION_PLANS = 12
"""Sets of plans; each is N plans of K steps in one call. Fewer for a large rollout."""
TRIED_ON = 4
"""Inputs on which the FP32 graphs are held against the original framework, and layers are tried one by one."""



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
    how: Calibration = SMOOTHED,
    dynamic: bool = False,
    with_fp32: bool = False,
    with_samples: bool = True,
    labels: Path | None = None,
    intrinsics: Intrinsics | None = None,
    target: str | None = None,
    stages: Stages | None = None,
    say: Say = lambda line: None,
    progress: Progress = unwatched,
) -> Outcome:
    """The whole way. keep_float: layers, by the end of their name, to leave in float beside those of the source.
    how: scales are chosen (export.quantize.pipeline). dynamic: no scales, every call finds its own (export.quantize.dynamic).
    with_fp32: put the graphs from before quantization in as well. with_samples: and some of the pictures, for the device to try
    engines on. labels: a file of export.labels. intrinsics: of the camera of its clips. target: see accept. stages: those that an
    interrupted export has finished already; scale tables are in the cache of how. Blocks for minutes. Raises UserError."""
    stages = Stages(None) if stages is None else stages
    for part, graph in source.graphs.items():
        if (with_fp32 or dynamic) and too_large(size(graph)):
            raise UserError(
                f"the {part} has {size(graph) / 1e9:.1f} GB in float32, and a bundle's graph is one file of at most 2 GB: "
                f"leave out {'--fp32' if with_fp32 else '--dynamic'}"
            )
    watch = _Stopwatch()
    labelled = labelled_for(source, labels, footage.calibration, progress, intrinsics)
    exact: dict[Part, Engine] = {
        part: Remembering(engine_of(graph, f"{part} (fp32)"))
        for part, graph in source.graphs.items()
    }
    plans = babbling(source)
    made_by = f"latentloop {own_version()}, {source.made_with}"
    plan_count = plan_sets(source.graphs, VERIFICATION_PLANS)
    tried = affordable_by_all(source.graphs.values(), TRIED_ON, times=TRIED_ON)
    babbled = drawn_actions(source, footage.calibration, CALIBRATION_SEED)[:tried]
    few = few_of_each(exact, footage.calibration[:tried], babbled, plans, CALIBRATION_SEED)
    report: dict[str, Any] = {}
    if source.peer is not None:
        say("holding the FP32 graphs against the original framework")
        graphs = (loadable(graph)[0] for graph in source.graphs.values())
        shown = (x for feeds in few.values() for feed in feeds for x in feed.values())
        report["parity"] = stages.once("parity", dict[str, float], chain(graphs, shown), lambda: _parity(source, exact, few))
    stages.let_go()
    watch.lap("parity")

    def calibrated(restored: Mapping[Part, Collection[str]]) -> dict[Part, Quantized]:
        if dynamic:
            left = (*source.keep_float, *keep_float)
            whole = {part: quantize_dynamically(graph, left) for part, graph in source.graphs.items()}
            return {part: requantize(q, restored[part]) if part in restored else q for part, q in whole.items()}
        return calibrate(source, footage, how, keep_float=keep_float, restored=restored, say=say, progress=progress)

    quantized = calibrated({})
    if dynamic:
        report["scales"] = "dynamic: for CPUs, TensorRT does not take it"
    watch.lap("calibration")
    say("verifying on footage that calibration has not seen")
    seen, done = footage.verification, drawn_actions(source, footage.verification, VERIFICATION_SEED)

    loaded: dict[Part, tuple[bytes, Engine]] = {}

    def engine(part: Part, model: bytes) -> Engine:
        if part not in loaded or loaded[part][0] != model:
            loaded.pop(part, None)  # its memory, before the new one takes as much
            loaded[part] = model, Remembering(OnnxRuntimeEngine(model, f"{part} (int8)"))
        return loaded[part][1]

    def accepting(graphs: Mapping[Part, Quantized]) -> Acceptance:
        return accept(
            exact,
            graphs,
            seen,
            done,
            seed=VERIFICATION_SEED,
            plans=plans,
            plan_count=plan_count,
            commanded=not source.actions,
            about=About(source.name, source.made_from, made_by, "its FP32 graphs"),
            verified_on=verified_on(footage),
            already=report,
            labelled=labelled,
            target=target,
            load=engine,
            say=say,
            progress=progress,
        )

    def failing(graphs: Mapping[Part, Quantized]) -> list[Failure]:
        engines = {part: engine(part, q.model) for part, q in graphs.items()}
        return failures(
            compare(exact, engines, seen, done, seed=VERIFICATION_SEED, plans=plans, plan_count=plan_count, searched=0).report
        )

    accepted = accepting(quantized)
    watch.lap("verification")
    if accepted.failures and not failures(report) and all(failure.limit.part for failure in accepted.failures):
        restored = restore_layers(quantized, few, accepted.failures, failing, calibrated, say, progress)
        if restored.kept:
            quantized = restored.graphs
            report["kept_in_float"] = restored.kept
            say("verifying once more, with these layers in float")
            accepted = accepting(quantized)
        watch.lap("restoring")
        accepted = replace(accepted, evidence=msgspec.structs.replace(accepted.evidence, blame=restored.blame))
    if accepted.failures:
        return Outcome(accepted.evidence, accepted.failures, None, watch.laps)
    manifest = Manifest(
        format=FORMAT,
        name=source.name,
        version="1",
        kind="robot" if source.plan_shape else "camera",
        made_from=source.made_from,
        made_by=made_by,
        licence=source.licence,
        attribution=source.attribution,
        picture=source.picture,
        latent=source.latent,
        time=source.time,
        actions=source.actions,
        goal=_goal(source, accepted.compared.latents),
        graphs=NO_GRAPHS,
        files={},
        int8=accepted.evidence.figures,
    )
    samples = samples_of(manifest, seen, accepted.compared.exact_latents) if with_samples else None
    bundle = assemble(out, manifest, quantized, with_fp32=with_fp32, evidence=accepted.evidence, samples=samples)
    stages.forget()
    watch.lap("writing")
    return Outcome(accepted.evidence, [], bundle, watch.laps)


def calibrate(
    source: Source,
    footage: Footage,
    how: Calibration,
    *,
    keep_float: tuple[str, ...] = (),
    restored: Mapping[Part, Collection[str]] = {},
    say: Say = lambda line: None,
    progress: Progress = unwatched,
) -> dict[Part, Quantized]:
    """Calibrated and quantized on the first half of the footage. keep_float: beside the layers that the source names.
    restored: see quantize_model. Blocks for minutes, less where the cache has the tables. Raises CalibrationError."""
    return quantize_model(
        source.graphs,
        footage.calibration,
        drawn_actions(source, footage.calibration, CALIBRATION_SEED),
        seed=CALIBRATION_SEED,
        plans=babbling(source),
        plan_count=plan_sets(source.graphs, CALIBRATION_PLANS),
        made_from=footage.label,
        keep_float=(*source.keep_float, *keep_float),
        restored=restored,
        how=how,
        say=say,
        progress=progress,
    )


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
    lines += refusals(outcome.evidence)
    for part, named in culprits(outcome.evidence):
        lines.append(f"layers of the {part} that cost most when quantized alone: {named}")
    lines.append(f"nothing was written; {advice(outcome.evidence)}")
    return "\n".join(lines)


def say_outcome(outcome: Outcome) -> int:
    """Print what was written, with the report, or why there is nothing; the exit code."""
    if outcome.bundle is None:
        print(sentence_of(outcome), file=sys.stderr)
        return 1
    print(f"wrote {outcome.bundle.folder}")
    print(msgspec.json.format(msgspec.json.encode(outcome.report), indent=1).decode())
    return 0
