"""From a V-JEPA 2-AC in memory to a source: a robot arm's model, with a rollout for the planner."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from edge.bundle import Action, LatentShape, Part, Timing
from edge.messages import Floats
from export.onnx_graphs import to_onnx
from export.sources.deployment_file import read_deployment_file
from export.sources.source import Feed, Source, SourceError, check_actions
from export.sources.vjepa_ac_graphs import PLACES, Arm, Motion, PredictorGraph, RolloutGraph
from export.sources.vjepa_ac_model import AXES, ActionPredictor
from export.sources.vjepa_graphs import EncoderGraph, layer_normed
from export.sources.vjepa_model import Encoder
from export.sources.vjepa_source import encoded, picture_of

REACH_M = 0.075
"""How far the published planner moves along an axis in one step, in metres."""
REACHES = tuple(Action(name, "m per step", -REACH_M, REACH_M) for name in "xyz")
ASSUMED = (*REACHES, Action("gripper", "closedness per step", -0.75, 0.75))
"""What the published planner searches."""
ASSUMED_POSE = (0.5, 0.0, 0.3, math.pi, 0.0, 0.0, 0.0)
"""In front of a Franka arm's base, the gripper open and pointing down."""


class Acting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``latentloop.toml`` says. step_s: seconds from one frame to the next. context: frames that one prediction sees.
    horizon, candidates: K and N of the rollout. size: height and width of the picture. pose: x, y, z in metres, three Euler
    angles in radian, closedness of the gripper, of the arm as the model is always told."""

    name: str = "vjepa2-ac"
    licence: str = "not stated beside the checkpoint"
    step_s: float = 0.25
    context: int = 1
    horizon: int = 2
    candidates: int = 32
    size: int = 256
    pose: tuple[float, ...] = ASSUMED_POSE
    actions: tuple[Action, ...] = ASSUMED


def read_acting(path: Path) -> Acting:
    """The file, or what is assumed without one. Raises SourceError."""
    found = read_deployment_file(path, Acting)
    for key in ("step_s", "context", "horizon", "candidates", "size"):
        if not 0 < getattr(found, key) < math.inf:
            raise SourceError(f"{path} has {key} {getattr(found, key)} and it must be above 0: correct it")
    if len(found.pose) != AXES or not all(map(math.isfinite, found.pose)):
        raise SourceError(f"{path} has pose {list(found.pose)}: give {AXES} numbers, x, y, z, three Euler angles, closedness")
    check_actions(path, found.actions)
    for action in found.actions:
        if action.name not in PLACES:
            raise SourceError(
                f"{path}: action {action.name!r} is none of {', '.join(PLACES)}, and rotations are not planned: leave it out"
            )
    if not found.actions:
        raise SourceError(f"{path} has no actions: give some of {', '.join(PLACES)}, or leave the key out")
    return found


def acting_source(encoder: Encoder, predictor: ActionPredictor, deployment: Acting, made_from: str) -> Source:
    """Traces the three graphs. Both models are in evaluation mode; the encoder takes single pictures."""
    clip, width = encoder.clip, encoder.spec.width
    arm, context, axes = arm_of(deployment), deployment.context, len(deployment.actions)
    picture = torch.zeros(1, *clip.size, 3, dtype=torch.uint8)
    latents = torch.zeros(1, context, clip.patches, width)
    past = {"past_actions": torch.zeros(1, context - 1, axes)} if context > 1 else {}
    plans = torch.zeros(deployment.candidates, deployment.horizon, axes)
    predicting = {"context": latents, "actions": torch.zeros(1, context, axes)}
    planning = {"context": latents, **past, "actions": plans, "goal": latents[:, 0]}
    return Source(
        name=deployment.name,
        licence=deployment.licence,
        made_from=f"{made_from}; the arm is taken to be at {list(deployment.pose)}",
        made_with=f"torch {torch.__version__}",
        picture=picture_of(clip),
        latent=LatentShape(clip.patches, width, clip.grid),
        time=Timing(deployment.step_s, context),
        graphs={
            "encoder": to_onnx(EncoderGraph(encoder, layer_normed=True), {"picture": picture}, ["latent"]),
            "predictor": to_onnx(PredictorGraph(predictor, arm), predicting, ["predicted"]),
            "rollout": to_onnx(RolloutGraph(predictor, arm), planning, ["distance"]),
        },
        actions=deployment.actions,
        plan_shape=(deployment.candidates, deployment.horizon),
        peer=lambda part, feed: peer(encoder, predictor, arm, part, feed),
    )


def arm_of(deployment: Acting) -> Arm:
    """The arm in the terms of the graphs."""
    offsets = tuple((action.low + action.high) / 2.0 for action in deployment.actions)
    factors = tuple((action.high - action.low) / 2.0 for action in deployment.actions)
    return Arm(tuple(action.name for action in deployment.actions), offsets, factors, deployment.pose)


@torch.no_grad()
def peer(encoder: Encoder, predictor: ActionPredictor, arm: Arm, part: Part, feed: Feed) -> Floats:
    """What the plain models compute from a bundle's inputs: every step anew, over all frames so far."""
    given: dict[str, Tensor] = {name: torch.from_numpy(np.array(values)) for name, values in feed.items()}
    if part == "encoder":
        latent: Floats = layer_normed(encoded(encoder, given["picture"])).numpy()
        return latent
    motion, latents = Motion(arm), given["context"]
    if part == "predictor":
        moved = motion(given["actions"])
        predicted: Floats = layer_normed(predictor(latents, moved, poses(motion, moved, latents.shape[1]))[:, -1]).numpy()
        return predicted
    count, horizon = given["actions"].shape[:2]
    seen = latents.shape[1]
    planned = [given["past_actions"].expand(count, -1, -1)] if seen > 1 else []
    moved = motion(torch.cat([*planned, given["actions"]], dim=1))
    told = poses(motion, moved, seen)
    frames, distances = latents.expand(count, -1, -1, -1), []
    for step in range(horizon):
        until = seen + step
        following = layer_normed(predictor(frames, moved[:, :until], told[:, :until])[:, -1:])
        frames = torch.cat([frames, following], dim=1)
        distances.append((following[:, 0] - given["goal"]).square().mean(dim=(1, 2)))
    distance: Floats = torch.stack(distances, dim=1).numpy()
    return distance


def poses(motion: Motion, moved: Tensor, seen: int) -> Tensor:
    """Poses (B, T, 7) at which actions (B, T, 7) were taken, if the arm was at the fixed pose at frame ``seen``, from 1."""
    told = [motion.pose.expand(len(moved), -1)]
    for step in reversed(range(seen - 1)):
        told.insert(0, motion.after(told[0], -moved[:, step]))
    for step in range(seen - 1, moved.shape[1] - 1):
        told.append(motion.after(told[-1], moved[:, step]))
    return torch.stack(told, dim=1)
