"""The runtime's state of mind: predict the next latent, correct it with what was seen, keep the last few.

One step of the filter stands for ``step_s`` seconds of the bundle. It predicts with the world model, then moves from
the prediction towards the observation by a fixed ``gain`` (a Kalman filter with a constant gain). Without a trustworthy
picture it coasts: the prediction itself becomes the belief, and ``coasted`` counts how often in a row.
"""

from __future__ import annotations

import numpy as np

from edge.clock import Clock
from edge.engines.engine import Engine, EngineError, write_input
from edge.finite import finite
from edge.memory.episode import BeliefCheckpoint
from edge.messages import Belief, Floats, Latent


def seen(latent: Latent) -> Belief:
    """The belief of a model without a predictor: what is seen, and nothing about what comes next. Raises EngineError."""
    _refuse_broken(latent)
    return Belief(latent.tokens, None, latent.tokens[None], np.zeros((0, 0), np.float32), latent.captured_ns, 0)


def _refuse_broken(latent: Latent) -> None:
    if not finite(latent.tokens):
        raise EngineError("the encoder gave numbers that are not finite: check the bundle")


class BeliefFilter:
    """Holds the context window. One thread, the loop's, uses it.

    predictor: context float32 (1, C, T, D) and, where there are actions, actions float32 (1, C, A) -> predicted
    float32 (1, T, D). gain: in (0, 1], 1 believes what is seen.
    """

    def __init__(self, predictor: Engine, clock: Clock, gain: float = 1.0) -> None:
        if not 0.0 < gain <= 1.0:
            raise ValueError(f"the belief's gain lies in (0, 1], not {gain}")
        self._predictor = predictor
        self._clock = clock
        self._gain = np.float32(gain)
        _, self._length, self._tokens, self._dim = predictor.inputs["context"].shape
        actions = predictor.inputs.get("actions")
        self._width = 0 if actions is None else actions.shape[2]
        self._belief: Belief | None = None
        self._seen = 0
        self.engine_ns = 0
        """Time spent in the predictor by the last :meth:`update`."""

    @property
    def belief(self) -> Belief | None:
        """The newest belief, None before the first picture."""
        return self._belief

    def update(self, latent: Latent | None, action: Floats) -> Belief | None:
        """One step: what was commanded since the last step, and what is seen now (None: nothing that can be trusted).

        action: float32 (A,) in [-1, 1]. Returns the new belief, None while nothing was ever seen. Until C pictures were
        seen the window is filled with the first one, as if all had stood still, and nothing is called predicted.
        Raises EngineError.
        """
        self.engine_ns = 0
        if latent is not None:
            _refuse_broken(latent)
        before = self._belief
        if before is None:
            if latent is not None:
                self._begin(latent)
            return self._belief
        actions = _pushed(before.actions, action.reshape(1, self._width))
        predicted = self._predict(before.context, actions)
        if latent is None:
            corrected, captured_ns, coasted = predicted, before.captured_ns, before.coasted + 1
        else:
            corrected = predicted + self._gain * (latent.tokens - predicted) if self._gain < 1.0 else latent.tokens
            captured_ns, coasted = latent.captured_ns, 0
            self._seen += 1
        context = _pushed(before.context[1:], corrected[None])
        trusted = predicted if self._seen > self._length else None
        self._belief = Belief(corrected, trusted, context, actions[1:], captured_ns, coasted)
        return self._belief

    def restore(self, checkpoint: BeliefCheckpoint) -> None:
        """Go on from a saved belief. The clock must still be that of the checkpoint's boot."""
        context = checkpoint.context
        self._belief = Belief(context[-1], None, context, checkpoint.actions, checkpoint.captured_ns, 0)
        self._seen = self._length

    def forget(self) -> None:
        """Start cold at the next picture."""
        self._belief = None
        self._seen = 0

    def _begin(self, latent: Latent) -> None:
        context = np.repeat(latent.tokens[None], self._length, axis=0)
        actions = np.zeros((self._length - 1, self._width), dtype=np.float32)
        self._belief = Belief(latent.tokens, None, context, actions, latent.captured_ns, 0)
        self._seen = 1

    def _predict(self, context: Floats, actions: Floats) -> Floats:
        started = self._clock.now_ns()
        write_input(self._predictor, "context", context[None])
        if self._width:
            write_input(self._predictor, "actions", actions[None])
        self._predictor.enqueue()
        self._predictor.wait()
        predicted: Floats = self._predictor.output("predicted")[0].copy()
        self.engine_ns = self._clock.now_ns() - started
        if not finite(predicted):
            raise EngineError("the predictor gave numbers that are not finite: check the bundle")
        return predicted


def _pushed(kept: Floats, newest: Floats) -> Floats:
    """``newest`` behind what is kept, float32."""
    pushed = np.empty((len(kept) + 1, *kept.shape[1:]), dtype=np.float32)
    pushed[:-1] = kept
    pushed[-1:] = newest
    return pushed
