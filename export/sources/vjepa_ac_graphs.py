"""V-JEPA 2-AC as the graphs of docs/bundles.md: predictor and rollout over actions in -1 .. 1.

A bundle does not carry the arm's pose, which the model is given with every frame. So the arm is told to be at one fixed pose
when the newest frame was seen, and the actions before and after it lead to the others. Actions turn nothing, as in the
published planner, so poses add up. Letters in shapes as in vjepa_model; A axes, N candidates, K steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.sources.vjepa_ac_model import AXES, ActionPredictor, Kept
from export.sources.vjepa_graphs import layer_normed

GRIPPER = 6
PLACES = {"x": 0, "y": 1, "z": 2, "gripper": GRIPPER}
"""The axes that a bundle may have, and where they stand in the model's actions."""


@dataclass(frozen=True)
class Arm:
    """axes: names of PLACES. offsets, factors: an axis at a in -1 .. 1 moves by offset + factor * a. pose: (7,) at the newest
    frame."""

    axes: tuple[str, ...]
    offsets: tuple[float, ...]
    factors: tuple[float, ...]
    pose: tuple[float, ...]


class Motion(nn.Module):
    """Actions (B, T, A) in -1 .. 1 -> as the model takes them, (B, T, 7)."""

    def __init__(self, arm: Arm) -> None:
        super().__init__()
        spread, offset = torch.zeros(len(arm.axes), AXES), torch.zeros(AXES)
        for axis, name in enumerate(arm.axes):
            spread[axis, PLACES[name]] = arm.factors[axis]
            offset[PLACES[name]] = arm.offsets[axis]
        self.spread: Tensor
        self.offset: Tensor
        self.pose: Tensor
        self.register_buffer("spread", spread)
        self.register_buffer("offset", offset)
        self.register_buffer("pose", torch.tensor([arm.pose]))

    def forward(self, actions: Tensor) -> Tensor:
        return actions @ self.spread + self.offset

    def after(self, pose: Tensor, action: Tensor) -> Tensor:
        """Poses (B, 7) after actions (B, 7); before them, if they are given negated."""
        moved = pose + action
        return torch.cat([moved[:, :GRIPPER], moved[:, GRIPPER:].clamp(0.0, 1.0)], dim=1)


class Past(nn.Module):
    """Everything before the newest frame of a context, the same for all that may follow."""

    def __init__(self, predictor: ActionPredictor, arm: Arm) -> None:
        super().__init__()
        self.predictor, self.motion = predictor, Motion(arm)

    def forward(self, context: Tensor, moved: Tensor) -> list[Kept]:
        """context (1, C, S, D), actions taken between its frames (1, C - 1, 7) -> what C - 1 frames keep."""
        count = moved.shape[1]
        poses = [self.motion.pose]
        for step in reversed(range(count)):
            poses.insert(0, self.motion.after(poses[0], -moved[:, step]))
        past: list[Kept] = []
        for time in range(count):
            _, kept = self.predictor.frame(time, context[:, time], moved[:, time], poses[time], past)
            past.append(kept)
        return past


class PredictorGraph(nn.Module):
    """context (1, C, S, D), actions (1, C, A) -> predicted (1, S, D)."""

    def __init__(self, predictor: ActionPredictor, arm: Arm) -> None:
        super().__init__()
        self.past = Past(predictor, arm)

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        motion, predictor = self.past.motion, self.past.predictor
        moved = motion(actions)
        past = self.past(context, moved[:, :-1])
        tokens, _ = predictor.frame(len(past), context[:, -1], moved[:, -1], motion.pose, past)
        return layer_normed(tokens)


class RolloutGraph(nn.Module):
    """context (1, C, S, D), past_actions (1, C - 1, A) if C > 1, actions (N, K, A), goal (1, S, D) -> distance (N, K).

    Frames are never dropped from what later ones see, as in the published planner: at the last step, C + K - 1 are.
    """

    def __init__(self, predictor: ActionPredictor, arm: Arm) -> None:
        super().__init__()
        self.past = Past(predictor, arm)

    def forward(self, context: Tensor, *given: Tensor) -> Tensor:
        *past_actions, actions, goal = given
        motion, predictor = self.past.motion, self.past.predictor
        moved = motion(actions)
        past = self.past(context, motion(past_actions[0])) if past_actions else []
        latents, pose = context[:, -1], motion.pose.expand(len(actions), -1)
        distances = []
        for step in range(actions.shape[1]):
            tokens, kept = predictor.frame(len(past), latents, moved[:, step], pose, past)
            latents, pose = layer_normed(tokens), motion.after(pose, moved[:, step])
            past.append(kept)
            away = latents - goal
            distances.append((away * away).mean(dim=(1, 2)))
        return torch.stack(distances, dim=1)
