"""The smallest robot that can think: its latent is the mean colour of the picture, and its actions move blue and green."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge.bundle import Action, Bundle, GoalCost, Graph, Graphs, LatentShape, Manifest, Picture, Timing
from edge.clock import NS_PER_MS, FakeClock
from edge.engines.engine import Array, EngineInfo, TensorSpec
from edge.messages import Pixels

DIM, CONTEXT, CANDIDATES, HORIZON = 3, 3, 48, 4
STEP = 0.1
Buffers = dict[str, Array]


class TinyEngine:
    """An engine that computes with numpy, moves the clock by what it takes and writes down its name."""

    info = EngineInfo("numpy", "fp32", 0, 0)

    def __init__(
        self,
        name: str,
        inputs: dict[str, tuple[int, ...]],
        outputs: dict[str, tuple[int, ...]],
        compute: Callable[[Buffers], None],
        clock: FakeClock,
        takes_ms: int = 0,
        log: list[str] | None = None,
    ) -> None:
        def spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
            return TensorSpec(name, "uint8" if name == "picture" else "float32", shape)

        self.inputs = {key: spec(key, shape) for key, shape in inputs.items()}
        self.outputs = {key: spec(key, shape) for key, shape in outputs.items()}
        self._buffers = {key: np.zeros(s.shape, dtype=s.dtype) for key, s in {**self.inputs, **self.outputs}.items()}
        self._name, self._compute, self._clock, self._log = name, compute, clock, log
        self.takes_ms = takes_ms

    def input(self, name: str) -> Array:
        return self._buffers[name]

    output = input

    def enqueue(self) -> None:
        if self._log is not None:
            self._log.append(self._name)
        self._compute(self._buffers)

    def wait(self) -> None:
        self._clock.advance_ns(self.takes_ms * NS_PER_MS)

    def close(self) -> None: ...


def encoder(clock: FakeClock, takes_ms: int = 0, log: list[str] | None = None) -> TinyEngine:
    """picture -> its mean colour, 0 to 1."""

    def compute(b: Buffers) -> None:
        b["latent"][0, 0] = b["picture"][0].mean(axis=(0, 1)) / 255.0

    return TinyEngine("encoder", {"picture": (1, 8, 8, 3)}, {"latent": (1, 1, DIM)}, compute, clock, takes_ms, log)


def predictor(clock: FakeClock, takes_ms: int = 0, log: list[str] | None = None) -> TinyEngine:
    """The newest action moves blue and green by a tenth."""

    def compute(b: Buffers) -> None:
        b["predicted"][:] = b["context"][:, -1]
        b["predicted"][0, 0, :2] += STEP * b["actions"][0, -1]

    inputs = {"context": (1, CONTEXT, 1, DIM), "actions": (1, CONTEXT, 2)}
    return TinyEngine("predictor", inputs, {"predicted": (1, 1, DIM)}, compute, clock, takes_ms, log)


def rollout(clock: FakeClock, takes_ms: int = 0, log: list[str] | None = None) -> TinyEngine:
    """The same law for many plans."""

    def compute(b: Buffers) -> None:
        path = np.repeat(b["context"][:, -1], HORIZON, axis=1) + np.zeros((CANDIDATES, 1, 1), dtype=np.float32)
        path[..., :2] += STEP * np.cumsum(b["actions"], axis=1)
        b["distance"][:] = ((path - b["goal"]) ** 2).mean(axis=-1)

    inputs = {
        "context": (1, CONTEXT, 1, DIM),
        "past_actions": (1, CONTEXT - 1, 2),
        "actions": (CANDIDATES, HORIZON, 2),
        "goal": (1, 1, DIM),
    }
    return TinyEngine("rollout", inputs, {"distance": (CANDIDATES, HORIZON)}, compute, clock, takes_ms, log)


def bundle() -> Bundle:
    """What the encoder stage wants to know of the robot."""
    graph = Graph("none.onnx", (), ())
    manifest = Manifest(
        1, "tiny", "1", "robot", "nothing", "a test", "Apache-2.0",
        Picture(8, 8), LatentShape(1, DIM), Timing(0.1, CONTEXT), Graphs(graph, graph, graph), {},
        actions=(Action("left", "rad/s", -20.0, 20.0), Action("right", "rad/s", -20.0, 20.0)),
        goal=GoalCost("latent_mse", 1e-3, HORIZON, CANDIDATES, 6),
    )  # fmt: skip
    return Bundle(Path("nowhere"), manifest, "b" * 64)


def plain(blue: float, green: float = 0.0, red: float = 0.0) -> Pixels:
    """A picture of one colour, 0 to 1 each: uint8 (48, 64, 3)."""
    colour = np.rint(np.array((blue, green, red)) * 255.0).astype(np.uint8)
    return np.broadcast_to(colour, (48, 64, 3)).copy()


def save(path: Path, pixels: Pixels) -> None:
    """Write a PNG."""
    assert cv2.imwrite(str(path), pixels)
