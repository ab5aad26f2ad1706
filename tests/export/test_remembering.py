"""The same question gets the same answer without being computed again, and never somebody else's."""

from __future__ import annotations

import numpy as np

from edge.engines.engine import EngineInfo, TensorSpec
from export import remembering
from export.feeds import run
from export.remembering import Remembering


class Doubling:
    """y = 2 x, and how often that was computed."""

    def __init__(self) -> None:
        self.info = EngineInfo("test", "fp32", 0, 0)
        self.inputs = {"x": TensorSpec("x", "float32", (3,))}
        self.outputs = {"y": TensorSpec("y", "float32", (3,))}
        self.buffers = {name: np.zeros(3, np.float32) for name in "xy"}
        self.computed = 0

    def input(self, name: str) -> np.ndarray:
        return self.buffers[name]

    output = input

    def enqueue(self) -> None:
        self.computed += 1
        self.buffers["y"][...] = 2 * self.buffers["x"]

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass


def feed(value: float) -> dict[str, np.ndarray]:
    return {"x": np.full(3, value, np.float32)}


def test_every_answer_is_computed_once():
    engine = Doubling()
    remembered = Remembering(engine)
    for value in (1.0, 2.0, 1.0, 2.0, 3.0, 1.0):
        assert run(remembered, feed(value)).tolist() == [2 * value] * 3
    assert engine.computed == 3


def test_what_memory_has_no_room_for_is_computed_again(monkeypatch):
    monkeypatch.setattr(remembering, "MEMORY_BYTES", 12)
    engine = Doubling()
    remembered = Remembering(engine)
    for value in (1.0, 2.0, 1.0, 2.0):
        assert run(remembered, feed(value)).tolist() == [2 * value] * 3
    assert engine.computed == 3
