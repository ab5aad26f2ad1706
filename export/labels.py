"""Labelled footage: how well a frame's scores tell anomalies from what is normal, with FP32 and with INT8.

The scores are those of the runtime before its alarm rule: the worst place of the prediction error, and of the distance to
what the normal footage showed. No smoothing over time, no scaling per clip; all frames of all clips are ranked together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.bundle import Part, Picture
from edge.engines.engine import Engine
from edge.errors import UserError
from edge.intrinsics import Intrinsics
from edge.memory.concepts import Concepts
from edge.messages import Floats
from edge.surprise.scores import places, pool, token_errors
from export.feeds import Progress, clips_from_cold, counted, encode, run, unwatched, window_feed
from export.frames import read_steps
from export.verify import auroc

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "docs/export.md has an example"
UNEXPECTED, UNFAMILIAR = "unexpected (prediction error)", "unfamiliar (distance to normal)"


class Clip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One recording. frames: a video file or a folder of pictures, beside the labels file. anomalous: [first, after the
    last) of its frames, counted from 0."""

    frames: str
    anomalous: tuple[tuple[int, int], ...] = ()


class _Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Labelled:
    """pictures: by clip, uint8 (T, H, W, 3) at the model's step; for an encoder of video (T, F, H, W, 3), the frame and those
    before it that the encoder sees with it. anomalous: by clip, whether the frame is, bool (T,). normal: runs (E, T, ...) of
    the same in which nothing is anomalous. grid: of patch latents. label: for people."""

    pictures: Sequence[NDArray[np.uint8]]
    anomalous: Sequence[NDArray[np.bool_]]
    normal: NDArray[np.uint8]
    grid: tuple[int, int] | None
    label: str


def read_labelled(
    path: Path,
    picture: Picture,
    step_s: float,
    normal: NDArray[np.uint8],
    grid: tuple[int, int] | None,
    progress: Progress = unwatched,
    intrinsics: Intrinsics | None = None,
) -> Labelled:
    """Read a labels file and its clips. normal, grid: see Labelled. intrinsics: see read_footage. Raises UserError."""
    try:
        labels = msgspec.convert(tomllib.loads(path.read_bytes().decode()), _Labels)
    except OSError as error:
        raise UserError(f"labels {path} cannot be read ({error.strerror}): give a labels file; {SCHEMA}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UserError(f"labels {path} are not valid: {error}; {SCHEMA}") from None
    pictures, anomalous = [], []
    for clip in counted(labels.clips, progress):
        for first, after in clip.anomalous:
            if not 0 <= first < after:
                raise UserError(f"labels {path}: {clip.frames!r} has the interval [{first}, {after}): 0 <= first < end must hold")
        seen, indices = read_steps(str(path.parent / clip.frames), picture, step_s / picture.per_step, intrinsics)
        if picture.frames > 1:
            seen, indices = clips_from_cold(seen, picture.frames, picture.per_step), indices[:: picture.per_step]
        pictures.append(seen)
        inside = [(indices >= first) & (indices < after) for first, after in clip.anomalous]
        anomalous.append(np.any(inside or [np.zeros(len(indices), bool)], axis=0))
    every = np.concatenate(anomalous) if anomalous else np.zeros(0, bool)
    if every.all() or not every.any():
        raise UserError(f"labels {path} name {every.sum()} of {every.size} frames anomalous: both kinds of frames are needed")
    label = f"{len(pictures)} clips of {path.name}, {every.sum()} of {every.size} frames anomalous"
    return Labelled(pictures, anomalous, normal, grid, label)


def anomaly_report(
    exact: Mapping[Part, Engine], quantized: Mapping[Part, Engine], labelled: Labelled, progress: Progress = unwatched
) -> dict[str, Any]:
    """scores: by score, AUROC of both arithmetics. auroc_loss: the most that INT8 loses in any. int8_auroc: the better of
    its scores. A model with actions has no prediction error here, as nobody knows what was commanded. Raises UserError."""
    found: dict[str, dict[str, float]] = {}
    for arithmetic, parts in (("fp32", exact), ("int8", quantized)):
        for name, (anomalous, normal) in _scores(parts, labelled, progress).items():
            found.setdefault(name, {})[arithmetic] = float(f"{auroc(anomalous, normal):.5g}")
    return {
        "auroc_loss": float(f"{max(pair['fp32'] - pair['int8'] for pair in found.values()):.5g}"),
        "int8_auroc": max(pair["int8"] for pair in found.values()),
        "scores": found,
        "labelled_on": labelled.label,
    }


def _scores(parts: Mapping[Part, Engine], labelled: Labelled, progress: Progress) -> dict[str, tuple[Floats, Floats]]:
    """By score: those of the anomalous frames and those of the others."""
    latents = encode(parts["encoder"], labelled.normal, progress)
    concepts = Concepts(latents.shape[-1])
    for tokens in latents.reshape(-1, *latents.shape[2:]):
        concepts.learn(tokens, 0.0)
    scores: dict[str, list[Floats]] = {UNEXPECTED: [], UNFAMILIAR: []}
    truth: list[NDArray[np.bool_]] = []
    for pictures, anomalous in counted(list(zip(labelled.pictures, labelled.anomalous, strict=True)), progress):
        seen = encode(parts["encoder"], pictures[None])[0]
        errors = _prediction_errors(parts, seen)
        judged = seen[len(seen) - len(errors) :] if errors is not None else seen
        if errors is not None:
            scores[UNEXPECTED].append(pool(places(errors, labelled.grid)))
        distances = [concepts.distance(tokens) for tokens in judged]
        scores[UNFAMILIAR].append(pool(places(np.array(distances).reshape(-1, seen.shape[1]), labelled.grid)))
        truth.append(anomalous[len(seen) - len(judged) :])
    wrong = np.concatenate(truth)
    if wrong.all() or not wrong.any():
        raise UserError(f"{labelled.label}, but after a context only one kind is left: give longer clips")
    every = {name: np.concatenate(values) for name, values in scores.items() if values}
    return {name: (values[wrong], values[~wrong]) for name, values in every.items()}


def _prediction_errors(parts: Mapping[Part, Engine], latents: Floats) -> Floats | None:
    """Latents (T, tokens, D) -> error of each prediction by token, (T - C, tokens); None where nothing can be predicted."""
    if "predictor" not in parts or "actions" in parts["predictor"].inputs:
        return None
    context = parts["predictor"].inputs["context"].shape[1]
    nothing = np.empty((context, 0), np.float32)
    errors = [
        token_errors(run(parts["predictor"], window_feed(latents[at - context : at], nothing))[0], latents[at])
        for at in range(context, len(latents))
    ]
    return np.stack(errors) if errors else np.empty((0, latents.shape[1]), np.float32)
