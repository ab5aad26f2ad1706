"""Inputs to hold two engines of a part against each other, where no footage is at hand.

Pictures are made of noise at all scales, drifting like footage; latents are what the bundle's own encoder makes of them
in onnxruntime, so that predictor and rollout see what they are made for. They are the same in every run.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.bundle import Bundle, Part, signatures
from edge.engines.engine import Array
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.trial import Feed, outputs
from edge.messages import Floats, Pixels

COUNT = 8
DRIFT = 1 / 32
"""How far the picture moves from one to the next, of its width."""


def feeds_for(bundle: Bundle, part: Part, encoder: OnnxRuntimeEngine, count: int = COUNT) -> list[Feed]:
    """``count`` inputs of a part. encoder: the bundle's; runs once per picture, which may take seconds on a large model.
    Raises EngineError and, if the bundle has no such part, KeyError."""
    rng = np.random.default_rng(0)
    picture, context = bundle.manifest.picture, bundle.manifest.time.context
    inputs, _ = signatures(bundle.manifest)[part]
    seen = pictures(rng, (picture.height, picture.width), count if part == "encoder" else count + context - 1)
    if part == "encoder":
        return [{"picture": each[None]} for each in seen]
    latents = np.stack([outputs(encoder, {"picture": each[None]})["latent"][0] for each in seen])
    found: list[Feed] = []
    for first in range(count):
        known: dict[str, Array] = {
            "context": latents[None, first : first + context],
            "goal": latents[None, (first * 7 + context) % len(latents)],
        }
        shapes = {each.name: each.shape for each in inputs}
        for name, shape in shapes.items():
            if name not in known:  # beside actions there are weights and spreads of a search, all of them above 0
                known[name] = _plans(rng, shape) if "actions" in name else rng.random(shape).astype(np.float32)
        found.append({name: known[name] for name in shapes})
    return found


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
