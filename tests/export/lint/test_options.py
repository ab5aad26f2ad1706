"""Every limit of an operator's settings, from both sides."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.lint.options import LARGEST_K, LIMITS
from export.lint.rules import lint
from export.lint.target import JETPACK6, JETPACK7
from tests.export.lint.graphs import Shape, graph, op

I64 = TensorProto.INT64
IMAGE: dict[str, Shape] = {"x": (1, 3, 8, 8)}
Models = tuple[onnx.ModelProto, onnx.ModelProto]


class Case(NamedTuple):
    reason: str
    bad: onnx.ModelProto
    good: onnx.ModelProto


def resize(**settings: Any) -> onnx.ModelProto:
    sizes = {"sizes": np.array([1, 3, 4, 4])}
    return graph([op("Resize", "x - - sizes", "y", mode="linear", **settings)], IMAGE, {"y": (1, 3, 4, 4)}, sizes)


def pool(kind: str, y: Shape, outputs: str = "y", **settings: Any) -> onnx.ModelProto:
    shapes: dict[str, Shape] = dict.fromkeys(outputs.split(), y)
    return graph([op(kind, "x", outputs, kernel_shape=[2, 2], **settings)], IMAGE, shapes, types={"i": I64})


def norm(outputs: str) -> onnx.ModelProto:
    shapes: dict[str, Shape] = {"y": (4, 8), "mean": (4, 1)}
    nodes = [op("LayerNormalization", "x gain", outputs)]
    return graph(
        nodes, {"x": (4, 8)}, {name: shapes[name] for name in outputs.split()}, {"gain": np.ones(8, np.float32)}
    )


def scatter(kind: str, updates: Shape, indices: Any, **settings: Any) -> onnx.ModelProto:
    shapes: dict[str, Shape] = {"x": (4, 8), "u": updates}
    return graph([op(kind, "x i u", "y", **settings)], shapes, {"y": (4, 8)}, {"i": np.asarray(indices)})


def cut(**bounds: list[int]) -> onnx.ModelProto:
    constants = {name: np.array(value) for name, value in bounds.items()}
    nodes = [op("Slice", " ".join(["x", *bounds]), "y")]
    return graph(nodes, {"x": (4, 8)}, {"y": (2, 8)}, constants)


def top(k: int, **settings: Any) -> onnx.ModelProto:
    shapes: dict[str, Shape] = {"y": (1, k), "i": (1, k)}
    return graph(
        [op("TopK", "x k", "y i", **settings)], {"x": (1, 5000)}, shapes, {"k": np.array([k])}, types={"i": I64}
    )


def batch_norm(**settings: Any) -> onnx.ModelProto:
    statistics = {name: np.ones(3, np.float32) for name in ("scale", "bias", "mean", "variance")}
    outputs = "y m v" if settings.get("training_mode") else "y"
    nodes = [op("BatchNormalization", "x scale bias mean variance", outputs, **settings)]
    return graph(nodes, IMAGE, {"y": (1, 3, 8, 8)}, statistics)


def sample(*space: int) -> onnx.ModelProto:
    shapes: dict[str, Shape] = {"x": (1, 3, *space), "grid": (1, *space, len(space))}
    return graph([op("GridSample", "x grid", "y", mode="bilinear")], shapes, {"y": (1, 3, *space)})


def recurrent(kind: str, **settings: Any) -> onnx.ModelProto:
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if settings.get("direction") else 1
    weights = {"w": np.ones((ways, gates * 4, 8), np.float32), "r": np.ones((ways, gates * 4, 4), np.float32)}
    y: Shape = (2, 5, ways, 4) if settings.get("layout") else (5, ways, 2, 4)
    x: Shape = (2, 5, 8) if settings.get("layout") else (5, 2, 8)
    return graph([op(kind, "x w r", "y", hidden_size=4, **settings)], {"x": x}, {"y": y}, weights)


def attention(inputs: str = "q k v", shape: Shape = (1, 2, 16, 64), **settings: Any) -> onnx.ModelProto:
    shapes: dict[str, Shape] = {name: shape for name in inputs.split() if name != "-"}
    outputs = "y pk pv" if "past" in inputs else "y"
    grown: Shape = (1, 2, 32, 64)
    types = dict.fromkeys([*shapes, "y", "pk", "pv"], TensorProto.FLOAT16)
    results: dict[str, Shape] = {"y": shape, "pk": grown, "pv": grown}
    made = {name: results[name] for name in outputs.split()}
    return graph([op("Attention", inputs, outputs, **settings)], shapes, made, opset=23, types=types)


TWO_WAYS = {"direction": "bidirectional"}
ATTENTION = "Attention"

CASES = (
    Case("antialias", resize(antialias=1), resize(antialias=0)),
    Case("aspect ratio", resize(keep_aspect_ratio_policy="not_larger"), resize(keep_aspect_ratio_policy="stretch")),
    Case(
        "coordinates",
        resize(coordinate_transformation_mode="half_pixel_symmetric"),
        resize(coordinate_transformation_mode="pytorch_half_pixel"),
    ),
    Case("indices", pool("MaxPool", (1, 3, 7, 7), "y i"), pool("MaxPool", (1, 3, 7, 7))),
    Case("dilations", pool("MaxPool", (1, 3, 6, 6), dilations=[2, 2]), pool("MaxPool", (1, 3, 7, 7), dilations=[1, 1])),
    Case("dilations", pool("AveragePool", (1, 3, 6, 6), dilations=[2, 2]), pool("AveragePool", (1, 3, 7, 7))),
    Case("mean or deviation", norm("y mean"), norm("y")),
    Case(
        "reduction", scatter("ScatterND", (2, 8), [[0], [1]], reduction="add"), scatter("ScatterND", (2, 8), [[0], [1]])
    ),
    Case(
        "reduction",
        scatter("ScatterElements", (1, 8), np.zeros((1, 8), np.int64), reduction="max"),
        scatter("ScatterElements", (1, 8), np.zeros((1, 8), np.int64), reduction="none"),
    ),
    Case("names no axes", cut(starts=[0], ends=[2]), cut(starts=[0], ends=[2], axes=[0])),
    Case("names no axes", cut(starts=[0], ends=[2]), cut(starts=[0, 0], ends=[2, 8])),
    Case("does not sort", top(3, sorted=0), top(3, sorted=1)),
    Case(f"above {LARGEST_K}", top(LARGEST_K + 1), top(LARGEST_K)),
    Case("training", batch_norm(training_mode=1), batch_norm()),
    Case("(N, C, H, W)", sample(4, 4, 4), sample(4, 4)),
    Case("coupled gates", recurrent("LSTM", input_forget=1), recurrent("LSTM", input_forget=0)),
    Case("batch first", recurrent("LSTM", layout=1), recurrent("LSTM", layout=0)),
    Case(
        "two directions differ",
        recurrent("RNN", **TWO_WAYS, activations=["Tanh", "Relu"]),
        recurrent("RNN", **TWO_WAYS, activations=["Relu", "Relu"]),
    ),
    Case("(N, heads, S, D)", attention(shape=(1, 16, 128), q_num_heads=2, kv_num_heads=2), attention()),
    Case("cache", attention("q k v - past_k past_v"), attention()),
    Case("softcap", attention(softcap=30.0), attention(softcap=0.0)),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason)
def test_a_setting_beyond_the_limit_is_found_and_one_within_is_clean(case: Case) -> None:
    fused = any(node.op_type == ATTENTION for node in case.bad.graph.node)
    target = JETPACK7 if fused else JETPACK6
    found = [finding for finding in lint(case.bad, target) if finding.rule == "operator-option"]
    assert len(found) == 1 and case.reason in found[0].reason
    assert lint(case.good, target) == []


def test_every_limit_has_a_graph() -> None:
    found = {finding.reason.rpartition(",")[0] for case in CASES for finding in lint(case.bad, JETPACK7)}
    assert {limit.reason for limit in LIMITS} - found == set()
