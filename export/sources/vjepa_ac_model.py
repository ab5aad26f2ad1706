"""The action-conditioned predictor of V-JEPA 2-AC in plain torch: what a frame looks like after an action of the arm.

Each frame is its patches with a token of the action taken and one of the arm's pose before them. Within a frame everything
sees everything, and all frames before it; so frames are worked through one after the other, each leaving its keys and values
to those that follow, and no mask is needed. Letters in shapes as in vjepa_model; T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from export.sources.vjepa_model import Block, StackSpec
from export.sources.vjepa_rope import Rope, grid_positions

AXES = 7
"""Numbers of a pose and of an action: x, y, z in metres, three Euler angles in radian, how far the gripper is closed."""
CONDITIONS = 2
"""Tokens of a frame before its patches."""

Kept = list[tuple[Tensor, Tensor]]
"""Keys and values of one frame, layer by layer, each (B, heads, n, head); B may be 1 where all of a batch share it."""


class ActionPredictor(nn.Module):
    """times: how many frames there may be. Latents are layer-normed encoder tokens, as in training."""

    def __init__(self, spec: StackSpec, encoder_width: int, times: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.predictor_embed = nn.Linear(encoder_width, spec.width)
        self.action_encoder = nn.Linear(AXES, spec.width)
        self.state_encoder = nn.Linear(AXES, spec.width)
        self.predictor_blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.predictor_norm = nn.LayerNorm(spec.width, eps=spec.eps)
        self.predictor_proj = nn.Linear(spec.width, encoder_width)
        self.ropes = nn.ModuleList(Rope(_frame_positions(time, grid), spec.head, "tiled") for time in range(times))

    def frame(
        self, time: int, latents: Tensor, action: Tensor, pose: Tensor, past: Sequence[Kept]
    ) -> tuple[Tensor, Kept]:
        """One frame: latents (B, S, D), action (B, 7), pose (B, 7), what the frames before it kept -> the tokens of the next
        frame, (B, S, D), not layer-normed, and what this one keeps. Latents may be (1, S, D) where all share them."""
        batch = len(action)
        conditions = torch.stack([self.action_encoder(action), self.state_encoder(pose)], dim=1)
        x = torch.cat([conditions, _for_all(self.predictor_embed(latents), batch)], dim=1)
        rope, kept = self.ropes[time], Kept()
        assert isinstance(rope, Rope)
        for layer, block in enumerate(self.predictor_blocks):
            assert isinstance(block, Block)
            q, k, v = block.attn.parts(block.norm1(x), rope)
            kept.append((k, v))
            seen = [*(frame[layer] for frame in past), (k, v)]
            keys, values = (torch.cat([_for_all(pair[i], batch) for pair in seen], dim=2) for i in range(2))
            x = x + block.attn.mixed(q, keys, values)
            x = x + block.mlp(block.norm2(x))
        return self.predictor_proj(self.predictor_norm(x[:, CONDITIONS:])), kept

    def forward(self, latents: Tensor, actions: Tensor, poses: Tensor) -> Tensor:
        """latents (B, T, S, D), actions and poses (B, T, 7) -> (B, T, S, D): at t, the frame after action t."""
        past: list[Kept] = []
        following = []
        for time in range(latents.shape[1]):
            tokens, kept = self.frame(time, latents[:, time], actions[:, time], poses[:, time], past)
            following.append(tokens)
            past.append(kept)
        return torch.stack(following, dim=1)


def _for_all(x: Tensor, batch: int) -> Tensor:
    """x (1 or B, ...) -> (B, ...)."""
    return x if len(x) == batch else x.expand(batch, *x.shape[1:])


def _frame_positions(time: int, grid: tuple[int, int]) -> Tensor:
    """Of the tokens of one frame: action and pose are turned by time alone."""
    conditions = torch.tensor([[float(time), 0.0, 0.0]] * CONDITIONS, dtype=torch.float64, device="cpu")
    patches = grid_positions(torch.tensor([time], device="cpu"), *grid)
    return torch.cat([conditions, patches])
