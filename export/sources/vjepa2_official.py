"""A checkpoint of facebookresearch: one ``.pt`` file of V-JEPA 2, V-JEPA 2.1 or V-JEPA 2-AC.

Which of them it is, and how large, follows from its keys and shapes. What it does not say stands in ``latentloop.toml`` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from export.sources.source import Source, SourceError
from export.sources.vjepa_ac import acting_source, read_acting
from export.sources.vjepa_ac_model import ActionPredictor
from export.sources.vjepa_deployment import DEPLOYMENT, clip_of, read_watching
from export.sources.vjepa_keys import State, arranged, from_facebookresearch, one_tokenizer
from export.sources.vjepa_model import ClipSpec, Encoder, MaskedPredictor, StackSpec
from export.sources.vjepa_source import watching_source
from export.sources.weights import fit, read_weights

REMEDY = "take the file that facebookresearch published"
SIZED_BY = "the rest of it"
ODD_HEADS = {1280: 16}
HEAD = 64
"""Channels of an encoder's head, except in the widths of ODD_HEADS. Shapes do not tell."""
MASKED_HEADS, ACTION_HEADS = 12, 16
SIZE, SIZE_2_1 = 256, 384
GRID_2_1 = 16
"""Rows and columns that V-JEPA 2.1 stretches every picture's positions to."""
UNUSED_CONDITION = "extrinsics_encoder."
"""Of camera poses, in the release but not in use."""


@dataclass(frozen=True)
class Checkpoint:
    """encoder, predictor: state dictionaries without the wrappers' prefixes. predictor is empty if the file has none."""

    path: Path
    encoder: State
    predictor: State

    @property
    def acts(self) -> bool:
        """Whether it is V-JEPA 2-AC."""
        return "action_encoder.weight" in self.predictor

    @property
    def second(self) -> bool:
        """Whether it is V-JEPA 2.1."""
        return any(key.startswith("norms_block.") for key in self.encoder)


def open_official(path: Path) -> Source:
    """Read the checkpoint and trace its graphs. Raises SourceError."""
    checkpoint = read_checkpoint(path)
    if checkpoint.acts:
        return _acting(checkpoint)
    return _watching(checkpoint)


def read_checkpoint(path: Path) -> Checkpoint:
    """The parts that are used; the rest of the file is not read. Raises SourceError."""
    saved = read_weights(path)
    parts = {key: value for key, value in saved.items() if isinstance(value, Mapping)} if isinstance(saved, Mapping) else {}
    predictor = from_facebookresearch(_tensors(path, "predictor", parts.get("predictor", {})))
    # Latents are those that training aimed at; the action-conditioned predictor was trained on a frozen encoder.
    names = ("encoder",) if "action_encoder.weight" in predictor else ("target_encoder", "ema_encoder", "encoder")
    name = next((name for name in names if name in parts), None)
    if name is None:
        raise SourceError(f"{path} has none of {', '.join(names)}: {REMEDY}")
    return Checkpoint(path, from_facebookresearch(_tensors(path, name, parts[name])), predictor)


def _tensors(path: Path, name: str, part: Mapping[str, object]) -> dict[str, Tensor]:
    tensors = {key: value for key, value in part.items() if isinstance(value, Tensor)}
    if len(tensors) != len(part):
        raise SourceError(f"{path} has something else than tensors under {name!r}: {REMEDY}")
    return tensors


