"""A pair of ONNX files of a few kB with random weights, and pictures to calibrate it on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """A bright square that wanders over a textured ground; size: height and width."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    ground = rng.integers(0, 120, (*size, 3), dtype=np.uint8)
    for index in range(count):
        picture = ground.copy()
        side = size[0] // 3
        y, x = int((size[0] - side) * abs(np.sin(index / 7))), int((size[1] - side) * abs(np.cos(index / 5)))
        picture[y : y + side, x : x + side] = rng.integers(150, 256, 3)
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


SIGNATURE = """
name = "pair"
encoder = "encoder.onnx"
predictor = "predictor.onnx"

[picture]
height = 16
width = 24

[latent]
tokens = 1
dim = 16

[time]
step_s = 0.1
context = 2
"""
ROBOT = """
actions = [{ name = "turn", unit = "rad/s", low = -1.0, high = 1.0 }, { name = "drive", unit = "m/s", low = 0.0, high = 0.5 }]
"""
CANDIDATES, HORIZON = 8, 3


def save(path: Path, nodes, inputs, output, constants, opset=19) -> None:
    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [value(n, s) for n, s in inputs.items()], [value(*output)], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))


def write_pair(
    folder: Path, *, robot: bool = False, outlier: float = 1.0, norm: bool = False, batch: int | str = 1, opset: int = 17
) -> Path:
    """An encoder that takes normalised floats, a predictor that takes latents without the token axis. outlier: how much
    larger one channel between the encoder's layers is than the others, at no cost in FP32. norm: a LayerNormalization
    makes it so. Returns the signature."""
    rng = np.random.default_rng(1)

    def linear(k: int, n: int):
        return (rng.normal(size=(k, n)) / np.sqrt(k)).astype(np.float32)

    gains = np.ones(32, np.float32)
    gains[0] = outlier
    second = linear(32, 16) / gains[:, None]
    save(
        folder / "encoder.onnx",
        [
            helper.make_node("Flatten", ["pixels"], ["flat"], "flatten"),
            helper.make_node("Gemm", ["flat", "w1", "first.bias"], ["hidden"], "first"),
            helper.make_node("Relu", ["hidden"], ["positive"], "relu"),
            helper.make_node("LayerNormalization" if norm else "Mul", ["positive", "gains"], ["scaled"], "scale"),
            helper.make_node("Gemm", ["scaled", "w2", "second.bias"], ["z"], "second"),
        ],
        {"pixels": (batch, 3, 16, 24)},
        ("z", (batch, 16)),
        {
            "w1": linear(3 * 16 * 24, 32),
            "first.bias": rng.normal(size=32).astype(np.float32),
            "gains": gains,
            "w2": second.astype(np.float32),
            "second.bias": rng.normal(size=16).astype(np.float32),
        },
        opset,
    )
    acted = {"actions": (1, 2, 2)} if robot else {}
    nodes = [helper.make_node("Flatten", ["context"], ["seen"], "flatten")]
    seen = "seen"
    if robot:
        nodes += [
            helper.make_node("Flatten", ["actions"], ["done"], "flatten_actions"),
            helper.make_node("Concat", ["seen", "done"], ["both"], "join", axis=1),
        ]
        seen = "both"
    nodes += [
        helper.make_node("MatMul", [seen, "w"], ["product"], "mix"),
        helper.make_node("Add", ["product", "mix.bias"], ["next"], "add"),
    ]
    width = 36 if robot else 32
    constants = {"w": linear(width, 16), "mix.bias": np.zeros(16, np.float32)}
    save(folder / "predictor.onnx", nodes, {"context": (1, 2, 16), **acted}, ("next", (1, 16)), constants, opset)
    text = SIGNATURE
    if robot:
        save(
            folder / "rollout.onnx",
            [
                helper.make_node("Reshape", ["context", "rows"], ["frames"], "frames"),
                helper.make_node("Gather", ["frames", "last"], ["now"], "now", axis=0),
                helper.make_node("MatMul", ["actions", "act"], ["pushed"], "act"),
                helper.make_node("Add", ["pushed", "now"], ["moved"], "move"),
                helper.make_node("MatMul", ["moved", "w"], ["product"], "mix"),
                helper.make_node("Sub", ["product", "goal"], ["away"], "away"),
                helper.make_node("ReduceSumSquare", ["away", "axis"], ["distance"], "sum", keepdims=0),
            ],
            {
                "context": (1, 2, 1, 16),
                "past_actions": (1, 1, 2),
                "actions": (CANDIDATES, HORIZON, 2),
                "goal": (1, 1, 16),
            },
            ("distance", (CANDIDATES, HORIZON)),
            {
                "rows": np.array([2, 16], np.int64),
                "last": np.array(1, np.int64),
                "act": linear(2, 16),
                "w": linear(16, 16),
                "axis": np.array([2], np.int64),
            },
            19,
        )
        plans = f"\n[plans]\ncandidates = {CANDIDATES}\nhorizon = {HORIZON}\n"
        text = f'rollout = "rollout.onnx"\n{ROBOT}\n{SIGNATURE}{plans}'
    (folder / "signature.toml").write_text(text)
    return folder / "signature.toml"
