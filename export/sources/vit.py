"""A vision encoder of the ViT family in Hugging Face's format: a folder with ``config.json`` and ``model.safetensors``.

It has no predictor: a camera is watched by memory alone. How pictures are to be normalised stands in
``preprocessor_config.json`` beside it; what only the user knows, in ``latentloop.toml`` (docs/export.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor

from edge.bundle import LatentShape, Part, Picture, Timing
from edge.messages import Floats
from export.onnx_graphs import to_onnx
from export.sources.deployment_file import read_deployment_file
from export.sources.source import Feed, Source, SourceError
from export.sources.vit_block import IMAGENET_MEAN, IMAGENET_STD
from export.sources.vit_graph import EncoderGraph
from export.sources.vit_model import Vit, VitSpec
from export.sources.weights import fit, load_state

T = TypeVar("T", bound=msgspec.Struct)
CONFIG, WEIGHTS, PREPROCESSOR, DEPLOYMENT = "config.json", "model.safetensors", "preprocessor_config.json", "latentloop.toml"


@dataclass(frozen=True)
class Family:
    """leading: tokens with positions before the patches. dino: DINOv2's way to say sizes, its LayerScale, its names."""

    leading: int
    dino: bool = False
    antialias: bool = False


FAMILIES = {
    "vit": Family(1),
    "deit": Family(2),
    "ijepa": Family(0),
    "vit_msn": Family(1),
    "dinov2": Family(1, dino=True),
    "dinov2_with_registers": Family(1, dino=True, antialias=True),
}
"""By model_type in config.json."""

VIT_NAMES = (
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".attention.output.dense.", ".attention.output-dense."),
    (".output.dense.", ".mlp.fc2."),
    (".attention.output-dense.", ".attention.output.dense."),
)
"""What all but DINOv2 call the parts of a layer, and what DINOv2 does; in this order."""

UNREAD = ("pooler.", "classifier.", "cls_classifier.", "distillation_classifier.", "decoder.", "embeddings.mask_token")
"""Weights that a checkpoint may hold beside the encoder's: heads for other tasks, the token that hides patches in training."""


class _Config(msgspec.Struct):
    model_type: str
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    mlp_ratio: float = 4.0
    hidden_act: str = "gelu"
    layer_norm_eps: float = 0.0
    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 0
    num_channels: int = 3
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False
    num_register_tokens: int = 0


