"""Export the rover: ``python -m export.reference.rover_export --weights build/rover/rover.pt``.

torch weights -> FP32 graphs -> calibration on the simulator's pictures and on rollouts -> INT8 graphs -> a report of
what quantization cost, on pictures that calibration has not seen -> bundle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edge.bundle import (
    FORMAT,
    Action,
    GoalCost,
    LatentShape,
    Manifest,
    Part,
    Picture,
    Timing,
)
from edge.engines.engine import Engine
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.errors import UserError
from edge.messages import Floats
from edge.samples import Samples
from edge.worlds.arena import ArenaPainter
from edge.worlds.rover import SPEC, STEP_S, random_actions, random_pose
from export.acceptance import Acceptance, accept, blamed
from export.assemble import NO_GRAPHS, assemble, own_version
from export.evidence import About
from export.feeds import run
from export.onnx_graphs import to_onnx
from export.pipeline import Outcome, say_outcome
from export.quantize.model import quantize_model
from export.quantize.pipeline import Calibration, Quantized
from export.reference.rover_data import record
from export.reference.rover_graphs import EncoderGraph, PredictorGraph, example_inputs
from export.reference.rover_model import RoverModel
from export.reference.rover_rollout import rollout_graph
from export.refinement import elites_of
from export.sampling import samples_of

CALIBRATION_SEED = 3
VERIFICATION_SEED = 4
"""Footage of its own for each purpose; rover_data has the seeds of training and validation."""
NEAR_M = 0.05
NEAR_RAD = np.deg2rad(10.0)
REACHED_QUANTILE = 0.9

KEEP_FLOAT = ("outward", "encoder.out")
"""The layers that write the step into the latent, and the latent itself. The rounding error of the first adds up over a rollout:
alone it took the rank correlation of plan costs from 0.999 to 0.982, and in float it costs 2 % of the time. The second is small,
and in float the action chosen from the device's own latents is that of FP32 in 96 % of states and not in 94 %."""
HOW = Calibration("max")
"""Clipping hurts most where plans end far off, and those decide which plan is best: docs/quantizer.md."""


def load_model(path: Path) -> RoverModel:
    """The model from a state dictionary, or from a training checkpoint. Raises UserError."""
    advice = "give the file that rover_train wrote"
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model = RoverModel()
        model.load_state_dict(saved.get("model", saved))
    except OSError as error:
        raise UserError(f"weights {path} cannot be read ({error.strerror}): {advice}") from None
    except Exception as error:  # noqa: BLE001 - torch raises half a dozen types for a file that is not what it expects
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"weights {path} do not fit the rover's model ({reason}): {advice}") from None
    return model.eval()


def export_graphs(model: RoverModel, candidates: int, horizon: int) -> dict[Part, onnx.ModelProto]:
    """The three FP32 graphs."""
    inputs = example_inputs(model)
    return {
        "encoder": to_onnx(EncoderGraph(model), inputs["encoder"], ["latent"]),
        "predictor": to_onnx(PredictorGraph(model), inputs["predictor"], ["predicted"]),
        "rollout": rollout_graph(model, candidates, horizon),
    }


def plan_actions(rng: np.random.Generator, candidates: int, horizon: int) -> Floats:
    """Plans as planners try them: half babbling, a quarter white noise, a quarter at the extremes. (N, K, 2)."""
    babbling = random_actions(rng, candidates, horizon)
    white = rng.uniform(-1.0, 1.0, babbling.shape)
    extreme = np.sign(random_actions(rng, candidates, horizon))
    kind = rng.integers(0, 4, size=(candidates, 1, 1))
    return np.where(kind == 0, white, np.where(kind == 1, extreme, babbling)).astype(np.float32)


def nearness(encoder: Engine, pairs: int, seed: int) -> tuple[Floats, Floats]:
    """Goal costs between pictures of poses within NEAR_M and NEAR_RAD of each other, and between poses 2 to 3 times
    that far apart in both; noise and light differ in every picture. Each (pairs,)."""
    rng = np.random.default_rng(seed)
    painter = ArenaPainter(seed)
    _, height, width, _ = encoder.inputs["picture"].shape

    def look(pose: NDArray[np.float64]) -> Floats:
        full = painter.paint(pose, float(rng.uniform(0.9, 1.1)))
        return run(encoder, {"picture": cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)[None]})

    costs = np.empty((2, pairs), np.float32)
    for index, pose in enumerate(random_pose(rng, pairs)):
        here = look(pose)
        for far in (0, 1):
            reach = np.sqrt(rng.uniform(0, 1)) if not far else rng.uniform(2.0, 3.0)
            bearing = rng.uniform(-np.pi, np.pi)
            away = reach * np.array([np.cos(bearing), np.sin(bearing)])
            turn = rng.uniform(-1, 1) if not far else rng.choice([-1, 1]) * rng.uniform(2.0, 3.0)
            other = pose + np.array([*(away * NEAR_M), turn * NEAR_RAD])
            margin = SPEC.body_radius
            other[:2] = np.clip(other[:2], margin, np.array([SPEC.arena_width, SPEC.arena_height]) - margin)
            costs[far, index] = np.square(look(other) - here).mean()
    return costs[0], costs[1]


@dataclass(frozen=True)
class Measured:
    """quantized: the INT8 graphs. accepted: what they were measured to cost. manifest: complete but for graphs and files.
    samples: pictures of the verification for the device."""

    quantized: dict[Part, Quantized]
    accepted: Acceptance
    manifest: Manifest
    samples: Samples


