"""From frames to beliefs at the model's own pace: encode, predict and correct; without a predictor, encode.

A camera gives more frames than the model takes. The frame nearest to each step of the model is looked at, the others pass.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.belief import BeliefFilter, seen
from edge.bundle import Bundle
from edge.clock import NS_PER_S, Clock
from edge.encoder import FrameEncoder
from edge.engines import EngineInfo, EngineSettings, load_engine
from edge.intrinsics import Intrinsics
from edge.messages import Belief, Floats, Frame, Pixels
from edge.scaling import Scaler

GAP_STEPS = 10
"""After so many steps without a frame the past says nothing about the present, and the belief begins anew."""


class Perception:
    """The encoder and the belief of a bundle without actions. One thread uses it. intrinsics: those of the camera, if its
    lens is to be taken out of what the model sees. Raises EngineError where a call runs a graph, and IntrinsicsError at the
    first picture that the intrinsics do not fit."""

    def __init__(
        self,
        bundle: Bundle,
        clock: Clock,
        settings: EngineSettings = EngineSettings(),  # noqa: B008
        intrinsics: Intrinsics | None = None,
    ) -> None:
        picture, timing = bundle.manifest.picture, bundle.manifest.time
        self._per_step = picture.per_step
        self._interval_ns = round(timing.step_s * NS_PER_S / picture.per_step)
        self._gap_ns = GAP_STEPS * picture.per_step * self._interval_ns
        self._shown = 0
        self._clock = clock
        self._engine = load_engine(bundle, "encoder", settings)
        self._encoder = FrameEncoder(self._engine, bundle, clock, intrinsics)
        self._scaler = Scaler(self._encoder.size, intrinsics)
        self._predictor = load_engine(bundle, "predictor", settings) if bundle.predicts else None
        self._filter = None if self._predictor is None else BeliefFilter(self._predictor, clock)
        grid = bundle.manifest.latent.grid or (1, 1)
        down, across = (picture.height // grid[0], picture.width // grid[1])
        quarters = [(i * down // 4, j * across // 4) for i in range(4) for j in range(4)]
        self._shifts = quarters[1:]
        self._shift = 0
        self._no_action: Floats = np.zeros(0, dtype=np.float32)
        self._due_ns: int | None = None
        self._last_ns = 0
        self.timings_ns: dict[str, int] = {}
        """What the last step took: encoder, predictor."""

    @property
    def engines(self) -> dict[str, EngineInfo]:
        """What really runs, by part."""
        predictor = {} if self._predictor is None else {"predictor": self._predictor.info}
        return {"encoder": self._engine.info, **predictor}

    def see(self, frame: Frame) -> Belief | None:
        """The belief after this frame, or None if the frame lies between two steps of the model; an encoder of video still
        looks at some of those."""
        at_ns = frame.captured_ns
        gap_ns = at_ns - self._last_ns
        self._last_ns = at_ns
        if self._due_ns is None or gap_ns < 0 or gap_ns > self._gap_ns:
            self.forget()
            self._due_ns = at_ns
            gap_ns = 0
        if at_ns + gap_ns // 2 < self._due_ns:  # the next frame will be nearer
            return None
        self._due_ns = max(self._due_ns + self._interval_ns, at_ns + self._interval_ns // 2)
        self._shown += 1
        if (self._shown - 1) % self._per_step:
            self._encoder.show(frame)
            return None
        started = self._clock.now_ns()
        latent = self._encoder.encode(frame)
        encoded = self._clock.now_ns()
        self.timings_ns = {"encoder": encoded - started}
        if self._filter is None:
            return seen(latent)
        belief = self._filter.update(latent, self._no_action)
        self.timings_ns["predictor"] = self._filter.engine_ns
        return belief

    def shifted(self, pixels: Pixels) -> Floats:
        """The same picture, and those seen with it, moved by some quarters of a patch, each time others: float32 (T, D). What
        is normal at one place in a patch is normal at another."""
        down, across = self._shifts[self._shift]
        self._shift = (self._shift + 4) % len(self._shifts)  # 15 of them, so that 4 at a time meets all
        small = self._scaler.scaled(pixels)
        height, width = small.shape[:2]
        grown = [
            np.asarray(cv2.copyMakeBorder(picture, down, 0, across, 0, cv2.BORDER_REPLICATE), np.uint8)[:height, :width]
            for picture in (*self._encoder.clip[:-1], small)
        ]
        return self._encoder.tokens(np.stack(grown))

    def forget(self) -> None:
        """Start cold at the next frame, whose time is then the beat."""
        if self._filter is not None:
            self._filter.forget()
        self._encoder.forget()
        self._due_ns = None
        self._shown = 0

    def close(self) -> None:
        """Give the engines back. Safe to call twice."""
        self._engine.close()
        if self._predictor is not None:
            self._predictor.close()
