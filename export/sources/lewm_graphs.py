"""LeWorldModel arranged for deployment: the numbers of lewm_model, in the graphs of docs/bundles.md.

Folded into weights, exactly: the normalisation and colour order of pictures and the scale of actions; BatchNorm; the 1 of
(1 + scale); the attention scale; gain and bias of the norm before the predictor's attention. Queries, keys and values are
one Linear. In the last layers only the class token and the newest frame are computed, because nothing reads the others.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.onnx_graphs import to_onnx
from export.sources.lewm_model import ActionEmbedder, ConditionalBlock, LeWM, Projection, VitLayer
from export.sources.vit_block import VitBlock, linear, patches_of_bytes
from export.unroll import Chain


@dataclass(frozen=True)
class ActionScale:
    """An axis at a in -1 .. 1 is held for ``repeat`` steps of the environment, each given to the model as
    offset + factor * a. offsets, factors: one per axis, in units of the model's training."""

    offsets: tuple[float, ...]
    factors: tuple[float, ...]
    repeat: int

    def trained(self, actions: Tensor) -> Tensor:
        """(..., axes) in -1 .. 1 -> (..., repeat * axes) as the model was trained, step after step."""
        scaled = torch.tensor(self.offsets) + torch.tensor(self.factors) * actions
        return torch.cat([scaled] * self.repeat, dim=-1)


def folded(projection: Projection) -> nn.Sequential:
    """Linear, GELU, Linear: BatchNorm is in the first."""
    first, norm, _, last = projection.net
    assert isinstance(first, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and isinstance(last, nn.Linear)
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = (first.bias.double() - norm.running_mean.double()) * gain + norm.bias.double()
    return nn.Sequential(linear(first.weight.double() * gain[:, None], bias), nn.GELU(), last)


def vit_block(layer: VitLayer, *, kept: slice) -> VitBlock:
    """One layer of the encoder; its Linears are called up and down, as where they are to be left in float."""
    mlp = nn.Sequential(OrderedDict(up=layer.intermediate["dense"], gelu=nn.GELU(), down=layer.output["dense"]))
    parts = [layer.projection(name) for name in ("query", "key", "value")]
    return VitBlock(
        layer.layernorm_before, parts, layer.projection("output"), layer.layernorm_after, mlp, heads=layer.heads, kept=kept
    )


class EncoderGraph(nn.Module):
    """picture uint8 (1, H, W, 3) BGR -> latent (1, 1, D)."""

    def __init__(self, model: LeWM) -> None:
        super().__init__()
        embeddings = model.encoder.embeddings
        convolution = embeddings.patch_embeddings["projection"]
        assert isinstance(convolution, nn.Conv2d)
        self.patches = patches_of_bytes(convolution)
        positions = embeddings.position_embeddings.data
        self.register_buffer("class_token", embeddings.cls_token.data + positions[:, :1])
        self.register_buffer("positions", positions[:, 1:].clone())
        layers = model.encoder.layers
        first, all_of_them = slice(1), slice(None)
        self.blocks = nn.ModuleList(vit_block(layer, kept=first if layer is layers[-1] else all_of_them) for layer in layers)
        self.norm, self.projector = model.encoder.layernorm, folded(model.projector)

    def forward(self, picture: Tensor) -> Tensor:
        assert isinstance(self.class_token, Tensor)
        x = self.patches(picture.float().permute(0, 3, 1, 2)).flatten(2).transpose(1, 2) + self.positions
        x = torch.cat([self.class_token, x], dim=1)
        for block in self.blocks:
            x = block(x)
        z: Tensor = self.projector(self.norm(x))
        return z


class ActionTokens(nn.Module):
    """Actions (B, T, axes) in -1 .. 1 -> condition (B, T, D): its scaling, its repetition, the 1x1 convolution and the
    Linear behind it are one Linear."""

    def __init__(self, embedder: ActionEmbedder, scale: ActionScale) -> None:
        super().__init__()
        first, second = embedder.embed[0], embedder.embed[2]
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear) and embedder.patch_embed.bias is not None
        smoothed = embedder.patch_embed.weight.double()[:, :, 0]
        per_axis = smoothed.reshape(len(smoothed), scale.repeat, -1).sum(1)
        offsets, factors = (torch.tensor(x).double() for x in (scale.offsets, scale.factors))
        inner = first.weight.double()
        bias = first.bias.double() + inner @ (embedder.patch_embed.bias.double() + per_axis @ offsets)
        self.embed = nn.Sequential(linear(inner @ (per_axis * factors), bias), nn.SiLU(), second)

    def forward(self, actions: Tensor) -> Tensor:
        y: Tensor = self.embed(actions)
        return y


