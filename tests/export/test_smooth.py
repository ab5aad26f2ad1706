"""SmoothQuant: the same function in FP32 whatever is folded, and INT8 that outlier channels no longer ruin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from calibration.activations import measure_channels
from calibration.histogram import CalibrationError
from edge.bundle import load
from edge.cli import main
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import run
from export.quantize.linears import with_outputs
from export.quantize.pipeline import quantize
from export.quantize.smooth import ALPHA, Smoothed, factors, fold, foldable
from tests.export.sources.pair import write_pair, write_pictures

S, D = 6, 64
OUTLIERS = {3: 300.0, 17: -120.0, 40: 200.0, 63: 80.0}
"""Scales of a norm that are so much larger than their neighbours' that one step for all leaves those nothing."""
Constants = dict[str, np.ndarray]


def graph(nodes: Sequence[onnx.NodeProto], constants: Constants, width: int, outputs: dict[str, int]) -> onnx.ModelProto:
    """x (S, width) -> outputs (S, their width)."""

    def value(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, (S, size))

    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    made = helper.make_graph(nodes, "g", [value("x", width)], [value(n, s) for n, s in outputs.items()], stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def smooth(model: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]], alpha: float = ALPHA) -> Smoothed:
    """Look and fold, as the pipeline does."""
    norms = foldable(model)
    seen = measure_channels(with_outputs(model, norms).SerializeToString(), norms, feeds) if norms else {}
    return fold(model, seen, alpha=alpha)


def norm(x: str, y: str, *affine: str) -> onnx.NodeProto:
    return helper.make_node("LayerNormalization", [x, *affine], [y], f"norm_{y}")


def matmul(x: str, w: str, y: str) -> onnx.NodeProto:
    return helper.make_node("MatMul", [x, w], [y], f"linear_{y}")


def affine(rng: np.random.Generator, width: int) -> Constants:
    return {"scale": rng.normal(1.0, 0.2, width).astype(np.float32), "bias": rng.normal(0, 0.2, width).astype(np.float32)}


def weight(rng: np.random.Generator, k: int, n: int) -> np.ndarray:
    return (rng.normal(size=(k, n)) / np.sqrt(k)).astype(np.float32)


def batches(seed: int, count: int, width: int = D) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(S, width)).astype(np.float32)} for _ in range(count)]


