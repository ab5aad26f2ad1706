"""Inputs to hold two engines of a part against each other: of the footage that came with the bundle, or of noise.

Where a bundle carries samples, they are its pictures. Elsewhere pictures are made of noise at all scales, drifting like
footage. Latents are what the bundle's own encoder makes of them in onnxruntime, so that predictor and rollout see what they
are made for. Both are the same in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.bundle import Bundle, Part, signatures
from edge.engines.engine import Array
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.trial import Feed, Feeds, MadeOf, outputs
from edge.messages import Floats, Pixels
from edge.samples import Samples, read_samples

COUNT = 8
DRIFT = 1 / 32
"""How far the picture moves from one to the next, of its width."""


@dataclass(frozen=True, slots=True)
class _Windows:
    """What predictions start from. steps: uint8 (n, F, H, W, 3), what the encoder sees. contexts: for each feed the steps that
    it knows, goals: the step that it is to reach."""

    steps: Pixels
    contexts: Sequence[Sequence[int]]
    goals: Sequence[int]


def feeds_for(bundle: Bundle, part: Part, encoder: OnnxRuntimeEngine, count: int = COUNT) -> Feeds:
    """Inputs of a part: ``count`` of noise, or as many as the samples give. encoder: the bundle's; runs once per picture, which
    may take seconds on a large model. Raises EngineError, BundleError for samples that do not fit and, if the bundle has no
    such part, KeyError."""
    rng = np.random.default_rng(0)
    inputs, _ = signatures(bundle.manifest)[part]
    samples = read_samples(bundle)
    made_of: MadeOf = "noise" if samples is None else "footage"
    if part == "encoder":
        steps = _noise(rng, bundle, count) if samples is None else samples.steps()[0]
        return Feeds(made_of, [{"picture": each} for each in steps])
    windows = _drifting(rng, bundle, count) if samples is None else _sampled(samples)
    latents = np.stack([outputs(encoder, {"picture": each})["latent"][0] for each in windows.steps])
    shapes = {each.name: each.shape for each in inputs}
    found: list[Feed] = []
    for context, goal in zip(windows.contexts, windows.goals, strict=True):
        known: dict[str, Array] = {"context": latents[None, list(context)], "goal": latents[None, goal]}
        for name, shape in shapes.items():
            if name not in known:  # beside actions there are weights and spreads of a search, all of them above 0
                known[name] = _plans(rng, shape) if "actions" in name else rng.random(shape).astype(np.float32)
        found.append({name: known[name] for name in shapes})
    return Feeds(made_of, found)


def _sampled(samples: Samples) -> _Windows:
    """Every run's goal is where the next one begins."""
    runs, steps = samples.pictures.shape[:2]
    contexts = [range(run * steps, (run + 1) * steps) for run in range(runs)]
    goals = [contexts[(run + 1) % runs][0] for run in range(runs)]
    return _Windows(samples.steps()[0], contexts, goals)


def _drifting(rng: np.random.Generator, bundle: Bundle, count: int) -> _Windows:
    context = bundle.manifest.time.context
    steps = _noise(rng, bundle, count + context - 1)
    contexts = [range(first, first + context) for first in range(count)]
    return _Windows(steps, contexts, [(first * 7 + context) % len(steps) for first in range(count)])


def _noise(rng: np.random.Generator, bundle: Bundle, steps: int) -> Pixels:
    """uint8 (steps, F, H, W, 3)."""
    picture = bundle.manifest.picture
    first = picture.frames - picture.per_step
    seen = pictures(rng, (picture.height, picture.width), first + steps * picture.per_step)
    return np.stack([seen[at : at + picture.frames] for at in range(0, steps * picture.per_step, picture.per_step)])


def pictures(rng: np.random.Generator, size: tuple[int, int], count: int) -> Pixels:
    """uint8 (count, H, W, 3), the first half drifting over one scene, the second over another. size: H, W."""
    height, width = size
    found = []
    for index in range(count):
        if index % max(count // 2, 1) == 0:
            scene = _scene(rng, height, width)
        found.append(np.roll(scene, round(index * DRIFT * width), axis=1))
    return np.stack(found)


def _scene(rng: np.random.Generator, height: int, width: int) -> Pixels:
    total = np.zeros((height, width, 3), np.float32)
    cells = 2
    while cells <= max(height, width):
        coarse = rng.normal(size=(min(cells, height), min(cells, width), 3)).astype(np.float32)
        total += np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)) / np.sqrt(cells)
        cells *= 2
    bright, contrast = rng.uniform(80, 170), rng.uniform(30, 60)
    scene: Pixels = np.clip(bright + contrast * total / total.std(), 0, 255).astype(np.uint8)
    return scene


def _plans(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Actions in -1 .. 1, a third of them at their extremes."""
    drawn = rng.uniform(-1.0, 1.0, shape)
    return np.where(rng.random(shape) < 1 / 3, np.sign(drawn), drawn).astype(np.float32)
