"""A LeWorldModel checkpoint: a folder with ``config.json`` and ``weights.pt`` or ``weights.safetensors``.

The checkpoint does not say how long a step is, what its actions are called or how they were scaled for training. That
stands in a file ``latentloop.toml`` beside it (docs/export.md); without one, steps of 0.5 s and actions in standard
deviations are assumed, and the bundle says so.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from edge.bundle import Action, LatentShape, Part, Picture, Timing
from edge.messages import Floats
from export.onnx_graphs import to_onnx
from export.sources.deployment_file import read_deployment_file
from export.sources.lewm_graphs import ActionScale, EncoderGraph, PredictorGraph, rollout_graph
from export.sources.lewm_model import VIT_SIZES, LeWM, LeWMSpec
from export.sources.source import Feed, Source, SourceError, check_actions
from export.sources.vit_block import IMAGENET_MEAN, IMAGENET_STD
from export.sources.weights import fit, load_state

CONFIG, DEPLOYMENT = "config.json", "latentloop.toml"
WEIGHTS = ("weights.safetensors", "weights.pt")
ASSUMED_REACH = 2.0
"""Standard deviations at -1 and +1 of an action nobody has described."""

NEWER_NAMES = (
    ("encoder.layers.", "encoder.encoder.layer."),
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)
"""What transformers 5 calls the encoder's parts, and what the published checkpoints call them."""


class _Encoder(msgspec.Struct):
    size: str
    patch_size: int = 14
    image_size: int = 224


class _Predictor(msgspec.Struct):
    num_frames: int
    input_dim: int
    hidden_dim: int
    depth: int
    heads: int
    mlp_dim: int
    dim_head: int = 64
    output_dim: int | None = None


class _ActionEncoder(msgspec.Struct):
    input_dim: int
    emb_dim: int
    smoothed_dim: int = 10
    mlp_scale: int = 4


class _Mlp(msgspec.Struct):
    input_dim: int
    hidden_dim: int
    output_dim: int | None = None


class _Config(msgspec.Struct):
    encoder: _Encoder
    predictor: _Predictor
    action_encoder: _ActionEncoder
    projector: _Mlp
    pred_proj: _Mlp


class Axis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One action. low, high: physical limits, in ``unit``. mean, std: what training subtracted and divided by."""

    name: str
    unit: str
    low: float
    high: float
    mean: float = 0.0
    std: float = 1.0


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``latentloop.toml`` says. step_s: seconds from one frame of the model to the next. frameskip: steps of the
    environment in that time, each with an action of its own; a bundle holds one for all of them. horizon, candidates:
    K and N of the rollout."""

    name: str = "lewm"
    licence: str = "not stated beside the checkpoint"
    step_s: float = 0.5
    frameskip: int = 5
    horizon: int = 5
    candidates: int = 64
    actions: tuple[Axis, ...] = ()


def open_lewm(folder: Path) -> Source:
    """Read the checkpoint and trace its graphs, some ten seconds. Raises SourceError."""
    spec = read_config(folder / CONFIG)
    found = [folder / name for name in WEIGHTS if (folder / name).exists()]
    if not found:
        raise SourceError(f"{folder} has neither {' nor '.join(WEIGHTS)}: give the folder of a LeWM checkpoint")
    model = LeWM(spec)
    remedy = f"check that {CONFIG} belongs to these weights"
    fit(model, published_names(load_state(found[0])), found[0], remedy)
    deployment = read_deployment(folder / DEPLOYMENT)
    return lewm_source(model.eval(), deployment, f"{found[0].name} of {folder.resolve().name} (LeWorldModel)")


def lewm_source(model: LeWM, deployment: Deployment, made_from: str) -> Source:
    """A source from a model in memory. Raises SourceError if the deployment does not fit it."""
    spec = model.spec
    axes, scale = _axes(deployment, spec.block_action)
    with torch.no_grad():
        graphs = {
            "encoder": to_onnx(
                EncoderGraph(model), {"picture": torch.zeros(1, spec.image, spec.image, 3, dtype=torch.uint8)}, ["latent"]
            ),
            "predictor": to_onnx(
                PredictorGraph(model, scale),
                {
                    "context": torch.zeros(1, spec.window, 1, spec.width),
                    "actions": torch.zeros(1, spec.window, len(axes)),
                },
                ["predicted"],
            ),
            "rollout": rollout_graph(model, scale, deployment.candidates, deployment.horizon),
        }
    return Source(
        name=deployment.name,
        licence=deployment.licence,
        made_from=made_from if deployment.actions else f"{made_from}; step length and actions were not described",
        made_with=f"torch {torch.__version__}",
        picture=Picture(spec.image, spec.image),
        latent=LatentShape(1, spec.width),
        time=Timing(deployment.step_s, spec.window),
        graphs=graphs,  # type: ignore[arg-type]
        actions=axes,
        plan_shape=(deployment.candidates, deployment.horizon),
        peer=lambda part, feed: peer(model, scale, part, feed),
    )