def outputs(model: onnx.ModelProto | bytes, feeds: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    engine = OnnxRuntimeEngine(data, "a test")
    return np.stack([run(engine, feed) for feed in feeds])


def error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def block(planted: Mapping[int, float] = OUTLIERS) -> onnx.ModelProto:
    """A gated block: two Linears behind one norm, and one more. planted: by channel, how much larger the norm makes it, and
    by how much the weights shrink it again, so that FP32 loses nothing."""
    rng = np.random.default_rng(0)
    constants = affine(rng, D) | {"up": weight(rng, D, 2 * D), "gate": weight(rng, D, 2 * D), "down": weight(rng, 2 * D, D)}
    for channel, size in planted.items():
        constants["scale"][channel] *= size
        constants["bias"][channel] *= size
        constants["up"][channel] /= size
        constants["gate"][channel] /= size
    nodes = [
        norm("x", "normed", "scale", "bias"),
        matmul("normed", "up", "risen"),
        matmul("normed", "gate", "gates"),
        helper.make_node("Sigmoid", ["gates"], ["open"], "sigmoid"),
        helper.make_node("Mul", ["risen", "open"], ["gated"], "gating"),
        matmul("gated", "down", "y"),
    ]
    return graph(nodes, constants, D, {"y": D})


def test_int8_loses_10_times_less_with_smoothing():
    """The figures of docs/export.md: shown by pytest -s."""
    seen, fresh = batches(1, 16), batches(2, 16)

    def lost(model: onnx.ModelProto, original: onnx.ModelProto) -> float:
        return error(outputs(quantize(model, lambda: seen, made_from="a test").model, fresh), outputs(original, fresh))

    ruined, plain = block(), block({})
    smoothed = smooth(ruined, seen)
    assert smoothed.folded == ("norm_normed",) and smoothed.left == {}
    parity = error(outputs(smoothed.model, fresh), outputs(ruined, fresh))
    before, after, without_outliers = lost(ruined, ruined), lost(smoothed.model, ruined), lost(plain, plain)
    print(f"\nFP32 {parity:.1e}; INT8 {before:.4f}, smoothed {after:.4f}; never planted {without_outliers:.4f}")
    assert parity <= 1e-5
    assert before >= 10 * after and after <= 1.2 * without_outliers


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 40),
    widths=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["MatMul", "Gemm", "Gemm transposed"])), min_size=1, max_size=3),
    biased=st.booleans(),
    spread=st.floats(0.0, 4.0),
    dead=st.booleans(),
    alpha=st.floats(0.0, 1.0),
)
def test_folding_never_changes_the_function(seed, k, widths, biased, spread, dead, alpha):
    """spread: scales of the norm and rows of the weights reach from 10^-spread to 10^spread, each on its own."""
    rng = np.random.default_rng(seed)

    def gains() -> np.ndarray:
        return (10.0 ** rng.uniform(-spread, spread, k)).astype(np.float32)

    constants = affine(rng, k)
    constants["scale"] *= gains()
    constants["bias"] *= gains()
    if dead:
        constants["scale"][0] = constants["bias"][0] = 0.0
    nodes = [norm("x", "normed", "scale", *(["bias"] if biased else []))]
    for place, (n, kind) in enumerate(widths):
        name, y = f"w{place}", f"y{place}"
        constants[name] = weight(rng, k, n) * gains()[:, None]
        settings = {"transB": 1} if kind == "Gemm transposed" else {}
        if settings:
            constants[name] = np.ascontiguousarray(constants[name].T)
        nodes.append(helper.make_node(kind.split()[0], ["normed", name], [y], y, **settings))
    ys = [f"y{place}" for place in range(len(widths))]
    nodes.append(helper.make_node("Concat", ys, ["y"], "join", axis=1))
    model = graph(nodes, constants, k, {"y": sum(n for n, _ in widths)})
    feeds = batches(seed, 3, k)
    smoothed = smooth(model, feeds[:1], alpha=alpha)
    assert smoothed.folded == ("norm_normed",)
    exact = outputs(model, feeds)
    assert np.linalg.norm(outputs(smoothed.model, feeds) - exact) <= 1e-4 * np.linalg.norm(exact)


