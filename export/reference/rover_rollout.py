"""The rover's rollout graph, arranged for speed: the same numbers as rover_model.Rollout, in about half the time.

One step for N candidates is traced once and then unrolled. Inside a step whatever can be is folded into the weights,
exactly: the attention scale into the queries' weights; the keys' bias dropped, because softmax does not see what it
adds; the values' bias moved behind the attention, because its weights sum to one; the 1 of (1 + scale) into the bias of
the modulation. Attention over three single keys is sums of products, not 768 tiny matrix products.
"""

from __future__ import annotations

import copy

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.onnx_graphs import to_onnx
from export.reference.rover_model import Block, Predictor, RoverModel
from export.unroll import Chain


class Past(nn.Module):
    """context (1, C, 1, D), past_actions (1, C - 1, A), actions (N, K, A), goal (1, 1, D) -> the start of a rollout.

    Returns latent (1, D) now, condition (N, D) of every step, and a key and a value (1, heads, D / heads) per block and
    past frame.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor
        for index, block in enumerate(predictor.blocks):
            assert isinstance(block, Block)
            self.register_buffer(f"biases{index}", block.qkv.bias.data.reshape(3, 1, block.heads, 1, -1).clone())

    def forward(self, context: Tensor, past_actions: Tensor, actions: Tensor, goal: Tensor) -> tuple[Tensor, ...]:
        model = self.predictor
        conditions = model.action(actions.transpose(0, 1)).unbind(0)
        x = model.inward(context[:, :-1, 0])
        past_condition = model.action(past_actions)
        cached: list[Tensor] = []
        for index, block in enumerate(model.blocks):
            biases = getattr(self, f"biases{index}")
            assert isinstance(block, Block)
            modulation = block.modulation(past_condition)
            q, k, v = block.project(x, modulation)
            x = block.finish(x, block.attend(q, k, v, block.band_bias(x.shape[1])), modulation)
            cached += (k - biases[1]).unbind(2)
            cached += (v - biases[2]).unbind(2)
        return (context[:, -1, 0], goal[:, 0], *conditions, *cached)


class LeanBlock(nn.Module):
    """One block for one new token per candidate, with keys and values of the frames before it given."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.heads = block.heads
        self.modulation, self.qkv, self.mix = (copy.deepcopy(x) for x in (block.modulation, block.qkv, block.mix))
        self.up, self.down, self.norm, self.gelu = block.up, block.down, block.norm, block.gelu
        _, scale, _, _, scale2, _ = self.modulation.bias.data.chunk(6)
        scale += 1.0
        scale2 += 1.0
        weight, (query, _, value) = self.qkv.weight.data.chunk(3)[0], self.qkv.bias.data.chunk(3)
        attention_scale = (weight.shape[0] // block.heads) ** -0.5
        weight *= attention_scale
        self.mix.bias.data += self.mix.weight.data @ value
        self.query_bias = nn.Parameter(query * attention_scale)
        self.qkv.register_parameter("bias", None)
        self.register_buffer("lag_bias", block.lag_bias.data.flip(1))  # oldest key first

    def forward(self, x: Tensor, condition: Tensor, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, ...]:
        """x (N or 1, D), condition (N, D), keys, values (N or 1, heads, D / heads). -> x (N, D), its key, its value."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        query, key, value = self.qkv(self.norm(x) * scale + shift).chunk(3, dim=-1)
        heads = (len(condition), self.heads, -1)
        query, key, value = (query + self.query_bias).reshape(heads), key.reshape(heads), value.reshape(heads)
        scores = [(query * k).sum(dim=-1, keepdim=True) for k in (*keys, key)]
        assert isinstance(self.lag_bias, Tensor)
        weights = (torch.cat(scores, dim=-1) + self.lag_bias).softmax(dim=-1).chunk(len(scores), dim=-1)
        mixed = weights[-1] * value
        for weight, v in zip(weights[:-1], values, strict=True):
            mixed = mixed + weight * v
        x = x + gate * self.mix(mixed.reshape(condition.shape))
        return x + gate2 * self.down(self.gelu(self.up(self.norm(x) * scale2 + shift2))), key, value


class Step(nn.Module):
    """latent (N, D), goal (1, D), condition (N, D), then keys and values per block, oldest first -> the next latent
    (N, D), its distance to the goal (N, 1), and per block the new key and value (N, heads, D / heads)."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.inward, self.norm, self.outward = predictor.inward, predictor.norm, predictor.outward
        self.blocks = nn.ModuleList(LeanBlock(block) for block in predictor.blocks if isinstance(block, Block))
        self.past = predictor.spec.window - 1

    def forward(self, latent: Tensor, goal: Tensor, condition: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        x = self.inward(latent)
        fresh: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            start = 2 * self.past * index
            keys = list(cached[start : start + self.past])
            values = list(cached[start + self.past : start + 2 * self.past])
            x, key, value = block(x, condition, keys, values)
            fresh += (key, value)
        latent = latent + self.outward(self.norm(x))
        away = latent - goal
        return (latent, (away * away).mean(dim=-1, keepdim=True), *fresh)


def rollout_graph(model: RoverModel, candidates: int, horizon: int) -> onnx.ModelProto:
    """The rollout of a bundle (docs/bundles.md) for N candidates and K steps."""
    spec = model.spec
    past = spec.window - 1
    shapes = {
        "context": (1, spec.window, 1, spec.latent),
        "past_actions": (1, past, spec.action),
        "actions": (candidates, horizon, spec.action),
        "goal": (1, 1, spec.latent),
    }
    names = [f"{kind}{block}_{lag}" for block in range(spec.blocks) for kind in "kv" for lag in range(past)]
    conditions = [f"condition{step}" for step in range(horizon)]
    start = to_onnx(
        Past(model.predictor),
        {n: torch.zeros(s) for n, s in shapes.items()},
        ["latent", "goal_row", *conditions, *names],
    )
    row, head = (candidates, spec.latent), (candidates, spec.heads, spec.latent // spec.heads)
    step_shapes = {"latent": row, "goal": (1, spec.latent), "condition": row, **dict.fromkeys(names, head)}
    step = to_onnx(
        Step(model.predictor),
        {
            name: torch.zeros(shape) for name, shape in step_shapes.items()
        },  # a tensor given twice would be traced as one
        ["next", "distance", *(f"{kind}{block}" for block in range(spec.blocks) for kind in "kv")],
    )
    chain = Chain()
    ready = chain.append(start, {name: name for name in shapes}, "past")
    latent, cache, distances = ready["latent"], {name: ready[name] for name in names}, []
    for condition in conditions:
        wires = {"latent": latent, "goal": ready["goal_row"], "condition": ready[condition], **cache}
        done = chain.append(step, wires, "step")
        latent = done["next"]
        distances.append(done["distance"])
        for block in range(spec.blocks):
            for kind in "kv":
                row_of = [f"{kind}{block}_{lag}" for lag in range(past)]
                newest = [*(cache[name] for name in row_of), done[f"{kind}{block}"]][-past:] if past else []
                cache |= dict(zip(row_of, newest, strict=True))
    chain.concat(distances, "distance", axis=1)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("distance", TensorProto.FLOAT, (candidates, horizon))
    return chain.finish(inputs, [output], start)
