"""From a frame to its latent: resize to what the model looks at, run the encoder."""

from __future__ import annotations

import cv2
import numpy as np

from edge.bundle import Bundle
from edge.clock import Clock
from edge.engines import Engine
from edge.messages import Floats, Frame, Latent, Pixels


class FrameEncoder:
    """One thread, the loop's, uses it. engine: the bundle's encoder, picture uint8 (1, h, w, 3) -> latent (1, T, D)."""

    def __init__(self, engine: Engine, bundle: Bundle, clock: Clock) -> None:
        picture = bundle.manifest.picture
        self._size = (picture.width, picture.height)
        self._engine = engine
        self._clock = clock
        self._halved = np.empty((0, 0, 3), dtype=np.uint8)
        self.engine_ns = 0
        """Time spent in the engine by the last call."""

    def encode(self, frame: Frame) -> Latent:
        """The frame's latent. Raises EngineError."""
        return Latent(self.tokens(frame.pixels), frame.captured_ns, frame.sequence)

    def tokens(self, pixels: Pixels) -> Floats:
        """uint8 (H, W, 3) BGR of any size -> float32 (T, D). Raises EngineError."""
        self._scale(pixels)
        started = self._clock.now_ns()
        self._engine.enqueue()
        self._engine.wait()
        self.engine_ns = self._clock.now_ns() - started
        return np.array(self._engine.output("latent")[0], dtype=np.float32)

    def _scale(self, pixels: Pixels) -> None:
        """Area-average into the engine's input. Halving a large picture first gives the same to one grey level, and
        saves a third of the time, because OpenCV halves with vector instructions."""
        height, width = pixels.shape[:2]
        if height >= 4 * self._size[1] and width >= 4 * self._size[0] and height % 2 == width % 2 == 0:
            if self._halved.shape[:2] != (height // 2, width // 2):
                self._halved = np.empty((height // 2, width // 2, 3), dtype=np.uint8)
            cv2.resize(pixels, (width // 2, height // 2), dst=self._halved, interpolation=cv2.INTER_AREA)
            pixels = self._halved
        cv2.resize(pixels, self._size, dst=self._engine.input("picture")[0], interpolation=cv2.INTER_AREA)
