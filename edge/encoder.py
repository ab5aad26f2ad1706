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
        self.engine_ns = 0
        """Time spent in the engine by the last call."""

    def encode(self, frame: Frame) -> Latent:
        """The frame's latent. Raises EngineError."""
        return Latent(self.tokens(frame.pixels), frame.captured_ns, frame.sequence)

    def tokens(self, pixels: Pixels) -> Floats:
        """uint8 (H, W, 3) BGR of any size -> float32 (T, D). Raises EngineError."""
        cv2.resize(pixels, self._size, dst=self._engine.input("picture")[0], interpolation=cv2.INTER_AREA)
        started = self._clock.now_ns()
        self._engine.enqueue()
        self._engine.wait()
        self.engine_ns = self._clock.now_ns() - started
        return np.array(self._engine.output("latent")[0], dtype=np.float32)
