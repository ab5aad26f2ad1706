"""What each way to quantize costs: ``python -m export.reference.quantizer_trials --only rover``.

Clipping by maximum, percentile and least squares, each with and without bias correction, and dynamic scales, on the rover,
the camera model and a full-size LeWorldModel with random weights; INT8 held against FP32 on footage that calibration has not
seen. docs/export.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import torch

from calibration.histogram import Method
from calibration.scale_cache import ScaleCache
from edge.bench.engines import fill, take_turns
from edge.bundle import Part, Picture
from edge.engines.engine import Engine
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.errors import UserError
from edge.messages import Floats
from export.compare import compare
from export.feeds import Plans, babbled_plans
from export.frames import Footage, read_footage
from export.quantize.model import quantize_model
from export.quantize.pipeline import Calibration, Quantized, quantize_dynamically
from export.reference import camera_export, rover_export
from export.reference.lewm_random import randomised
from export.reference.rover_data import record
from export.sources.lewm import Deployment, lewm_source
from export.sources.lewm_model import LeWMSpec
from export.verify import growth_report, latent_report, share_of_variance

METHODS: tuple[Method, ...] = get_args(Method)
CALIBRATION_SEED, VERIFICATION_SEED = 3, 4


@dataclass(frozen=True)
class Subject:
    """A model with footage. actions: of the two halves of the footage, (E, T, A)."""

    graphs: Mapping[Part, onnx.ModelProto]
    footage: Footage
    actions: tuple[Floats, Floats]
    plans: Plans
    keep_float: tuple[str, ...] = ()
    smoothing: bool = False


def rover(weights: Path, data: Path) -> Subject:
    """24 + 24 episodes in the simulator; the layer that writes the step into the latent stays in float."""
    seen, fresh = (record(24, 16, (seed,)) for seed in (CALIBRATION_SEED, VERIFICATION_SEED))
    footage = Footage(seen.pictures, fresh.pictures, "24 simulated episodes")
    graphs = rover_export.export_graphs(rover_export.load_model(weights), candidates=64, horizon=15)
    return Subject(graphs, footage, (seen.actions, fresh.actions), rover_export.plan_actions, rover_export.KEEP_FLOAT)


def camera(weights: Path, data: Path) -> Subject:
    """Two halves of a recording with one fixed camera."""
    model = camera_export.load_model(weights)
    spec = model.spec
    video = data / "intel_sample_videos" / "one-by-one-person-detection.mp4"
    footage = read_footage(str(video), Picture(spec.height, spec.width), spec.step_s, spec.context + 4, 32)
    return Subject(camera_export.export_graphs(model), footage, _babbled(footage, 0), _babbling(0))


def lewm(weights: Path, data: Path) -> Subject:
    """Full size, random weights. As for any checkpoint, outlier channels of norms are folded into weights."""
    source = lewm_source(randomised(LeWMSpec()), Deployment(step_s=0.2), "random weights")
    footage = read_footage(str(data / "intel_sample_videos" / "car-detection.mp4"), source.picture, 0.2, 8, 16)
    count = len(source.actions)
    return Subject(source.graphs, footage, _babbled(footage, count), _babbling(count), smoothing=True)


SUBJECTS: dict[str, Callable[[Path, Path], Subject]] = {"rover": rover, "camera": camera, "lewm": lewm}


def trials(subject: Subject, folder: Path) -> Iterator[tuple[str, dict[Part, Quantized]]]:
    """The ways, each with its graphs. folder: for scale tables, so that what two ways share is measured once."""
    for method in METHODS:
        for correcting in (False, True):
            yield (
                f"{method}, corrected" if correcting else method,
                quantize_model(
                    subject.graphs,
                    subject.footage.calibration,
                    subject.actions[0],
                    seed=CALIBRATION_SEED,
                    plans=subject.plans,
                    plan_count=12,
                    made_from=subject.footage.label,
                    keep_float=subject.keep_float,
                    how=Calibration(method, subject.smoothing, correcting, ScaleCache(folder)),
                ),
            )
    yield "dynamic", {part: quantize_dynamically(graph, subject.keep_float) for part, graph in subject.graphs.items()}


def figures(subject: Subject, exact: Mapping[Part, Engine], found: Mapping[Part, Engine]) -> dict[str, float]:
    """What a way costs, in the terms of the gate."""
    seed, plans = VERIFICATION_SEED, subject.plans
    compared = compare(
        exact, found, subject.footage.verification, subject.actions[1], seed=seed, plans=plans, plan_count=48
    )
    first = latent_report(compared.exact[:, 0], compared.quantized[:, 0])
    growth = list(growth_report(compared.exact, compared.quantized).values())
    encoded = latent_report(compared.exact_latents, compared.latents)
    planner = compared.report.get("planner", {})
    return {
        "encoder_error": encoded["relative_error"],
        "encoder_cosine": encoded["cosine"],
        "share_of_variance": share_of_variance(compared.exact_latents, compared.latents),
        "predictor_error": first["relative_error"],
        "predictor_error_at_end": growth[-1],
        **{name: planner[name] for name in ("rank_correlation", "same_best") if name in planner},
    }


def _babbled(footage: Footage, axes: int) -> tuple[Floats, Floats]:
    halves = ((footage.calibration, CALIBRATION_SEED), (footage.verification, VERIFICATION_SEED))
    one, other = (babbled_plans(np.random.default_rng(seed), half.shape[0], half.shape[1], axes) for half, seed in halves)
    return one, other


def _babbling(axes: int) -> Plans:
    return lambda rng, candidates, horizon: babbled_plans(rng, candidates, horizon, axes)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.reference.quantizer_trials", description=__doc__)
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="model (default: all three)")
    parser.add_argument("--rover", type=Path, default=Path("build/rover/rover.pt"), help="weights (default: %(default)s)")
    parser.add_argument("--camera", type=Path, default=Path("build/camera/camera.pt"), help="weights (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the footage (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="to time each graph (default: %(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        for name in given.only or SUBJECTS:
            subject = SUBJECTS[name](given.camera if name == "camera" else given.rover, given.data)
            for line in _lines(name, subject, given.seconds):
                print(json.dumps(line), flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _lines(name: str, subject: Subject, seconds: float) -> Iterator[dict[str, Any]]:
    """One line per way, and one with the least milliseconds per call of each graph, runtimes taking turns."""
    exact = {part: OnnxRuntimeEngine(graph.SerializeToString(), f"{part} (fp32)") for part, graph in subject.graphs.items()}
    timed: dict[str, Mapping[Part, Engine]] = {"fp32": exact}
    with tempfile.TemporaryDirectory(prefix="latentloop-") as folder:
        for way, graphs in trials(subject, Path(folder)):
            found = {part: OnnxRuntimeEngine(q.model, f"{part} ({way})") for part, q in graphs.items()}
            integers = {part: engine.info.precision for part, engine in found.items()}
            yield {"model": name, "way": way, **figures(subject, exact, found), "precision": integers}
            if way in ("mse", "dynamic"):
                timed[way] = found
    times: dict[str, dict[str, float]] = {}
    for part in exact:
        for way in timed:
            fill(timed[way][part])
        calls: dict[tuple[str, str], Callable[[], None]] = {(way, part): timed[way][part].enqueue for way in timed}
        measured = take_turns(calls, seconds)
        times[part] = {way: round(min(measured[way, part]), 3) for way in timed}
    yield {"model": name, "ms": times}


if __name__ == "__main__":
    sys.exit(main())