def _watching(checkpoint: Checkpoint) -> Source:
    path, second = checkpoint.path, checkpoint.second
    deployment = read_watching(path.parent / DEPLOYMENT)
    single = deployment.frames == 1
    state = one_tokenizer(checkpoint.encoder, single=single, path=path) if second else checkpoint.encoder
    spec, patch, tubelet = encoder_sizes(state, path)
    size = deployment.size or (SIZE_2_1 if second else SIZE)
    clip = clip_of(path.parent / DEPLOYMENT, size, patch, tubelet, deployment.frames, own_tokenizer=second and single)
    stretched = (GRID_2_1 - 1) / (clip.grid[0] - 1) if second and clip.grid[0] > 1 else 1.0
    with torch.device("meta"):
        encoder = Encoder(spec, clip, "paired" if second else "tiled", (stretched, stretched)).eval()
    fit(encoder, arranged(state, spec.heads), path, REMEDY, sized_by=SIZED_BY)
    predictor = None
    if not second and not deployment.skip_predictor:
        predictor = _masked_predictor(checkpoint, spec.width, deployment.steps(clip.tubelet), clip)
    family = "V-JEPA 2.1, encoder only" if second else "V-JEPA 2"
    return watching_source(encoder, predictor, deployment, f"{path.name} ({family}, facebookresearch)")


def _masked_predictor(checkpoint: Checkpoint, encoder_width: int, context: int, clip: ClipSpec) -> MaskedPredictor:
    state, path = checkpoint.predictor, checkpoint.path
    spec = stack_sizes(state, "predictor_blocks", MASKED_HEADS, path)
    masks = sum(key.startswith("mask_tokens.") for key in state)
    if not masks:
        raise SourceError(f"{path} has no predictor.mask_tokens: {REMEDY}, or set skip_predictor in {DEPLOYMENT}")
    with torch.device("meta"):
        predictor = MaskedPredictor(spec, encoder_width, masks, context, clip.grid, "tiled").eval()
    fit(predictor, arranged(state, spec.heads), path, REMEDY, sized_by=SIZED_BY)
    return predictor


def _acting(checkpoint: Checkpoint) -> Source:
    path = checkpoint.path
    deployment = read_acting(path.parent / DEPLOYMENT)
    spec, patch, tubelet = encoder_sizes(checkpoint.encoder, path)
    clip = clip_of(path.parent / DEPLOYMENT, deployment.size, patch, tubelet, 1)
    state = {key: value for key, value in checkpoint.predictor.items() if not key.startswith(UNUSED_CONDITION)}
    predicting = stack_sizes(state, "predictor_blocks", ACTION_HEADS, path)
    with torch.device("meta"):
        encoder = Encoder(spec, clip, "tiled").eval()
        predictor = ActionPredictor(predicting, spec.width, deployment.context - 1 + deployment.horizon, clip.grid).eval()
    fit(encoder, arranged(checkpoint.encoder, spec.heads), path, REMEDY, sized_by=SIZED_BY)
    fit(predictor, arranged(state, predicting.heads), path, REMEDY, sized_by=SIZED_BY)
    return acting_source(encoder, predictor, deployment, f"{path.name} (V-JEPA 2-AC, facebookresearch)")


def encoder_sizes(state: Mapping[str, Tensor], path: Path) -> tuple[StackSpec, int, int]:
    """Sizes, patch and tubelet of an encoder. Raises SourceError."""
    tokenizer = state.get("patch_embed.proj.weight")
    if tokenizer is None or tokenizer.ndim != 5:
        raise SourceError(f"{path} has no patch_embed.proj.weight of five dimensions in its encoder: {REMEDY}")
    width = len(tokenizer)
    return stack_sizes(state, "blocks", ODD_HEADS.get(width, max(1, width // HEAD)), path), tokenizer.shape[-1], tokenizer.shape[2]


def stack_sizes(state: Mapping[str, Tensor], stack: str, heads: int, path: Path) -> StackSpec:
    """Sizes of the blocks under ``stack``. Raises SourceError."""
    numbers = [key.split(".")[1] for key in state if key.startswith(f"{stack}.")]
    up = state.get(f"{stack}.0.mlp.fc1.weight")
    if up is None or up.ndim != 2 or up.shape[1] % heads:
        found = "is missing" if up is None else f"has shape {tuple(up.shape)}, which {heads} heads do not divide"
        raise SourceError(f"{path}: {stack}.0.mlp.fc1.weight {found}: {REMEDY}")
    layers = 1 + max(int(number) for number in numbers if number.isdigit())
    return StackSpec(up.shape[1], layers, heads, up.shape[0])
