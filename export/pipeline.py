"""From a source and footage to a bundle that was shown to be faithful, or to the reasons why there is none.

FP32 graphs -> outlier channels folded into weights -> activation ranges on real frames, the predictor's on its own
rollouts -> Q/DQ -> comparison on footage that calibration has not seen -> gate -> bundle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge.bundle import FORMAT, Bundle, GoalCost, Manifest, Part
from edge.engines.engine import Engine
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Floats
from export.assemble import NO_GRAPHS, assemble, own_version
from export.compare import Comparison, compare
from export.feeds import Plans, babbled_plans, encode, rollout_feeds, run, window_feed
from export.frames import Footage
from export.gate import Failure, failures
from export.lint.rules import lint
from export.lint.target import TARGETS
from export.quantize.dynamic import quantize_dynamically
from export.quantize.model import quantize_model
from export.quantize.pipeline import SMOOTHED, Calibration, Quantized
from export.remembering import Remembering
from export.restoring import Restored, restore_layers
from export.sources.source import Feed, Source
from export.verify import growth_report, latent_report, share_of_variance

CALIBRATION_SEED, VERIFICATION_SEED = 3, 4
CALIBRATION_PLANS, VERIFICATION_PLANS = 12, 24
"""Sets of plans; each is N plans of K steps in one call."""
BLAMED_ON = 4
"""Inputs on which single layers are tried."""

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """report: what goes into the bundle's ``int8``. failures: limits that do not hold; with any, bundle is None and
    nothing was written. blame: by part, the layers that cost most. seconds: by stage."""

    report: dict[str, Any]
    failures: list[Failure]
    bundle: Bundle | None
    blame: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_length(source: Source) -> int:
    """Pictures that one run of footage must have: a context, and enough after it to see errors grow."""
    horizon = source.plan_shape[1] if source.plan_shape else 5
    return source.time.context + horizon


def export_bundle(
    source: Source,
    footage: Footage,
    out: Path,
    *,
    keep_float: tuple[str, ...] = (),
    how: Calibration = SMOOTHED,
    dynamic: bool = False,
    with_fp32: bool = False,
    halves: bool = False,
    say: Say = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> Outcome:
    """The whole way. keep_float: layers, by the end of their name, to leave in float beside those of the source.
    how: scales are chosen (export.quantize.pipeline). dynamic: no scales, every call finds its own (export.quantize.dynamic).
    with_fp32: put the graphs from before quantization in as well. halves: and those with an FP16 body (export.quantize.half).
    Blocks for minutes. Raises UserError."""
    watch = _Stopwatch()
    actions = [_actions(footage.calibration, source, CALIBRATION_SEED), _actions(footage.verification, source, VERIFICATION_SEED)]
    fp32 = {part: graph.SerializeToString() for part, graph in source.graphs.items()}
    exact: dict[Part, Engine] = {
        part: Remembering(OnnxRuntimeEngine(data, f"{part} (fp32)")) for part, data in fp32.items()
    }
    samples = _samples(source, exact, footage, actions[0])
    report: dict[str, Any] = {}
    if source.peer is not None:
        say("holding the FP32 graphs against the original framework")
        report["parity"] = _parity(source, exact, samples)
    watch.lap("parity")

    def calibrated(restored: Mapping[Part, Collection[str]]) -> dict[Part, Quantized]:
        return calibrate(source, footage, how, keep_float=keep_float, restored=restored, say=say, progress=progress)

    quantized = quantize_dynamically(source.graphs, (*source.keep_float, *keep_float)) if dynamic else calibrated({})
    watch.lap("calibration")
    say("verifying on footage that calibration has not seen")

    loaded: dict[Part, tuple[bytes, Engine]] = {}

    def engine(part: Part, model: bytes) -> Engine:
        if part not in loaded or loaded[part][0] != model:
            loaded[part] = model, Remembering(OnnxRuntimeEngine(model, f"{part} (int8)"))
        return loaded[part][1]

    def verified(graphs: Mapping[Part, Quantized]) -> tuple[Comparison, dict[str, Any]]:
        engines = {part: engine(part, q.model) for part, q in graphs.items()}
        seen, count = footage.verification, VERIFICATION_PLANS
        compared = compare(exact, engines, seen, actions[1], seed=VERIFICATION_SEED, plans=_plans(source), plan_count=count)
        figures = compared.report
        figures["encoder"]["share_of_variance"] = share_of_variance(compared.exact_latents, compared.latents)
        figures["predictor"] |= latent_report(compared.exact[:, 0], compared.quantized[:, 0])
        figures["predictor"] |= growth_report(compared.exact, compared.quantized)
        figures["integer_gemms"] = {part: engine.info.integer_gemms for part, engine in engines.items()}
        return compared, figures

    compared, figures = verified(quantized)
    watch.lap("verification")
    restored = Restored(quantized)
    if failures(figures) and not failures(report):
        failed = failures(figures)
        restored = restore_layers(
            quantized, samples, failed, lambda q: failures(verified(q)[1]), calibrated, say, progress
        )
        quantized = restored.graphs
        compared, figures = verified(quantized)
        watch.lap("restoring")
    report |= figures
    if restored.kept:
        report["kept_in_float"] = restored.kept
    report["linears_quantized"] = {part: q.linears for part, q in quantized.items()}
    if dynamic:
        report["scales"] = "dynamic: for CPUs, TensorRT does not take it"
    elif how.smoothing:
        report["norms_folded"] = {part: len(q.smoothed.folded) for part, q in quantized.items() if q.smoothed}
    report["lint"] = _linted(quantized, say)
    report["verified_on"] = f"{len(footage.verification)} runs of {footage.verification.shape[1]} frames from the second half"

    failed = failures(report)
    if failed:
        return Outcome(report, failed, None, restored.blame, watch.laps)
    manifest = Manifest(
        format=FORMAT,
        name=source.name,
        version="1",
        kind="robot" if source.plan_shape else "camera",
        made_from=source.made_from,
        made_by=f"latentloop {own_version()}, {source.made_with}",
        licence=source.licence,
        picture=source.picture,
        latent=source.latent,
        time=source.time,
        actions=source.actions,
        goal=_goal(source, compared.latents),
        graphs=NO_GRAPHS,
        files={},
        int8=report,
    )
    bundle = assemble(out, manifest, quantized, fp32 if with_fp32 else None, halves=halves)
    watch.lap("writing")
    return Outcome(report, [], bundle, {}, watch.laps)


def calibrate(
    source: Source,
    footage: Footage,
    how: Calibration,
    *,
    keep_float: tuple[str, ...] = (),
    restored: Mapping[Part, Collection[str]] = {},
    say: Say = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> dict[Part, Quantized]:
    """Calibrated and quantized on the first half of the footage. keep_float: beside the layers that the source names.
    restored: see quantize_model. Blocks for minutes, less where the cache has the tables. Raises CalibrationError."""
    return quantize_model(
        source.graphs,
        footage.calibration,
        _actions(footage.calibration, source, CALIBRATION_SEED),
        seed=CALIBRATION_SEED,
        plans=_plans(source),
        plan_count=CALIBRATION_PLANS,
        made_from=footage.label,
        keep_float=(*source.keep_float, *keep_float),
        restored=restored,
        how=how,
        say=say,
        progress=progress,
    )


def _plans(source: Source) -> Plans:
    return lambda rng, candidates, horizon: babbled_plans(rng, candidates, horizon, len(source.actions))


def _actions(pictures: Any, source: Source, seed: int) -> Floats:
    """Footage does not tell what was commanded: babbling, (E, T, A)."""
    rng = np.random.default_rng(seed)
    return babbled_plans(rng, pictures.shape[0], pictures.shape[1], len(source.actions))


def _linted(quantized: Mapping[Part, Quantized], say: Say) -> dict[str, list[str]]:
    """By target, what TensorRT would refuse or get wrong. Told and kept, no reason to stop: a CPU may run it all the same."""
    found: dict[str, list[str]] = {name: [] for name in TARGETS}
    for part, graph in quantized.items():
        model = onnx.load_from_string(graph.model)
        for name, target in TARGETS.items():
            for finding in lint(model, target):
                if finding.effect != "costly":
                    found[name].append(f"{part}: {finding}")
                    say(f"{name} will not run it: {found[name][-1]}")
    return found


def _samples(source: Source, exact: Mapping[Part, Engine], footage: Footage, actions: Floats) -> dict[Part, list[Feed]]:
    """A few real inputs of every part."""
    chosen = footage.calibration[:BLAMED_ON]
    latents = encode(exact["encoder"], chosen)
    context = source.time.context
    samples: dict[Part, list[Feed]] = {
        "encoder": [{"picture": pictures[:1]} for pictures in chosen],
        "predictor": [window_feed(z[:context], a[:context]) for z, a in zip(latents, actions, strict=False)],
    }
    if source.plan_shape is not None:
        rng = np.random.default_rng(CALIBRATION_SEED)
        count = len(source.actions)
        samples["rollout"] = list(
            rollout_feeds(
                rng, latents, actions[: len(latents)], lambda r, n, k: babbled_plans(r, n, k, count), source.plan_shape, context, 1
            )
        )
    return samples


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
    return GoalCost("latent_mse", float(f"{reached:.5g}"), horizon, candidates, explained)


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
    lines = [f"below the gate: {failure.sentence}" for failure in outcome.failures]
    for part, layers in outcome.blame.items():
        named = ", ".join(f"{layer} ({error:.2%})" for layer, error in layers)
        lines.append(f"layers of the {part} that cost most when quantized alone: {named}")
    if outcome.blame:
        first = next(iter(outcome.blame.values()))[0][0]
        lines.append(f"nothing was written; give more varied footage, or keep layers in float, e.g. --keep-float {first}")
    elif all(failure.limit.section != "parity" for failure in outcome.failures):
        lines.append("nothing was written; calibrate on footage instead of --dynamic")
    else:
        lines.append("nothing was written; the exported graph is wrong, not its quantization: please report the model")
    return "\n".join(lines)