def modulated(planted: Mapping[int, float] = OUTLIERS, *, repeats: int = 1, behind_norm: bool = False) -> onnx.ModelProto:
    """A block as diffusion transformers have it, so often with the same weights: a condition made of x shifts and scales a norm
    without a scale of its own (one that is all 1), twice. planted: as for block, from the shift. behind_norm: of the condition."""
    rng = np.random.default_rng(0)
    constants = {"ones": np.ones(D, np.float32), "one": np.array(1.0, np.float32)}
    constants |= {"made": weight(rng, D, 4 * D), "made.bias": rng.normal(0, 0.3, 4 * D).astype(np.float32)}
    constants |= {"up": weight(rng, D, D), "down": weight(rng, D, D)}
    for channel, size in planted.items():
        for first, name in ((0, "up"), (2 * D, "down")):
            constants["made"][:, first + channel] *= size
            constants["made.bias"][first + channel] *= size
            constants[name][channel] /= size
    nodes, x = [], "x"
    for n in range(repeats):
        condition = f"condition{n}"
        if behind_norm:
            nodes.append(norm(x, condition, "ones"))
        else:
            nodes.append(helper.make_node("Sigmoid", [x], [condition], condition))
        nodes += [
            matmul(condition, "made", f"product{n}"),
            helper.make_node("Add", [f"product{n}", "made.bias"], [f"sum{n}"], f"sum{n}"),
            helper.make_node("Split", [f"sum{n}"], [f"{p}{n}" for p in ("h", "g", "k", "l")], f"split{n}", axis=1, num_outputs=4),
        ]
        for shift, scale, name in (("h", "g", "up"), ("k", "l", "down")):
            y = f"{name}{n}"
            nodes += [
                norm(x, f"n_{y}", "ones"),
                helper.make_node("Add", [f"{scale}{n}", "one"], [f"s_{y}"], f"s_{y}"),
                helper.make_node("Mul", [f"n_{y}", f"s_{y}"], [f"m_{y}"], f"m_{y}"),
                helper.make_node("Add", [f"m_{y}", f"{shift}{n}"], [f"a_{y}"], f"a_{y}"),
                matmul(f"a_{y}", name, y),
            ]
            x = y
    return graph(nodes, constants, D, {x: D})


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("behind_norm", [False, True])
def test_modulated_norms_are_folded_into_what_makes_their_shift(repeats, behind_norm):
    """Exactly, for one step and for steps that share weights; also where the condition comes from a norm that is folded too."""
    model = modulated(repeats=repeats, behind_norm=behind_norm)
    feeds = batches(1, 4)
    smoothed = smooth(model, feeds)
    assert len(smoothed.folded) == (3 if behind_norm else 2) * repeats and smoothed.left == {}
    assert error(outputs(smoothed.model, feeds), outputs(model, feeds)) < 2e-5
    before, after = (np.abs(constant(each, "made.bias")) for each in (model, smoothed.model))
    assert before[3] > 10 and after[3] < before[3] / 5  # the planted channel of the first shift


def test_int8_keeps_a_modulated_block_with_outliers():
    """The figures of docs/export.md: shown by pytest -s."""
    seen, fresh = batches(1, 16), batches(2, 16)

    def lost(model: onnx.ModelProto, original: onnx.ModelProto) -> float:
        return error(outputs(quantize(model, lambda: seen, made_from="a test").model, fresh), outputs(original, fresh))

    ruined, plain = modulated(), modulated({})
    without, with_it, never = lost(ruined, ruined), lost(smooth(ruined, seen).model, ruined), lost(plain, plain)
    print(f"modulated: {without:.1%} without, {with_it:.1%} with, {never:.1%} if there never were outliers")
    assert with_it < without / 5 and with_it < 2.0 * never


