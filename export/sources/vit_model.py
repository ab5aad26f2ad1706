"""Vision encoders of the ViT family as Hugging Face publishes them: ViT, DeiT, I-JEPA, DINOv2 with and without registers.

The plain definition, with the names of the published DINOv2 state dictionaries; those of the others are translated in
export.sources.vit. What deployment rearranges is in vit_graph, and is held against this one.

Names, shapes and numbers equal those of transformers 5.24.0 on random weights (tests/export/sources/test_vit_original.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.sources.lewm_model import attend


@dataclass(frozen=True)
class VitSpec:
    """Sizes. grid: rows and columns of patches that the positions were trained for. patch: height and width in pixels.
    leading: class and distillation tokens, which have positions; registers: more tokens, which have none. hidden: width
    inside the MLP. layer_scale: channels of what a layer adds have a gain. gated: the MLP is a SwiGLU. antialias: how the
    family stretches its positions to another grid."""

    grid: tuple[int, int]
    patch: tuple[int, int]
    width: int
    layers: int
    heads: int
    hidden: int
    eps: float
    leading: int = 1
    registers: int = 0
    qkv_bias: bool = True
    layer_scale: bool = False
    gated: bool = False
    antialias: bool = False


class Attention(nn.Module):
    """Every token sees every other."""

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        names = ("query", "key", "value")
        self.attention = nn.ModuleDict({name: nn.Linear(spec.width, spec.width, spec.qkv_bias) for name in names})
        self.output = nn.ModuleDict({"dense": nn.Linear(spec.width, spec.width)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x) for part in self.attention.values())
        y: Tensor = self.output["dense"](attend(q, k, v, self.heads, causal=False))
        return y


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.gelu, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.gelu(self.fc1(x)))
        return y


class GatedMlp(nn.Module):
    """SwiGLU: half of the first Linear's output, through SiLU, is the gain of the other half."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.weights_in, self.weights_out = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.weights_in(x).chunk(2, dim=-1)
        y: Tensor = self.weights_out(nn.functional.silu(gate) * value)
        return y


class Layer(nn.Module):
    """One pre-norm layer."""

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(spec.width, eps=spec.eps) for _ in range(2))
        self.attention = Attention(spec)
        self.mlp = (GatedMlp if spec.gated else Mlp)(spec.width, spec.hidden)
        self.scaled = spec.layer_scale
        if spec.layer_scale:
            self.layer_scale1, self.layer_scale2 = (
                nn.ParameterDict({"lambda1": nn.Parameter(torch.ones(spec.width))}) for _ in range(2)
            )

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.attention(self.norm1(x))
        x = x + (mixed * self.layer_scale1["lambda1"] if self.scaled else mixed)
        made = self.mlp(self.norm2(x))
        y: Tensor = x + (made * self.layer_scale2["lambda1"] if self.scaled else made)
        return y


class Embeddings(nn.Module):
    """Patches to tokens with positions; class, distillation and register tokens come first."""

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        self.spec = spec
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, spec.width, spec.patch, spec.patch)})
        self.position_embeddings = nn.Parameter(torch.zeros(1, spec.leading + math.prod(spec.grid), spec.width))
        for name in ("cls_token", "distillation_token")[: spec.leading]:
            self.register_parameter(name, nn.Parameter(torch.zeros(1, 1, spec.width)))
        if spec.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, spec.registers, spec.width))

    def leading(self) -> Tensor:
        """The tokens before the patches, with their positions, (1, leading + registers, D)."""
        names = ("cls_token", "distillation_token")[: self.spec.leading]
        tokens = torch.cat([self.get_parameter(name) for name in names] or [torch.zeros(1, 0, self.spec.width)], dim=1)
        tokens = tokens + self.position_embeddings[:, : self.spec.leading]
        return torch.cat([tokens, self.register_tokens], dim=1) if self.spec.registers else tokens

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Of the patches, stretched to a grid of rows and columns, (1, gh * gw, D)."""
        trained = self.position_embeddings[:, self.spec.leading :]
        if grid == self.spec.grid:
            return trained
        as_picture = trained.reshape(1, *self.spec.grid, -1).permute(0, 3, 1, 2)
        stretched = nn.functional.interpolate(as_picture, grid, mode="bicubic", antialias=self.spec.antialias)
        return stretched.flatten(2).transpose(1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels)
        rows, columns = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2) + self.positions((rows, columns))
        return torch.cat([self.leading().expand(len(pixels), -1, -1), tokens], dim=1)


class Vit(nn.Module):
    """Normalised RGB pixels (B, 3, H, W) -> patch tokens (B, T, D), row by row; class and register tokens are left out."""

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embeddings = Embeddings(spec)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(spec) for _ in range(spec.layers))})
        self.layernorm = nn.LayerNorm(spec.width, eps=spec.eps)

    @property
    def layers(self) -> list[Layer]:
        return [layer for layer in self.encoder["layer"] if isinstance(layer, Layer)]  # type: ignore[attr-defined]

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.embeddings(pixels)
        for layer in self.layers:
            x = layer(x)
        y: Tensor = self.layernorm(x[:, self.spec.leading + self.spec.registers :])
        return y
