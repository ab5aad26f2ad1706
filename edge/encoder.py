"""From frames to latents: scale them to what the model looks at, keep those that it sees together, run the encoder."""

from __future__ import annotations

import numpy as np

from edge.bundle import Bundle
from edge.clock import Clock
from edge.engines import Engine
from edge.intrinsics import Intrinsics
from edge.messages import Floats, Frame, Latent, Pixels
from edge.scaling import Scaler


class FrameEncoder:
    """One thread, the loop's, uses it. engine: the bundle's encoder, picture uint8 (F, h, w, 3) -> latent (1, T, D).
    intrinsics: those of the camera whose pictures it gets, if its lens is to be taken out."""

    def __init__(self, engine: Engine, bundle: Bundle, clock: Clock, intrinsics: Intrinsics | None = None) -> None:
        picture = bundle.manifest.picture
        self.size = (picture.width, picture.height)
        """Width and height of the model's picture."""
        self.intrinsics = intrinsics
        self._scaler = Scaler(self.size, intrinsics)
        self._engine = engine
        self._input = engine.input("picture")
        # The past of a clip must outlive whatever else the engine is asked about.
        self.clip: Pixels = self._input if picture.frames == 1 else np.zeros_like(self._input)
        """uint8 (F, h, w, 3): the pictures that the last latent was made of, oldest first."""
        self._cold = True
        self._clock = clock
        self.engine_ns = 0
        """Time spent in the engine by the last call."""

    def encode(self, frame: Frame) -> Latent:
        """The latent of this frame and those before it. Raises EngineError."""
        self.show(frame)
        if self.clip is not self._input:
            np.copyto(self._input, self.clip)
        return Latent(self._run(), frame.captured_ns, frame.sequence)

    def show(self, frame: Frame) -> None:
        """Take a frame into the clip. After a cold start the world is taken to have stood still before it."""
        self.clip[:-1] = self.clip[1:]
        if frame.small is None:
            self._scaler.scale_into(self.clip[-1], frame.pixels)
        else:
            np.copyto(self.clip[-1], frame.small)
        if self._cold:
            self.clip[:-1] = self.clip[-1]
        self._cold = False

    def forget(self) -> None:
        """Start cold at the next frame."""
        self._cold = True

    def tokens(self, small: Pixels) -> Floats:
        """uint8 (h, w, 3), or a whole clip (F, h, w, 3), BGR of the model's size, straight if the lens is known -> float32
        (T, D). Raises EngineError."""
        np.copyto(self._input, small)
        return self._run()

    def _run(self) -> Floats:
        started = self._clock.now_ns()
        self._engine.enqueue()
        self._engine.wait()
        self.engine_ns = self._clock.now_ns() - started
        latent: Floats = self._engine.output("latent")[0].copy()
        return latent