@pytest.mark.parametrize("part", ["predictor", "rollout"])
def test_every_norm_of_the_rovers_predictor_is_folded(exported, part):
    """Its blocks are modulated by the action; in the rollout all steps share them."""
    model = onnx.load(str(exported.bundle.folder / exported.bundle.graph(part).fp32))
    rng = np.random.default_rng(4)
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input}
    feeds = [{name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(2)]
    smoothed = smooth(model, feeds)
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert len(smoothed.folded) == len(norms) > 4 and smoothed.left == {}
    assert error(outputs(smoothed.model, feeds), outputs(model, feeds)) < 1e-5


def read_twice(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The shift is also read by something else."""
    return [*nodes, helper.make_node("Mul", ["h0", "down0"], ["y"], "elsewhere")]


def weights_elsewhere(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The weights that make the shift make something else too."""
    return [
        *nodes,
        matmul("x", "made", "other"),
        helper.make_node("Split", ["other"], ["o1", "o2", "o3", "o4"], "again", axis=1, num_outputs=4),
        helper.make_node("Add", ["o1", "down0"], ["y"], "both"),
    ]


@pytest.mark.parametrize(("more", "left"), [(read_twice, 1), (weights_elsewhere, 2)])
def test_a_shift_that_something_else_needs_is_left_alone(more, left):
    model = modulated()
    nodes = more(list(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "y"
    onnx.checker.check_model(model, full_check=True)
    feeds = batches(1, 4)
    smoothed = smooth(model, feeds)
    assert len(smoothed.left) == left and error(outputs(smoothed.model, feeds), outputs(model, feeds)) < 2e-5


def test_the_factors_are_those_of_the_paper_and_1_where_a_channel_is_dead():
    x, w = np.array([100.0, 0.0, 4.0, 9.0], np.float32), np.array([0.01, 1.0, 0.0, 1.0], np.float32)
    np.testing.assert_allclose(factors(x, w, 0.5), [100.0, 1.0, 1.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(factors(x, w, 1.0), [100.0, 1.0, 1.0, 9.0], rtol=1e-6)


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name.startswith(name))
    return numpy_helper.to_array(tensor)


def test_one_factor_counts_all_linears_behind_a_norm():
    """The weights that are larger decide, whichever of the two they are in: afterwards activation and weights have the same
    peaks, channel by channel, which is what alpha 0.5 is for."""
    model, seen = block(), batches(1, 8)
    folded = smooth(model, seen).model
    s = constant(model, "scale") / constant(folded, "scale")
    rows = np.maximum(*(np.abs(constant(folded, name)).max(axis=1) for name in ("up", "gate")))
    peaks = measure_channels(with_outputs(model, ["normed"]).SerializeToString(), ["normed"], seen)["normed"]
    np.testing.assert_allclose(peaks / s, rows, rtol=1e-4)


def test_steps_that_share_weights_get_one_factor():
    """As in an unrolled rollout. The second norm is 50 times larger and decides; both go through the same weight."""
    rng = np.random.default_rng(3)
    large = {"large": np.full(D, 50.0, np.float32), "aside": np.zeros(D, np.float32)}
    constants = affine(rng, D) | large | {"w": weight(rng, D, D)}
    nodes = [
        norm("x", "first", "scale", "bias"),
        matmul("first", "w", "between"),
        norm("between", "second", "large", "aside"),
        matmul("second", "w", "again"),
        norm("again", "third", "large", "aside"),
        matmul("third", "w", "y"),
    ]
    model = graph(nodes, constants, D, {"y": D})
    seen = batches(1, 4)
    smoothed = smooth(model, seen)
    assert smoothed.folded == ("norm_first", "norm_second", "norm_third") and smoothed.left == {}
    exact = outputs(model, batches(2, 4))
    assert error(outputs(smoothed.model, batches(2, 4)), exact) <= 1e-5
    names = ["first", "second", "third"]
    peaks = measure_channels(with_outputs(model, names).SerializeToString(), names, seen)
    largest = np.max(list(peaks.values()), axis=0)
    s = constant(model, "large") / constant(smoothed.model, "large")
    np.testing.assert_allclose(s, factors(largest, np.abs(constant(model, "w")).max(axis=1), 0.5), rtol=1e-4)


LEFT_ALONE = {
    "a residual reads it": (
        [norm("x", "n", "scale", "bias"), matmul("n", "w", "m"), helper.make_node("Add", ["n", "m"], ["y"], "add")],
        "is read by Add",
    ),
    "it is an output": ([norm("x", "n", "scale", "bias"), matmul("n", "w", "y")], "is an output of the graph"),
    "its scale is computed": (
        [helper.make_node("Abs", ["scale"], ["made"], "abs"), norm("x", "n", "made", "bias"), matmul("n", "w", "y")],
        "has no constant scale and bias",
    ),
    "its weight has another reader": (
        [norm("x", "n", "scale"), matmul("n", "w", "m"), matmul("m", "w", "y")],
        "shares a weight with another reader",
    ),
    "it is multiplied with itself": (
        [
            norm("x", "n", "scale"),
            helper.make_node("Transpose", ["n"], ["turned"], "turn", perm=[1, 0]),
            matmul("n", "turned", "m"),
            matmul("m", "short", "y"),
        ],
        "is read by",
    ),
    "it is the bias of a Gemm": (
        [norm("x", "n", "scale"), helper.make_node("Gemm", ["x", "w", "n"], ["y"], "gemm")],
        "is read by Gemm",
    ),
    "its weight is no float32": (
        [
            helper.make_node("Cast", ["x"], ["wide"], "widen", to=TensorProto.DOUBLE),
            norm("wide", "n", "scale64"),
            matmul("n", "w64", "m"),
            helper.make_node("Cast", ["m"], ["y"], "narrow", to=TensorProto.FLOAT),
        ],
        "feeds a weight that is no float32 matrix",
    ),
    "the Gemm turns it": (
        [
            norm("x", "n", "scale"),
            helper.make_node("Gemm", ["n", "short"], ["turned"], "gemm", transA=1),
            matmul("x", "w", "y"),
        ],
        "is read by Gemm",
    ),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_cannot_be_folded_is_left_alone_and_said(case):
    nodes, reason = LEFT_ALONE[case]
    rng = np.random.default_rng(0)
    constants = affine(rng, D) | {"w": weight(rng, D, D), "short": weight(rng, S, D)}
    constants |= {f"{name}64": constants[name].astype(np.float64) for name in ("scale", "w")}
    model = graph(nodes, constants, D, {"y": D} | ({"n": D} if case == "it is an output" else {}))
    before = {t.name: t.SerializeToString() for t in model.graph.initializer}

    def untouched():
        raise AssertionError("nothing to fold, yet calibration data was read")
        yield {}

    smoothed = smooth(model, untouched())
    assert smoothed.folded == () and list(smoothed.left) == ["norm_n"] and reason in smoothed.left["norm_n"]
    assert "0 norms folded, 1 left alone" in smoothed.sentence
    assert smoothed.model.graph.node == model.graph.node
    assert all(before[t.name] == t.SerializeToString() for t in smoothed.model.graph.initializer)


def test_a_norm_elsewhere_keeps_the_scale_that_it_shared():
    """Exporters store equal scales once: the norm that is left alone must not get the divided ones."""
    rng = np.random.default_rng(0)
    constants = affine(rng, D) | {"w": weight(rng, D, D)}
    nodes = [
        norm("x", "a", "scale", "bias"),
        helper.make_node("Add", ["x", "a"], ["b"], "add"),
        norm("b", "n", "scale", "bias"),
        matmul("n", "w", "y"),
    ]
    model = graph(nodes, constants, D, {"y": D})
    smoothed = smooth(model, batches(1, 4))
    assert smoothed.folded == ("norm_n",) and smoothed.left == {"norm_a": "is read by Add"}
    assert error(outputs(smoothed.model, batches(2, 4)), outputs(model, batches(2, 4))) <= 1e-5


@pytest.mark.parametrize("feeds", [[], [{"x": np.full((S, D), np.nan, np.float32)}]], ids=["none", "nan"])
def test_bad_calibration_data_is_refused(feeds):
    with pytest.raises(CalibrationError, match=r"no calibration data|not a finite number"):
        smooth(block(), feeds)


def test_the_command_smooths_unless_told_not_to(tmp_path, capsys):
    """An encoder that INT8 ruins by one channel of a norm needs no layer in float smoothed, and one without."""
    path = write_pair(tmp_path, outlier=3000.0, norm=True)
    frames = write_pictures(tmp_path / "frames", 80, (32, 48))
    asked = ["onnx", str(path), "--frames", str(frames), "--out", str(tmp_path / "bundle")]
    assert main(["export", *asked, "--no-smooth"]) == 0
    report = load(tmp_path / "bundle").manifest.int8
    assert list(report["kept_in_float"]) == ["encoder"] and report["linears_quantized"]["encoder"] == 1
    assert main(["export", *asked]) == 0
    assert "smoothing the encoder: 1 norms folded" in capsys.readouterr().err
    report = load(tmp_path / "bundle").manifest.int8
    assert report["norms_folded"] == {"encoder": 1, "predictor": 0}
    assert "kept_in_float" not in report and report["linears_quantized"]["encoder"] == 2