class WindowBlock(nn.Module):
    """One block of the predictor on whole windows. newest_only: compute nothing but the newest frame."""

    def __init__(self, block: ConditionalBlock, *, newest_only: bool) -> None:
        super().__init__()
        self.heads, self.newest_only = block.attn.heads, newest_only
        modulation = block.adaLN_modulation[1]
        assert isinstance(modulation, nn.Linear)
        plus = modulation.bias.double().clone()
        width = len(plus) // 6
        plus[width : 2 * width] += 1.0
        plus[4 * width : 5 * width] += 1.0
        self.modulation = nn.Sequential(nn.SiLU(), linear(modulation.weight.double(), plus))
        before = block.attn.norm
        weight = block.attn.to_qkv.weight.double().clone()
        inner = len(weight) // 3
        weight[:inner] *= (inner // self.heads) ** -0.5
        self.qkv = linear(weight * before.weight.double(), weight @ before.bias.double())
        self.norm = nn.LayerNorm(weight.shape[1], before.eps, elementwise_affine=False)
        self.out = block.attn.to_out[0]
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.mlp = block.mlp

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x, condition (B, C, D) -> (B, C or 1, D)."""
        b, c, _ = x.shape
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        q, k, v = self.qkv(self.norm(self.norm1(x) * scale + shift)).reshape(b, c, 3, self.heads, -1).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if self.newest_only:
            q, x, gate, shift2, scale2, gate2 = q[:, :, -1:], *(t[:, -1:] for t in (x, gate, shift2, scale2, gate2))
        scores = q @ k.transpose(-1, -2)
        if not self.newest_only:
            scores = scores + torch.full((c, c), -1e4).triu(1)  # large enough for softmax, small enough for FP16
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, x.shape[1], -1)
        x = x + gate * self.out(mixed)
        y: Tensor = x + gate2 * self.mlp(self.norm2(x) * scale2 + shift2)
        return y


class Following(nn.Module):
    """A full window (B, C, D) and its conditions (B, C, D) -> the latent after the newest frame, (B, 1, D)."""

    def __init__(self, model: LeWM) -> None:
        super().__init__()
        blocks = model.predictor.blocks
        self.register_buffer("positions", model.predictor.pos_embedding.data.clone())
        self.blocks = nn.ModuleList(WindowBlock(block, newest_only=block is blocks[-1]) for block in blocks)
        self.norm, self.projector = model.predictor.transformer.norm, folded(model.pred_proj)

    def forward(self, window: Tensor, condition: Tensor) -> Tensor:
        assert isinstance(self.positions, Tensor)
        x = window + self.positions
        for block in self.blocks:
            x = block(x, condition)
        y: Tensor = self.projector(self.norm(x))
        return y


class PredictorGraph(nn.Module):
    """context (1, C, 1, D), actions (1, C, A) -> predicted (1, 1, D)."""

    def __init__(self, model: LeWM, scale: ActionScale) -> None:
        super().__init__()
        self.tokens, self.following = ActionTokens(model.action_encoder, scale), Following(model)

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        y: Tensor = self.following(context[:, :, 0], self.tokens(actions))
        return y


class Start(nn.Module):
    """context, past_actions and actions of a rollout -> its C frames and C - 1 + K conditions, each (N, 1, D)."""

    def __init__(self, model: LeWM, scale: ActionScale, candidates: int) -> None:
        super().__init__()
        self.tokens, self.candidates = ActionTokens(model.action_encoder, scale), candidates

    def forward(self, context: Tensor, past_actions: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        frames = context[:, :, 0].expand(self.candidates, -1, -1)
        past = self.tokens(past_actions).expand(self.candidates, -1, -1)
        columns = torch.cat([frames, past, self.tokens(actions)], dim=1)
        return columns.unsqueeze(2).unbind(1)


class Step(nn.Module):
    """goal (1, 1, D), C frames and C conditions (N, 1, D) -> the next frame (N, 1, D) and its distance (N, 1)."""

    def __init__(self, model: LeWM) -> None:
        super().__init__()
        self.following, self.window = Following(model), model.spec.window

    def forward(self, goal: Tensor, *frames_and_conditions: Tensor) -> tuple[Tensor, Tensor]:
        frames, conditions = frames_and_conditions[: self.window], frames_and_conditions[self.window :]
        following = self.following(torch.cat(frames, dim=1), torch.cat(conditions, dim=1))
        away = following - goal
        return following, (away * away).mean(dim=-1)


def rollout_graph(model: LeWM, scale: ActionScale, candidates: int, horizon: int) -> onnx.ModelProto:
    """The rollout of a bundle for N candidates and K steps: one step is traced and unrolled."""
    spec = model.spec
    past, axes = spec.window - 1, len(scale.factors)
    shapes = {
        "context": (1, spec.window, 1, spec.width),
        "past_actions": (1, past, axes),
        "actions": (candidates, horizon, axes),
        "goal": (1, 1, spec.width),
    }
    frames = [f"frame{i}" for i in range(spec.window)]
    conditions = [f"condition{i}" for i in range(past + horizon)]
    examples = {name: torch.zeros(shape) for name, shape in shapes.items() if name != "goal"}
    start = to_onnx(Start(model, scale, candidates), examples, [*frames, *conditions])
    used = conditions[: spec.window]
    row = (candidates, 1, spec.width)
    inputs = {"goal": torch.zeros(1, 1, spec.width), **{name: torch.zeros(row) for name in (*frames, *used)}}
    step = to_onnx(Step(model), inputs, ["next", "distance"])
    chain = Chain()
    ready = chain.append(start, {name: name for name in examples}, "start")
    window, distances = [ready[name] for name in frames], []
    for index in range(horizon):
        acted = [ready[name] for name in conditions[index : index + spec.window]]
        wires = {"goal": "goal", **dict(zip(frames, window, strict=True)), **dict(zip(used, acted, strict=True))}
        done = chain.append(step, wires, "step")
        window = [*window[1:], done["next"]]
        distances.append(done["distance"])
    chain.concat(distances, "distance", axis=1)
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    return chain.finish(given, [helper.make_tensor_value_info("distance", TensorProto.FLOAT, (candidates, horizon))], start)
