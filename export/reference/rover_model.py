"""The rover's world model: a JEPA with one latent per frame and an action-conditioned predictor.

Encoder: a pyramid of strided convolutions written as Linear layers, so that all of it quantizes. Predictor: AdaLN-zero transformer
blocks over a window of three frames, in the manner of LeWorldModel (2603.19312). Letters in shapes as in edge.messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RoverModelSpec:
    """Sizes. height, width: model picture in pixels. window: frames one prediction sees."""

    height: int = 48
    width: int = 64
    latent: int = 128
    action: int = 2
    window: int = 3
    heads: int = 4
    blocks: int = 3
    widths: tuple[int, ...] = (24, 48, 96, 192)
    head: int = 512


SPEC = RoverModelSpec()
PIXEL_MEAN = 127.5
PIXEL_STD = 64.0


def overlapping_patches(x: Tensor) -> Tensor:
    """What a 4x4 convolution with stride 2 and padding 1 looks at: (B, H, W, C) -> (B, H/2, W/2, 16 C)."""
    x = nn.functional.pad(x, (0, 0, 1, 1, 1, 1))
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
    return torch.cat([x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]], dim=-1)


class Stage(nn.Module):
    """Halve the picture: a 4x4 convolution with stride 2, written as a Linear so that it quantizes like one."""

    def __init__(self, inward: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(16 * inward, width)
        self.norm = nn.LayerNorm(width)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        # The same numbers either way; training is twice as fast as a convolution, the exported graph is a Linear.
        projected = self.convolved(x) if self.training else self.project(overlapping_patches(x))
        y: Tensor = self.gelu(self.norm(projected))
        return y

    def convolved(self, x: Tensor) -> Tensor:
        """The projection as the convolution that it is."""
        linear = self.project
        outward, inward = linear.out_features, linear.in_features // 16
        kernel = linear.weight.reshape(outward, 2, 2, 2, 2, inward).permute(0, 5, 1, 3, 2, 4)
        kernel = kernel.reshape(outward, inward, 4, 4).contiguous(memory_format=torch.channels_last)
        y = nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel, linear.bias, stride=2, padding=1)
        return y.permute(0, 2, 3, 1)


class Encoder(nn.Module):
    """uint8 picture (B, H, W, 3) BGR -> latent (B, D)."""

    def __init__(self, spec: RoverModelSpec = SPEC) -> None:
        super().__init__()
        widths = (3, *spec.widths)
        self.stages = nn.Sequential(*(Stage(inward, width) for inward, width in pairwise(widths)))
        cells = (spec.height >> len(spec.widths)) * (spec.width >> len(spec.widths))
        # The mean over all cells tells which way the rover points wherever it is; the cells tell where it is.
        self.dense = nn.Linear((cells + 1) * spec.widths[-1], spec.head)
        self.batch_norm = nn.BatchNorm1d(spec.head)
        self.gelu = nn.GELU()
        self.out = nn.Linear(spec.head, spec.latent)

    def forward(self, picture: Tensor) -> Tensor:
        x = (picture.float() - PIXEL_MEAN) / PIXEL_STD
        x = self.stages(x).flatten(1, 2)
        x = torch.cat([x.flatten(1), x.mean(dim=1)], dim=1)
        z: Tensor = self.out(self.gelu(self.batch_norm(self.dense(x))))
        return z


class Block(nn.Module):
    """AdaLN-zero transformer block. Attention is written out; positions are a learned bias on how long ago a key was."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.gelu = nn.GELU()
        self.lag_bias = nn.Parameter(torch.zeros(heads, window))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, heads, T, width / heads)."""
        b, t, width = x.shape
        return x.reshape(b, t, self.heads, width // self.heads).transpose(1, 2)

    def project(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shift, scale = modulation.chunk(6, dim=-1)[:2]
        q, k, v = self.qkv(self.norm(x) * (1 + scale) + shift).chunk(3, dim=-1)
        return self.split_heads(q), self.split_heads(k), self.split_heads(v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """q (B, heads, Tq, d), k and v (B, heads, Tk, d), bias broadcastable to (B, heads, Tq, Tk). -> (B, Tq, width)."""
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5) + bias
        mixed: Tensor = (scores.softmax(dim=-1) @ v).transpose(1, 2)
        return mixed.reshape(mixed.shape[0], mixed.shape[1], -1)

    def finish(self, x: Tensor, mixed: Tensor, modulation: Tensor) -> Tensor:
        _, _, gate, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        x = x + gate * self.mix(mixed)
        y: Tensor = x + gate2 * self.down(self.gelu(self.up(self.norm(x) * (1 + scale2) + shift2)))
        return y

    def forward(self, x: Tensor, modulation: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.project(x, modulation)
        return self.finish(x, self.attend(q, k, v, bias), modulation)

    def band_bias(self, length: int) -> Tensor:
        """(heads, length, length): the learned bias inside the causal window, minus infinity outside."""
        window = self.lag_bias.shape[1]
        lag = torch.arange(length).unsqueeze(1) - torch.arange(length).unsqueeze(0)
        inside = (lag >= 0) & (lag < window)
        bias = self.lag_bias[:, lag.clamp(0, window - 1)]
        return bias.masked_fill(~inside, -1e4)


class Predictor(nn.Module):
    """Latents (B, T, D) and actions (B, T, A) -> latents one step later (B, T, D)."""

    def __init__(self, spec: RoverModelSpec = SPEC) -> None:
        super().__init__()
        width = spec.latent
        self.spec = spec
        self.inward = nn.Linear(width, width)
        self.action = nn.Sequential(nn.Linear(spec.action, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width, spec.heads, spec.window) for _ in range(spec.blocks))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, width)

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        x = self.inward(latents)
        condition = self.action(actions)
        for block in self.blocks:
            assert isinstance(block, Block)
            x = block(x, block.modulation(condition), block.band_bias(x.shape[1]))
        y: Tensor = latents + self.outward(self.norm(x))
        return y


class PoseName(nn.Module):
    """Latent (B, D) -> place in arena widths and heading as (x, y, cos, sin), (B, 4). Used in training only.

    Left alone the encoder settles for what is easiest to foresee, the rover's place, and without the heading no predictor
    can say where an action leads. Recorded footage knows the pose (a real robot's would come from odometry or markers);
    having to name it keeps the heading in the latent. The runtime never sees a pose.
    """

    def __init__(self, spec: RoverModelSpec = SPEC) -> None:
        super().__init__()
        self.layer = nn.Linear(spec.latent, 4)

    def forward(self, latent: Tensor) -> Tensor:
        y: Tensor = self.layer(latent)
        return y


class RoverModel(nn.Module):
    """Encoder, predictor and the naming of poses, trained together."""

    def __init__(self, spec: RoverModelSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec)
        self.predictor = Predictor(spec)
        self.pose_name = PoseName(spec)


class Rollout(nn.Module):
    """N candidate plans rolled out in one call: the graph that becomes rollout.onnx.

    The shared past is projected once; every later step computes one new token per candidate against cached keys.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, context: Tensor, past_actions: Tensor, actions: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """context (1, C, D), past_actions (1, C - 1, A), actions (N, K, A), goal (1, D).

        Returns distance (N, K), the mean squared latent distance to the goal after each step, and final (N, D).
        """
        model = self.predictor
        window = model.spec.window
        candidates, horizon = actions.shape[:2]
        condition = model.action(actions)
        past_condition = model.action(past_actions)
        past = model.inward(context[:, :-1])
        keys: list[list[Tensor]] = []
        values: list[list[Tensor]] = []
        modulations: list[Tensor] = []
        for block in model.blocks:
            assert isinstance(block, Block)
            modulation = block.modulation(past_condition)
            q, k, v = block.project(past, modulation)
            past = block.finish(past, block.attend(q, k, v, block.band_bias(past.shape[1])), modulation)
            length = k.shape[2]
            keys.append([k[:, :, i : i + 1].expand(candidates, -1, -1, -1) for i in range(length)])
            values.append([v[:, :, i : i + 1].expand(candidates, -1, -1, -1) for i in range(length)])
            modulations.append(block.modulation(condition))
        latent = context[:, -1:].expand(candidates, -1, -1)
        distances = []
        for step in range(horizon):
            x = model.inward(latent)
            for index, block in enumerate(model.blocks):
                assert isinstance(block, Block)
                modulation = modulations[index][:, step : step + 1]
                q, k, v = block.project(x, modulation)
                keys[index] = [*keys[index][-(window - 1) :], k]
                values[index] = [*values[index][-(window - 1) :], v]
                lags = list(range(len(keys[index]) - 1, -1, -1))
                bias = block.lag_bias[:, lags].unsqueeze(1)
                x = block.finish(
                    x, block.attend(q, torch.cat(keys[index], 2), torch.cat(values[index], 2), bias), modulation
                )
            latent = latent + model.outward(model.norm(x))
            distances.append(((latent[:, 0] - goal) ** 2).mean(dim=-1))
        return torch.stack(distances, dim=1), latent[:, 0]
