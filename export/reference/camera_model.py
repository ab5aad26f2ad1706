"""The camera's world model: a JEPA over patch latents for a camera that stands still and has no actions.

Encoder: a pyramid of patch merges that ends in one latent per 16x16 patch and sees nothing outside it, because what is
normal must be learned from minutes of footage: patches recur, whole scenes do not. Predictor: every patch is predicted
from its 3x3 neighbourhood in the last frames. Linear layers only, so that all of it quantizes. Letters in shapes as in
edge.messages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


@dataclass(frozen=True)
class CameraModelSpec:
    """Sizes. height, width: model picture in pixels, any source is stretched to it. context: frames one prediction
    sees. step_s: seconds between them."""

    height: int = 192
    width: int = 256
    patch: int = 16
    latent: int = 64
    context: int = 3
    step_s: float = 0.1
    widths: tuple[int, int, int] = (32, 96, 160)
    mix: int = 128
    hidden: int = 256

    @property
    def grid(self) -> tuple[int, int]:
        """(gh, gw): patches down and across."""
        return self.height // self.patch, self.width // self.patch


SPEC = CameraModelSpec()
PIXEL_MEAN = 127.5
PIXEL_STD = 64.0


def merge_patches(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B, H / size, W / size, size * size * C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // size, w // size, size * size * c)


class MergeStage(nn.Module):
    """Merge neighbouring patches, project, and mix channels with one residual MLP."""

    def __init__(self, size: int, inward: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.project = nn.Linear(size * size * inward, width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(merge_patches(x, self.size))
        y: Tensor = x + self.down(self.gelu(self.up(self.norm(x))))
        return y


class PatchEncoder(nn.Module):
    """uint8 picture (B, H, W, 3) BGR -> latents (B, gh * gw, D), row by row. H and W may be any multiple of the patch."""

    def __init__(self, spec: CameraModelSpec = SPEC) -> None:
        super().__init__()
        first, second, third = spec.widths
        self.stages = nn.Sequential(MergeStage(4, 3, first), MergeStage(2, first, second), MergeStage(2, second, third))
        self.norm = nn.LayerNorm(third)
        self.out = nn.Linear(third, spec.latent)

    def forward(self, picture: Tensor) -> Tensor:
        x = (picture.float() - PIXEL_MEAN) / PIXEL_STD
        z: Tensor = self.out(self.norm(self.stages(x))).flatten(1, 2)
        return z


def neighbourhood(x: Tensor) -> Tensor:
    """(B, gh, gw, W) -> (B, gh, gw, 9 * W): each cell beside its eight neighbours, zeros outside the picture."""
    gh, gw = x.shape[1:3]
    x = pad(x, (0, 0, 1, 1, 1, 1))
    return torch.cat([x[:, r : r + gh, c : c + gw] for r in range(3) for c in range(3)], dim=-1)


class PatchPredictor(nn.Module):
    """Context (B, C, T, D) of the last C frames, oldest first -> latents one step later (B, T, D)."""

    def __init__(self, spec: CameraModelSpec = SPEC) -> None:
        super().__init__()
        self.inward = nn.Linear(spec.context * spec.latent, spec.mix)
        self.inward_norm = nn.LayerNorm(spec.mix)
        self.around = nn.Linear(9 * spec.mix, spec.hidden)
        self.norm = nn.LayerNorm(spec.hidden)
        self.up = nn.Linear(spec.hidden, 2 * spec.hidden)
        self.down = nn.Linear(2 * spec.hidden, spec.hidden)
        self.out_norm = nn.LayerNorm(spec.hidden)
        self.out = nn.Linear(spec.hidden, spec.latent)
        self.gelu = nn.GELU()

    def forward(self, context: Tensor, grid: tuple[int, int] = SPEC.grid) -> Tensor:
        b, _, t, _ = context.shape
        past = context.transpose(1, 2).reshape(b, *grid, -1)
        x = self.around(neighbourhood(self.gelu(self.inward_norm(self.inward(past)))))
        x = x + self.down(self.gelu(self.up(self.norm(x))))
        y: Tensor = context[:, -1] + self.out(self.out_norm(x)).reshape(b, t, -1)
        return y


class CameraModel(nn.Module):
    """Encoder and predictor, trained together."""

    def __init__(self, spec: CameraModelSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = PatchEncoder(spec)
        self.predictor = PatchPredictor(spec)