def export_rover(
    model: RoverModel,
    out: Path,
    *,
    made_from: str,
    candidates: int = 192,
    horizon: int = 15,
    reached_cost: float | None = None,
    keep_float: tuple[str, ...] = (),
    with_fp32: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """The whole way from a torch model to a bundle at ``out``, or to the reasons why there is none: below the gate nothing is
    written. with_fp32: put the graphs from before quantization in as well, some 18 MB. The rest as in measure_rover. Blocks
    for minutes. Raises UserError."""
    measured = measure_rover(
        model,
        made_from=made_from,
        candidates=candidates,
        horizon=horizon,
        reached_cost=reached_cost,
        keep_float=keep_float,
        say=say,
    )
    accepted = measured.accepted
    if accepted.failures:
        say("finding the layers to blame")
        return Outcome(blamed(accepted, measured.quantized), accepted.failures, None)
    bundle = assemble(
        out,
        measured.manifest,
        measured.quantized,
        with_fp32=with_fp32,
        evidence=accepted.evidence,
        samples=measured.samples,
    )
    return Outcome(accepted.evidence, [], bundle)


def measure_rover(
    model: RoverModel,
    *,
    made_from: str,
    candidates: int,
    horizon: int,
    reached_cost: float | None = None,
    keep_float: tuple[str, ...] = (),
    episodes: int = 24,
    states: int = 500,
    say: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Quantize, and measure what that costs, on the simulator's pictures and actions.

    reached_cost: None measures it. keep_float: layers, by the end of their name, that stay in float beside KEEP_FLOAT.
    episodes: of 16 frames, to calibrate on and to verify on, each. states: in which plans are compared; of 100, one more or less
    that agree is a whole percent. Raises UserError.
    """
    say("writing the FP32 graphs")
    graphs = export_graphs(model, candidates, horizon)
    fp32 = {part: graph.SerializeToString() for part, graph in graphs.items()}

    footage = record(episodes, 16, (CALIBRATION_SEED,))
    quantized = quantize_model(
        graphs,
        footage.pictures,
        footage.actions,
        seed=CALIBRATION_SEED,
        plans=plan_actions,
        plan_count=episodes,
        made_from=f"{episodes} simulated episodes of 16 frames, seed {CALIBRATION_SEED}",
        keep_float=(*KEEP_FLOAT, *keep_float),
        how=HOW,
        say=say,
    )

    say("verifying on pictures that calibration has not seen")
    exact = {part: OnnxRuntimeEngine(data, f"{part} (fp32)") for part, data in fp32.items()}
    fresh = record(episodes, 16, (VERIFICATION_SEED,))
    made_by = f"latentloop {own_version()}, torch {torch.__version__}"
    accepted = accept(
        exact,
        quantized,
        fresh.pictures,
        fresh.actions,
        seed=VERIFICATION_SEED,
        plans=plan_actions,
        plan_count=states,
        commanded=True,
        about=About("rover", made_from, made_by, "its FP32 graphs"),
        verified_on=f"{episodes} simulated episodes of 16 frames, seed {VERIFICATION_SEED}",
        say=say,
    )
    encoder = OnnxRuntimeEngine(quantized["encoder"].model, "encoder (int8)")
    near, far = nearness(encoder, 300, VERIFICATION_SEED)
    chosen = float(np.quantile(near, REACHED_QUANTILE)) if reached_cost is None else reached_cost
    explained = (
        f"cost of {np.mean(near <= chosen):.0%} of pictures within {NEAR_M * 100:.0f} cm and "
        f"{np.rad2deg(NEAR_RAD):.0f} degrees of the goal, and of {np.mean(far <= chosen):.0%} of those 2 to 3 times "
        f"as far off in both (simulator, {len(near)} pairs, noise and light differ)"
    )

    wheel = SPEC.max_wheel_speed
    spec = model.spec
    manifest = Manifest(
        format=FORMAT,
        name="rover",
        version="1",
        kind="robot",
        made_from=made_from,
        made_by=made_by,
        licence="Apache-2.0",
        picture=Picture(spec.height, spec.width),
        latent=LatentShape(1, spec.latent),
        time=Timing(STEP_S, spec.window),
        actions=(Action("left", "rad/s", -wheel, wheel), Action("right", "rad/s", -wheel, wheel)),
        goal=GoalCost("latent_mse", chosen, horizon, candidates, elites_of(candidates), explained),
        graphs=NO_GRAPHS,
        files={},
        int8=accepted.evidence.figures,
    )
    samples = samples_of(manifest, fresh.pictures, accepted.compared.exact_latents)
    return Measured(quantized, accepted, manifest, samples)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.reference.rover_export", description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("build/rover/rover.pt"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("edge/bundles/rover"), help="default: %(default)s")
    parser.add_argument("--candidates", type=int, default=64, help="plans per call (default: %(default)s)")
    parser.add_argument("--horizon", type=int, default=15, help="steps per plan (default: %(default)s)")
    parser.add_argument("--reached-cost", type=float, help="cost at which a goal counts as reached (default: measured)")
    parser.add_argument("--keep-float", action="append", default=[], metavar="LAYER", help="leave layers that end so in float")
    parser.add_argument("--fp32", action="store_true", help="add the graphs from before quantization (18 MB)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        outcome = export_rover(
            load_model(given.weights),
            given.out,
            made_from=f"{given.weights.name}, trained by export.reference.rover_train",
            candidates=given.candidates,
            horizon=given.horizon,
            reached_cost=given.reached_cost,
            keep_float=tuple(given.keep_float),
            with_fp32=given.fp32,
            say=lambda line: print(line, flush=True),
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return say_outcome(outcome)


if __name__ == "__main__":
    sys.exit(main())