@torch.no_grad()
def peer(model: LeWM, scale: ActionScale, part: Part, feed: Feed) -> Floats:
    """What the plain model computes from a bundle's inputs."""
    given: dict[str, Tensor] = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in feed.items()}
    if part == "encoder":
        rgb = given["picture"].flip(-1).permute(0, 3, 1, 2).float() / 255.0
        mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
        encoded: Floats = model.encode((rgb - mean) / std).unsqueeze(1).numpy()
        return encoded
    context = given["context"][:, :, 0]
    actions = scale.trained(given["actions"])
    if part == "predictor":
        predicted: Floats = model.predict(context, actions)[:, -1:].numpy()
        return predicted
    count = len(actions)
    past = scale.trained(given["past_actions"]).expand(count, -1, -1)
    futures = model.rollout(context.expand(count, -1, -1), past, actions)
    distance: Floats = (futures - given["goal"]).square().mean(dim=-1).numpy()
    return distance


def read_config(path: Path) -> LeWMSpec:
    """Sizes from config.json; keys that say nothing about sizes are passed over. Raises SourceError."""
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): give the folder of a LeWM checkpoint") from None
    except msgspec.DecodeError as error:
        raise SourceError(f"{path} is not the configuration of a LeWM: {error}; take the one published with the weights") from None
    encoder, predictor, embedder = config.encoder, config.predictor, config.action_encoder
    if encoder.size not in VIT_SIZES:
        raise SourceError(f"{path} has encoder.size {encoder.size!r} and known are {', '.join(VIT_SIZES)}: export through ONNX")
    width, layers, heads = VIT_SIZES[encoder.size]
    if encoder.patch_size <= 0 or encoder.image_size <= 0 or encoder.image_size % encoder.patch_size:
        sizes_given = f"{encoder.image_size} and patch_size {encoder.patch_size}, which does not divide it"
        raise SourceError(f"{path} has encoder.image_size {sizes_given}: take the file published with the weights")
    sizes = {
        "predictor.input_dim": predictor.input_dim,
        "predictor.hidden_dim": predictor.hidden_dim,
        "predictor.output_dim": predictor.output_dim or predictor.input_dim,
        "action_encoder.emb_dim": embedder.emb_dim,
        "projector.input_dim": config.projector.input_dim,
        "projector.output_dim": config.projector.output_dim or config.projector.input_dim,
        "pred_proj.input_dim": config.pred_proj.input_dim,
        "pred_proj.output_dim": config.pred_proj.output_dim or config.pred_proj.input_dim,
    }
    for key, value in sizes.items():
        if value != width:
            raise SourceError(f"{path} has {key} {value} and encoder.size {encoder.size!r} makes it {width}: export through ONNX")
    return LeWMSpec(
        image=encoder.image_size,
        patch=encoder.patch_size,
        width=width,
        layers=layers,
        heads=heads,
        projector_hidden=config.projector.hidden_dim,
        predictor_projector_hidden=config.pred_proj.hidden_dim,
        window=predictor.num_frames,
        depth=predictor.depth,
        predictor_heads=predictor.heads,
        predictor_head_dim=predictor.dim_head,
        predictor_mlp=predictor.mlp_dim,
        block_action=embedder.input_dim,
        smoothed_action=embedder.smoothed_dim,
        action_mlp=embedder.mlp_scale * embedder.emb_dim,
    )


def read_deployment(path: Path) -> Deployment:
    """latentloop.toml, or what is assumed without one. Raises SourceError."""
    found = read_deployment_file(path, Deployment)
    for key in ("step_s", "frameskip", "horizon", "candidates"):
        if not 0 < getattr(found, key) < math.inf:
            raise SourceError(f"{path} has {key} {getattr(found, key)} and it must be above 0: correct it")
    for axis in found.actions:
        if not (0 < axis.std < math.inf and math.isfinite(axis.mean)):
            raise SourceError(f"{path}: action {axis.name!r} has mean {axis.mean} and std {axis.std}: std must be above 0")
    check_actions(path, [Action(axis.name, axis.unit, axis.low, axis.high) for axis in found.actions])
    return found


def published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dictionary with the names of the published checkpoints, whichever transformers wrote it."""
    renamed = {}
    for key, value in state.items():
        if key.startswith("encoder.layers."):
            for newer, published in NEWER_NAMES:
                key = key.replace(newer, published)
        renamed[key] = value
    return renamed


def _axes(deployment: Deployment, block: int) -> tuple[tuple[Action, ...], ActionScale]:
    if block % deployment.frameskip:
        raise SourceError(
            f"the model takes {block} numbers per action and frameskip is {deployment.frameskip}, which does not divide it: "
            f"set frameskip in {DEPLOYMENT}"
        )
    count = block // deployment.frameskip
    axes = deployment.actions or tuple(
        Axis(f"action{i}", "standard deviations", -ASSUMED_REACH, ASSUMED_REACH) for i in range(count)
    )
    if len(axes) != count:
        raise SourceError(
            f"{DEPLOYMENT} describes {len(axes)} actions and the model has {count} ({block} numbers in blocks of "
            f"{deployment.frameskip}): describe each, or correct frameskip"
        )
    offsets = tuple(((a.low + a.high) / 2.0 - a.mean) / a.std for a in axes)
    factors = tuple((a.high - a.low) / 2.0 / a.std for a in axes)
    return tuple(Action(a.name, a.unit, a.low, a.high) for a in axes), ActionScale(offsets, factors, deployment.frameskip)
