"""From a frame to its latent: scale it to what the model looks at, run the encoder."""

from __future__ import annotations

import numpy as np

from edge.bundle import Bundle
from edge.clock import Clock
from edge.engines import Engine
from edge.intrinsics import Intrinsics
from edge.messages import Floats, Frame, Latent, Pixels
from edge.scaling import Scaler


class FrameEncoder:
    """One thread, the loop's, uses it. engine: the bundle's encoder, picture uint8 (1, h, w, 3) -> latent (1, T, D).
    intrinsics: those of the camera whose pictures it gets, if its lens is to be taken out."""

    def __init__(self, engine: Engine, bundle: Bundle, clock: Clock, intrinsics: Intrinsics | None = None) -> None:
        picture = bundle.manifest.picture
        self.size = (picture.width, picture.height)
        """Width and height of the model's picture."""
        self.intrinsics = intrinsics
        self._scaler = Scaler(self.size, intrinsics)
        self._engine = engine
        self._picture = engine.input("picture")[0]
        self._clock = clock
        self.engine_ns = 0
        """Time spent in the engine by the last call."""

    def encode(self, frame: Frame) -> Latent:
        """The frame's latent. Raises EngineError."""
        if frame.small is None:
            self._scaler.scale_into(self._picture, frame.pixels)
        else:
            np.copyto(self._picture, frame.small)
        return Latent(self._run(), frame.captured_ns, frame.sequence)

    def tokens(self, small: Pixels) -> Floats:
        """uint8 (h, w, 3) BGR of the model's size, straight if the lens is known -> float32 (T, D). Raises EngineError."""
        np.copyto(self._picture, small)
        return self._run()

    def _run(self) -> Floats:
        started = self._clock.now_ns()
        self._engine.enqueue()
        self._engine.wait()
        self.engine_ns = self._clock.now_ns() - started
        latent: Floats = self._engine.output("latent")[0].copy()
        return latent