class Preprocessor(msgspec.Struct, frozen=True):
    """What ``preprocessor_config.json`` says. size, crop_size: a number or {height, width} or {shortest_edge}."""

    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD
    do_normalize: bool = True
    do_center_crop: bool = False
    size: int | dict[str, int] | None = None
    crop_size: int | dict[str, int] | None = None


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``latentloop.toml`` says. step_s: seconds between two looks. picture: height and width to look at, if not those of
    the checkpoint; multiples of its patch."""

    name: str = ""
    licence: str = "not stated beside the checkpoint"
    step_s: float = 0.1
    picture: tuple[int, int] | None = None


def open_vit(folder: Path) -> Source:
    """Read the checkpoint and trace its graph, some ten seconds. Raises SourceError."""
    family, spec = read_config(folder / CONFIG)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise SourceError(f"{folder} has no {WEIGHTS}: give the folder of a Hugging Face model, saved as one safetensors file")
    model = Vit(spec)
    remedy = f"check that {CONFIG} belongs to these weights"
    fit(model, canonical_names(load_state(weights), family), weights, remedy)
    preprocessor = read_preprocessor(folder / PREPROCESSOR)
    deployment = read_deployment(folder / DEPLOYMENT)
    made_from = f"{WEIGHTS} of {folder.resolve().name} ({family})"
    if preprocessor is None:
        made_from += f"; there was no {PREPROCESSOR}, ImageNet's mean and std were taken"
    return vit_source(model.eval(), preprocessor or Preprocessor(), deployment, made_from, folder.resolve().name)


def vit_source(model: Vit, preprocessor: Preprocessor, deployment: Deployment, made_from: str, name: str) -> Source:
    """A source from a model in memory. Raises SourceError if the picture does not fit it."""
    spec = model.spec
    height, width = deployment.picture or preprocessed_size(preprocessor) or trained_size(spec)
    if min(height, width) <= 0 or height % spec.patch[0] or width % spec.patch[1]:
        raise SourceError(
            f"the picture is {height}x{width} and patches are {spec.patch[0]}x{spec.patch[1]}: set 'picture' in {DEPLOYMENT} to "
            "multiples of the patch"
        )
    grid = (height // spec.patch[0], width // spec.patch[1])
    mean, std = preprocessor.image_mean, preprocessor.image_std
    if not preprocessor.do_normalize:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    with torch.no_grad():
        example = {"picture": torch.zeros(1, height, width, 3, dtype=torch.uint8)}
        graph = to_onnx(EncoderGraph(model, grid, mean, std), example, ["latent"])

    @torch.no_grad()
    def peer(part: Part, feed: Feed) -> Floats:
        rgb = torch.from_numpy(np.ascontiguousarray(feed["picture"])).flip(-1).permute(0, 3, 1, 2).float() / 255.0
        means, deviations = (torch.tensor(x)[:, None, None] for x in (mean, std))
        tokens: Floats = model((rgb - means) / deviations).numpy()
        return tokens

    return Source(
        name=deployment.name or name,
        licence=deployment.licence,
        made_from=made_from,
        made_with=f"torch {torch.__version__}",
        picture=Picture(height, width),
        latent=LatentShape(math.prod(grid), spec.width, grid),
        time=Timing(deployment.step_s, 1),
        graphs={"encoder": graph},
        peer=peer,
    )


def read_config(path: Path) -> tuple[str, VitSpec]:
    """The family and its sizes; keys that say nothing about sizes are passed over. Raises SourceError."""
    config = _read(path, _Config, "give the folder of a Hugging Face model")
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise SourceError(f"{path} has model_type {config.model_type!r} and known are {', '.join(FAMILIES)}: export through ONNX")
    if config.hidden_act != "gelu" or config.num_channels != 3:
        what = f"hidden_act {config.hidden_act!r} and {config.num_channels} channels"
        raise SourceError(f"{path} has {what}, and only 'gelu' on 3 channels is understood: export through ONNX")
    patch = _pair(config.patch_size or (14 if family.dino else 16))
    image = _pair(config.image_size)
    width, heads = config.hidden_size, config.num_attention_heads
    for key, value, divisor in (
        ("image_size", image[0], patch[0]),
        ("image_size", image[1], patch[1]),
        ("hidden_size", width, heads),
    ):
        if min(value, divisor) <= 0 or value % divisor:
            raise SourceError(f"{path} has {key} {value}, which {divisor} does not divide: take the file of the weights")
    hidden = int(width * config.mlp_ratio) if family.dino else config.intermediate_size
    if family.dino and config.use_swiglu_ffn:
        hidden = (hidden * 2 // 3 + 7) // 8 * 8
    registers = config.num_register_tokens if "registers" in config.model_type else 0
    return config.model_type, VitSpec(
        grid=(image[0] // patch[0], image[1] // patch[1]),
        patch=patch,
        width=width,
        layers=config.num_hidden_layers,
        heads=heads,
        hidden=hidden,
        eps=config.layer_norm_eps or (1e-6 if family.dino else 1e-12),
        leading=family.leading,
        registers=registers,
        qkv_bias=config.qkv_bias,
        layer_scale=family.dino,
        gated=family.dino and config.use_swiglu_ffn,
        antialias=family.antialias,
    )


def read_preprocessor(path: Path) -> Preprocessor | None:
    """How pictures are normalised and scaled, None without the file. Raises SourceError."""
    if not path.exists():
        return None
    found = _read(path, Preprocessor, "take the file published with the weights")
    if not all(0 < s < math.inf for s in found.image_std):
        raise SourceError(f"{path} has image_std {list(found.image_std)} and all must be above 0: correct it")
    return found


def read_deployment(path: Path) -> Deployment:
    """latentloop.toml, or what is assumed without one. Raises SourceError."""
    found = read_deployment_file(path, Deployment)
    if not 0 < found.step_s < math.inf:
        raise SourceError(f"{path} has step_s {found.step_s} and it must be above 0: correct it")
    return found


def preprocessed_size(preprocessor: Preprocessor) -> tuple[int, int] | None:
    """Height and width of the pictures that the preprocessor makes, None where it does not say."""
    said = preprocessor.crop_size if preprocessor.do_center_crop else preprocessor.size
    if isinstance(said, dict):
        edge = said.get("shortest_edge", 0)
        said_pair = (said.get("height", edge), said.get("width", edge))
        return said_pair if all(said_pair) else None
    return None if said is None else _pair(said)


def trained_size(spec: VitSpec) -> tuple[int, int]:
    """Height and width of the pictures that the positions were trained for."""
    return spec.grid[0] * spec.patch[0], spec.grid[1] * spec.patch[1]


def canonical_names(state: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """The encoder's weights under the names of vit_model. family: model_type."""
    named = {}
    for key, value in state.items():
        key = key.removeprefix(f"{family}.").removeprefix("vit.")
        if key.startswith(UNREAD):
            continue
        if not FAMILIES[family].dino:
            for published, ours in VIT_NAMES:
                key = key.replace(published, ours)
        named[key] = value.float()
    return named


def _read(path: Path, kind: type[T], remedy: str) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    except msgspec.DecodeError as error:
        raise SourceError(f"{path} is not what it should be: {error}; {remedy}") from None


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
