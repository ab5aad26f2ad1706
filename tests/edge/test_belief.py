"""A belief never takes in numbers that are not finite."""

from __future__ import annotations

import numpy as np
import pytest

from edge.belief import BeliefFilter
from edge.clock import FakeClock
from edge.engines.engine import Array, EngineError, EngineInfo, TensorSpec
from edge.messages import Latent


class Decay:
    """An engine: the next latent is half of the newest one, plus the newest action."""

    info = EngineInfo("numpy", "fp32", 0, 0)
    inputs = {"context": TensorSpec("context", "float32", (1, 3, 1, 2)), "actions": TensorSpec("actions", "float32", (1, 3, 2))}  # noqa: RUF012
    outputs = {"predicted": TensorSpec("predicted", "float32", (1, 1, 2))}  # noqa: RUF012

    def __init__(self) -> None:
        both = {**self.inputs, **self.outputs}
        self._buffers = {name: np.zeros(spec.shape, dtype=np.float32) for name, spec in both.items()}

    def input(self, name: str) -> Array:
        return self._buffers[name]

    output = input

    def enqueue(self) -> None:
        self._buffers["predicted"][:] = self._buffers["context"][:, -1] / 2 + self._buffers["actions"][:, -1:]

    def wait(self) -> None: ...

    def close(self) -> None: ...


STILL = np.zeros(2, dtype=np.float32)


def _seen(value: float, at_ns: int = 0) -> Latent:
    return Latent(np.full((1, 2), value, dtype=np.float32), at_ns, 0)


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_latent_that_is_not_finite_is_refused(before: int, value: float) -> None:
    belief = BeliefFilter(Decay(), FakeClock())
    for _ in range(before):
        belief.update(_seen(1.0), STILL)
    with pytest.raises(EngineError, match="not finite"):
        belief.update(_seen(value), STILL)


def test_predicts_only_after_a_full_window_corrects_by_the_gain_and_coasts() -> None:
    belief = BeliefFilter(Decay(), FakeClock(), gain=0.5)
    assert belief.update(None, STILL) is None
    for _ in range(3):
        now = belief.update(_seen(4.0), STILL)
        assert now is not None and now.predicted is None
    before = belief.belief
    now = belief.update(_seen(4.0, 9), STILL)
    assert before is not None and now is not None and now.predicted is not None
    np.testing.assert_allclose(now.predicted, before.latent / 2)
    np.testing.assert_allclose(now.latent, (now.predicted + 4.0) / 2)
    coasted = belief.update(None, STILL + 1)
    assert coasted is not None and (coasted.coasted, coasted.captured_ns) == (1, 9)
    np.testing.assert_allclose(coasted.latent, now.latent / 2 + 1)
