"""The V-JEPA 2 family in plain torch, in the one form that is checked against the originals and exported.

An encoder of video clips and a predictor of masked patches; the action-conditioned predictor of V-JEPA 2-AC is in
vjepa_ac_model. Attention is written out, positions are constants. Names are those of facebookresearch's state dictionaries;
queries and keys have their channels in the order of vjepa_rope, and the attention scale is in the queries, which vjepa_keys
sees to while loading.

Letters in shapes: B batch, n tokens, D width, S patches of one frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.sources.vjepa_rope import Convention, Rope, grid_positions


@dataclass(frozen=True)
class StackSpec:
    """Sizes of a stack of blocks. hidden: of the MLP."""

    width: int
    layers: int
    heads: int
    hidden: int
    eps: float = 1e-6

    @property
    def head(self) -> int:
        """Channels of one head."""
        return self.width // self.heads


@dataclass(frozen=True)
class ClipSpec:
    """What the encoder looks at. size: height and width in pixels. frames: pictures of a clip, a multiple of the tubelet; 1
    where a single picture stands for a whole tubelet. own_tokenizer: single pictures have a tokenizer of their own (2.1)."""

    size: tuple[int, int] = (256, 256)
    patch: int = 16
    tubelet: int = 2
    frames: int = 16
    own_tokenizer: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def patches(self) -> int:
        """S."""
        return self.grid[0] * self.grid[1]

    @property
    def steps(self) -> int:
        """Tubelets of a clip."""
        return max(1, self.frames // self.tubelet)


class Attention(nn.Module):
    """Self-attention whose queries, keys and values are one Linear."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.qkv = nn.Linear(spec.width, 3 * spec.width)
        self.proj = nn.Linear(spec.width, spec.width)

    def parts(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """(B, n, D) -> turned queries, turned keys, values, each (B, heads, n, head)."""
        b, n, _ = x.shape
        asked, values = torch.split(self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4), [2, 1])
        q, k = rope(asked).unbind(0)
        return q, k, values[0]

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, heads, n, head) queries over (B, heads, m, head) keys and values -> (B, n, D)."""
        weights = (q @ k.transpose(-1, -2)).softmax(dim=-1)
        y: Tensor = self.proj((weights @ v).transpose(1, 2).flatten(2))
        return y


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(spec.width, spec.hidden), nn.Linear(spec.hidden, spec.width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(spec.width, eps=spec.eps) for _ in range(2))
        self.attn, self.mlp = Attention(spec), Mlp(spec)

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        x = x + self.attn.mixed(*self.attn.parts(self.norm1(x), rope))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class PatchEmbed(nn.Module):
    """Clips (B, 3, F, H, W) -> tokens (B, F / tubelet * S, D), frame after frame."""

    def __init__(self, width: int, patch: int, tubelet: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, (tubelet, patch, patch), (tubelet, patch, patch))

    def forward(self, clip: Tensor) -> Tensor:
        y: Tensor = self.proj(clip).flatten(2).transpose(1, 2)
        return y


class Encoder(nn.Module):
    """Clips of normalised RGB (B, 3, F, H, W) -> tokens (B, F / tubelet * S, D). newest: return those of the last tubelet
    only, (B, S, D), all that a runtime needs."""

    def __init__(self, spec: StackSpec, clip: ClipSpec, convention: Convention, step: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        self.spec, self.clip = spec, clip
        self.patch_embed = PatchEmbed(spec.width, clip.patch, 1 if clip.own_tokenizer else clip.tubelet)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps)
        times = torch.arange(clip.steps, device="cpu")
        self.rope = Rope(grid_positions(times, *clip.grid, step), spec.head, convention)

    def forward(self, clip: Tensor, newest: bool = False) -> Tensor:
        x = self.patch_embed(clip)
        for block in self.blocks:
            x = block(x, self.rope)
        if newest:
            x = x[:, -self.clip.patches :]
        y: Tensor = self.norm(x)
        return y


class MaskedPredictor(nn.Module):
    """Predicts the patches of the step after a context of steps.

    Trained on random masks, it is asked here for one kind of mask: everything is seen but the last step. Its output is
    layer-normalised, as its targets in training were.
    """

    def __init__(
        self, spec: StackSpec, encoder_width: int, mask_tokens: int, context: int, grid: tuple[int, int], convention: Convention
    ) -> None:
        super().__init__()
        self.patches = grid[0] * grid[1]
        self.predictor_embed = nn.Linear(encoder_width, spec.width)
        self.mask_tokens = nn.ParameterList(nn.Parameter(torch.zeros(1, 1, spec.width)) for _ in range(mask_tokens))
        self.predictor_blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.predictor_norm = nn.LayerNorm(spec.width, eps=spec.eps)
        self.predictor_proj = nn.Linear(spec.width, encoder_width)
        self.rope = Rope(grid_positions(torch.arange(context + 1, device="cpu"), *grid), spec.head, convention)

    def forward(self, context: Tensor) -> Tensor:
        """Encoder tokens of C steps (1, C * S, D), oldest first -> those of step C + 1, (1, S, D)."""
        masked = self.mask_tokens[1 % len(self.mask_tokens)].expand(1, self.patches, -1)
        x = torch.cat([self.predictor_embed(context), masked], dim=1)
        for block in self.predictor_blocks:
            x = block(x, self.rope)
        y: Tensor = self.predictor_proj(self.predictor_norm(x[:, -self.patches :]))
        return y

