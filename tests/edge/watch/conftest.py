"""The shipped camera bundle, a room made on the spot, and what is normal in it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle import Bundle, load
from edge.clock import NS_PER_S, FakeClock
from edge.learn_normal import NormalLearner
from edge.messages import CameraFault, Frame, Pixels
from edge.normal import Normal
from edge.perception import Perception

FPS = 10.0


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The camera bundle that ships."""
    return load("camera")


@pytest.fixture(scope="session")
def normal(bundle: Bundle) -> Normal:
    """What 15 s of the room teach."""
    shape = bundle.manifest.latent
    perception = Perception(bundle, FakeClock())
    learner = NormalLearner(shape.tokens, shape.dim, shape.grid)
    for frame in frames(0, 150):
        belief = perception.see(frame)
        if belief is not None:
            learner.observe(belief)
    perception.close()
    return learner.learn(bundle_sha256=bundle.sha256, made_from="the room", wall_s=0.0)


def scene(number: int, rng: np.random.Generator) -> Pixels:
    """A textured room in which something bright goes to and fro; every frame has noise of its own."""
    picture = np.random.default_rng(1).integers(40, 120, (12, 16, 3)).astype(np.uint8)
    picture = cv2.resize(picture, (160, 120), interpolation=cv2.INTER_NEAREST)
    x = round(40 + 30 * np.sin(number / 8.0))
    picture[60:80, x : x + 16] = (200, 210, 190)
    return np.clip(picture + rng.normal(0.0, 2.0, picture.shape), 0, 255).astype(np.uint8)


def frames(first: int, last: int, faults: tuple[CameraFault, ...] = ()) -> list[Frame]:
    """Frames first .. last - 1 of the room at FPS."""
    rng = np.random.default_rng(first)
    return [Frame(scene(i, rng), round(i / FPS * NS_PER_S), i, faults) for i in range(first, last)]


def write_video(path: Path, count: int, fps: float = FPS) -> Path:
    """The room as a video file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (160, 120))
    assert writer.isOpened()
    rng = np.random.default_rng(0)
    for number in range(count):
        writer.write(scene(number, rng))
    writer.release()
    return path
