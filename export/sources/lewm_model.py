"""LeWorldModel (2603.19312) as it was trained, with the names of the published state dictionaries.

An encoder (a Vision Transformer in Hugging Face's names, whose class token is the frame), a projector, an embedder of
actions, and a predictor of AdaLN-zero blocks over a window of frames; one latent per frame. The plain definition: what
deployment rearranges is in lewm_graphs, and is held against this one.

Names, shapes and numbers equal those of stable-worldmodel 0.1.1 with transformers 4.49 and 5.24 on random weights
(tests/export/sources/test_lewm_original.py). Unverified: a published checkpoint, because none was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

VIT_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "huge": (1280, 32, 16)}
"""Width, layers and heads by the name in config.json."""


@dataclass(frozen=True)
class LeWMSpec:
    """Sizes. image, patch: pixels. window: frames that one prediction sees. block_action: numbers per action token."""

    image: int = 224
    patch: int = 14
    width: int = 192
    layers: int = 12
    heads: int = 3
    projector_hidden: int = 2048
    predictor_projector_hidden: int = 2048
    window: int = 3
    depth: int = 6
    predictor_heads: int = 16
    predictor_head_dim: int = 64
    predictor_mlp: int = 2048
    block_action: int = 10
    smoothed_action: int = 10
    action_mlp: int = 768


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool) -> Tensor:
    """Attention of (B, T, heads * d) tensors -> (B, T, heads * d)."""
    b, t, width = q.shape
    q, k, v = (x.reshape(b, t, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return mixed.transpose(1, 2).reshape(b, t, width)


class VitLayer(nn.Module):
    """One pre-norm layer of the encoder."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        projections = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        output = nn.ModuleDict({"dense": nn.Linear(width, width)})
        self.attention = nn.ModuleDict({"attention": projections, "output": output})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(4 * width, width)})
        self.layernorm_before = nn.LayerNorm(width, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(width, eps=1e-12)

    def projection(self, name: str) -> nn.Linear:
        """The Linear called query, key, value or, behind the attention, output."""
        found = self.attention["output"]["dense"] if name == "output" else self.attention["attention"][name]  # type: ignore[index]
        assert isinstance(found, nn.Linear)
        return found

    def forward(self, x: Tensor) -> Tensor:
        y = self.layernorm_before(x)
        q, k, v = (self.projection(name)(y) for name in ("query", "key", "value"))
        mixed = attend(q, k, v, self.heads, causal=False)
        x = x + self.projection("output")(mixed)
        y = nn.functional.gelu(self.intermediate["dense"](self.layernorm_after(x)))
        z: Tensor = x + self.output["dense"](y)
        return z


class VitEmbeddings(nn.Module):
    """Patches to tokens, with a class token before them and positions added."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, (spec.image // spec.patch) ** 2 + 1, spec.width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, spec.width, spec.patch, spec.patch)})

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1)
        return tokens + self.position_embeddings


class Vit(nn.Module):
    """Normalised RGB pixels (B, 3, H, W) -> the class token (B, D)."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.embeddings = VitEmbeddings(spec)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(VitLayer(spec.width, spec.heads) for _ in range(spec.layers))})
        self.layernorm = nn.LayerNorm(spec.width, eps=1e-12)

    @property
    def layers(self) -> list[VitLayer]:
        return [layer for layer in self.encoder["layer"] if isinstance(layer, VitLayer)]  # type: ignore[attr-defined]

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.embeddings(pixels)
        for layer in self.layers:
            x = layer(x)
        y: Tensor = self.layernorm(x[:, 0])
        return y


class Projection(nn.Module):
    """Linear, BatchNorm, GELU, Linear, on (B, D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


class ActionEmbedder(nn.Module):
    """Actions (B, T, A) -> tokens (B, T, D)."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.patch_embed = nn.Conv1d(spec.block_action, spec.smoothed_action, 1)
        self.embed = nn.Sequential(
            nn.Linear(spec.smoothed_action, spec.action_mlp), nn.SiLU(), nn.Linear(spec.action_mlp, spec.width)
        )

    def forward(self, actions: Tensor) -> Tensor:
        y: Tensor = self.embed(self.patch_embed(actions.transpose(1, 2)).transpose(1, 2))
        return y


class CausalAttention(nn.Module):
    """Attention with a norm of its own before it, in which a frame sees itself and those before it."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.heads = spec.predictor_heads
        inner = spec.predictor_heads * spec.predictor_head_dim
        self.norm = nn.LayerNorm(spec.width)
        self.to_qkv = nn.Linear(spec.width, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, spec.width), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        y: Tensor = self.to_out(attend(q, k, v, self.heads, causal=True))
        return y


class FeedForward(nn.Module):
    """Norm, Linear, GELU, Linear."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        wide = spec.predictor_mlp
        up, down = nn.Linear(spec.width, wide), nn.Linear(wide, spec.width)
        self.net = nn.Sequential(nn.LayerNorm(spec.width), up, nn.GELU(), nn.Dropout(0.0), down)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


class ConditionalBlock(nn.Module):
    """AdaLN-zero block: an action's token shifts, scales and gates its frame."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.attn = CausalAttention(spec)
        self.mlp = FeedForward(spec)
        self.norm1 = nn.LayerNorm(spec.width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(spec.width, eps=1e-6, elementwise_affine=False)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(spec.width, 6 * spec.width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6, dim=-1)
        x = x + gate * self.attn(self.norm1(x) * (1 + scale) + shift)
        y: Tensor = x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return y


class BlockStack(nn.Module):
    """The blocks and the norm behind them."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConditionalBlock(spec) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(spec.width)


class Predictor(nn.Module):
    """Latents and action tokens (B, T, D) -> (B, T, D), T up to the window."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, spec.window, spec.width))
        self.transformer = BlockStack(spec)

    @property
    def blocks(self) -> list[ConditionalBlock]:
        return [block for block in self.transformer.layers if isinstance(block, ConditionalBlock)]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = x + self.pos_embedding[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x, condition)
        y: Tensor = self.transformer.norm(x)
        return y


class LeWM(nn.Module):
    """The whole model. Evaluation mode: BatchNorm uses its running statistics."""

    def __init__(self, spec: LeWMSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Vit(spec)
        self.predictor = Predictor(spec)
        self.action_encoder = ActionEmbedder(spec)
        self.projector = Projection(spec.width, spec.projector_hidden)
        self.pred_proj = Projection(spec.width, spec.predictor_projector_hidden)

    def encode(self, pixels: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) -> latents (B, D)."""
        z: Tensor = self.projector(self.encoder(pixels))
        return z

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, T, D), actions (B, T, A) as trained -> (B, T, D): at t, the latent after action t."""
        y = self.predictor(latents, self.action_encoder(actions))
        z: Tensor = self.pred_proj(y.flatten(0, 1)).reshape(y.shape)
        return z

    def rollout(self, latents: Tensor, past: Tensor, future: Tensor) -> Tensor:
        """latents (N, C, D), past actions (N, C - 1, A), future actions (N, K, A) -> (N, K, D), the window sliding."""
        window = self.spec.window
        actions = torch.cat([past, future], dim=1)
        predicted = []
        for step in range(future.shape[1]):
            following = self.predict(latents[:, -window:], actions[:, step : step + window])[:, -1:]
            latents = torch.cat([latents, following], dim=1)
            predicted.append(following)
        return torch.cat(predicted, dim=1)
