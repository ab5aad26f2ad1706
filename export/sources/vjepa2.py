"""A V-JEPA 2 checkpoint of Hugging Face: a folder with ``config.json`` and ``model.safetensors``, whole or in parts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from export.sources.source import Source, SourceError
from export.sources.vjepa_deployment import DEPLOYMENT, clip_of, read_watching
from export.sources.vjepa_keys import arranged, from_hugging_face, hugging_face_name
from export.sources.vjepa_model import Encoder, MaskedPredictor, StackSpec
from export.sources.vjepa_source import watching_source
from export.sources.weights import fit, load_state

CONFIG = "config.json"


class Config(msgspec.Struct):
    """config.json: what says something about sizes, with the defaults of transformers' ``VJEPA2Config``."""

    model_type: str = ""
    patch_size: int = 16
    crop_size: int = 256
    tubelet_size: int = 2
    in_chans: int = 3
    hidden_size: int = 1024
    num_attention_heads: int = 16
    num_hidden_layers: int = 24
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_act: str = "gelu"
    pred_hidden_size: int = 384
    pred_num_attention_heads: int = 12
    pred_num_hidden_layers: int = 12
    pred_num_mask_tokens: int = 10
    pred_mlp_ratio: float = 4.0


def open_vjepa2(folder: Path) -> Source:
    """Read the checkpoint and trace its graphs; for a ViT-L half a minute and 5 GB. Raises SourceError."""
    path = folder / CONFIG
    config, deployment = read_config(path), read_watching(folder / DEPLOYMENT)
    if deployment.size not in (None, config.crop_size):
        raise SourceError(
            f"{folder / DEPLOYMENT} has size {deployment.size} and {path} crop_size {config.crop_size}, for which the "
            "checkpoint is made: leave size out"
        )
    clip = clip_of(path, config.crop_size, config.patch_size, config.tubelet_size, deployment.frames)
    spec = StackSpec(
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        int(config.hidden_size * config.mlp_ratio),
        config.layer_norm_eps,
    )
    predicting = StackSpec(
        config.pred_hidden_size,
        config.pred_num_hidden_layers,
        config.pred_num_attention_heads,
        int(config.pred_hidden_size * config.pred_mlp_ratio),
        config.layer_norm_eps,
    )
    found, state = load_weights(folder)
    parts = from_hugging_face(state)
    del state
    context = deployment.steps(clip.tubelet)
    with torch.device("meta"):  # the weights come from the file, without a copy
        encoder = Encoder(spec, clip, "tiled").eval()
        predictor = MaskedPredictor(predicting, spec.width, config.pred_num_mask_tokens, context, clip.grid, "tiled").eval()
    remedy = f"check that {CONFIG} belongs to these weights"
    fit(encoder, arranged(parts[0], spec.heads), found, remedy, named=partial(hugging_face_name, "encoder"))
    fit(predictor, arranged(parts[1], predicting.heads), found, remedy, named=partial(hugging_face_name, "predictor"))
    reading = None if deployment.skip_predictor else predictor
    return watching_source(encoder, reading, deployment, f"{found.name} of {folder.resolve().name} (V-JEPA 2, Hugging Face)")


def read_config(path: Path) -> Config:
    """Raises SourceError."""
    try:
        config = msgspec.json.decode(path.read_bytes(), type=Config)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): give the folder of a VJEPA2Model") from None
    except msgspec.DecodeError as error:
        raise SourceError(f"{path} is not the configuration of a VJEPA2Model: {error}; take the one of the weights") from None
    if config.model_type != "vjepa2":
        raise SourceError(f"{path} has model_type {config.model_type!r} and it must be 'vjepa2': give the folder of a VJEPA2Model")
    sizes = msgspec.structs.asdict(config)
    for key, known in (("hidden_act", "gelu"), ("qkv_bias", True), ("in_chans", 3)):
        if sizes[key] != known:
            raise SourceError(f"{path} has {key} {sizes[key]!r} and only {known!r} is known here: export through ONNX")
    for key, value in sizes.items():
        if isinstance(value, int | float) and not value > 0:
            raise SourceError(f"{path} has {key} {value} and it must be above 0: take the file published with the weights")
    for width, heads in (("hidden_size", "num_attention_heads"), ("pred_hidden_size", "pred_num_attention_heads")):
        if sizes[width] % sizes[heads]:
            raise SourceError(f"{path} has {width} {sizes[width]} and {heads} {sizes[heads]}, which does not divide it: correct it")
    return config


def load_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file, or the first of its parts, and all tensors. Raises SourceError."""
    whole = folder / "model.safetensors"
    files = [whole] if whole.exists() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise SourceError(f"{folder} has no {whole.name}: give the folder of a VJEPA2Model saved with save_pretrained")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= load_state(file)
    return files[0], state
