"""Every rule against a graph that breaks it and a graph that nearly does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.lint.network import label
from export.lint.rules import RULES, lint
from export.lint.target import JETPACK6, JETPACK7, TARGETS, Target
from tests.export.lint.graphs import K, M, N, Shape, graph, linear, op

BOTH = tuple(TARGETS.values())
F16, F32, I8, U8 = np.float16, np.float32, np.int8, np.uint8
TINY: dict[str, Shape] = {"x": (M, K)}
SAME: dict[str, Shape] = {"y": (M, K)}


class Case(NamedTuple):
    """bad breaks the rule at node; good breaks no rule. also: rules that bad must break with it. on: where it applies."""

    rule: str
    node: str
    bad: onnx.ModelProto
    good: onnx.ModelProto
    also: frozenset[str] = frozenset()
    on: Sequence[Target] = BOTH


def one(kind: str, inputs: str, outputs: str = "y", **settings: Any) -> onnx.ModelProto:
    """A graph of one operator on x (M, K)."""
    return graph([op(kind, inputs, outputs, **settings)], TINY, dict.fromkeys(outputs.split(), (M, K)))


def after(*nodes: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    """The quantized Linear, and ``nodes`` from sum (M, N) to y (M, N)."""
    model = linear(tail=nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return model


def pair(x: str, y: str) -> list[onnx.NodeProto]:
    """Quantize x and dequantize it to y, with the scale of the Linear's input."""
    return [op("QuantizeLinear", f"{x} scale zero", f"{y}_q"), op("DequantizeLinear", f"{y}_q scale zero", y)]


def attention(body: int, shape: Shape = (1, 2, 16, 64), **settings: Any) -> onnx.ModelProto:
    """The fused operator, of opset 23."""
    shapes: dict[str, Shape] = dict.fromkeys(("q", "k", "v"), shape)
    types = dict.fromkeys("qkvy", body)
    return graph([op("Attention", "q k v", "y", **settings)], shapes, {"y": shape}, opset=23, types=types)


def written_out_attention(*, quantized: bool) -> onnx.ModelProto:
    """Softmax(q k) v, its first product in eight bits or in float."""
    first = [*pair("q", "qd"), *pair("k", "kd"), op("MatMul", "qd kd", "scores")]
    rest = [op("Softmax", "scores", "weights"), op("MatMul", "weights v", "y")]
    return graph(
        [*(first if quantized else [op("MatMul", "q k", "scores")]), *rest],
        {"q": (16, 64), "k": (64, 16), "v": (16, 64)},
        {"y": (16, 64)},
        {"scale": F32(0.1), "zero": I8(0)} if quantized else {},
    )


def weighted(kind: str, weight: Shape, axis: int, x: Shape, y: Shape, **settings: Any) -> onnx.ModelProto:
    """A Gemm or a convolution, its weight quantized along an axis."""
    constants = {
        "w": np.ones([int(size) for size in weight], I8),
        "s": np.full(int(weight[axis]), 0.01, F32),
        "z": np.zeros(int(weight[axis]), I8),
        "scale": F32(0.1),
        "zero": I8(0),
    }
    nodes = [*pair("x", "xd"), op("DequantizeLinear", "w s z", "wd", axis=axis), op(kind, "xd wd", "y", **settings)]
    return graph(nodes, {"x": x}, {"y": y}, constants)


def gemm(*, biased: bool) -> onnx.ModelProto:
    """A quantized Gemm, with or without the int32 bias that onnxruntime's quantizer writes."""
    model = weighted("Gemm", (K, N), 1, (M, K), (M, N))
    if biased:
        bias = {"b": np.ones(N, np.int32), "bs": np.full(N, 0.001, F32), "bz": np.zeros(N, np.int32)}
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in bias.items())
        model.graph.node.insert(0, op("DequantizeLinear", "b bs bz", "bd", axis=0))
        model.graph.node[-1].input.append("bd")
    return model


def resize(**settings: Any) -> onnx.ModelProto:
    sizes = {"sizes": np.array([1, 3, 4, 4])}
    nodes = [op("Resize", "x - - sizes", "y", mode="linear", **settings)]
    return graph(nodes, {"x": (1, 3, 8, 8)}, {"y": (1, 3, 4, 4)}, sizes)


def squares(body: int) -> onnx.ModelProto:
    """Mean of squares, as a norm written out begins."""
    nodes = [op("Mul", "x x", "squares"), op("ReduceMean", "squares axes", "y")]
    return graph(nodes, TINY, {"y": (M, 1)}, {"axes": np.array([-1])}, types={"x": body, "y": body})


def computed_zero_point() -> onnx.ModelProto:
    nodes = [op("QuantizeLinear", "x scale z", "q"), op("DequantizeLinear", "q scale zero", "y")]
    return graph(nodes, {**TINY, "z": ()}, SAME, {"scale": F32(0.1), "zero": I8(0)}, types={"z": TensorProto.INT8})


def float8() -> onnx.ModelProto:
    """Quantized to the eight-bit float that Thor has and Orin has not."""
    nodes = [op("QuantizeLinear", "x scale z", "q"), op("DequantizeLinear", "q scale z", "y")]
    model = graph(nodes, TINY, SAME, {"scale": F32(0.1)})
    model.graph.initializer.append(helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    return model


def outside() -> onnx.ModelProto:
    model = linear()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    return model


def without_axis(*, scales: int) -> onnx.ModelProto:
    return (
        linear(axis=None, weight_scale=np.full(scales, 0.01, F32))
        if scales > 1
        else linear(axis=None, weight_scale=F32(0.01))
    )


def also(*names: str) -> frozenset[str]:
    return frozenset(names)


ROW: Mapping[str, Any] = {"s": F32(0.1), "z": I8(0)}
DEAD = np.concatenate([np.zeros(2, F32), np.full(N - 2, 0.01, F32)])
ROWS: Mapping[str, Any] = {"rows": np.arange(M)}
ZEROS_K = np.zeros(K, I8)

CASES = (
    Case(
        "invalid",
        "(graph)",
        graph([op("Add", "x x", "y")], TINY, {"y": (M, K + 1)}),
        graph([op("Add", "x x", "y")], TINY, SAME),
    ),
    Case("opset", "(graph)", linear(opset=25), linear(opset=20)),
    Case("opset", "(graph)", linear(opset=21), linear(opset=20), on=[JETPACK6]),
    Case(
        "opset",
        "(graph)",
        graph([op("Relu", "x", "y")], TINY, SAME, opset=8),
        graph([op("Relu", "x", "y")], TINY, SAME, opset=9),
    ),
    Case(
        "fp16-scale-opset",
        "QuantizeLinear:xq",
        linear(body=F16, scale=F16(0.05), opset=17),
        linear(body=F16, scale=F16(0.05), opset=19),
        also("invalid"),
    ),
    Case(
        "unknown-operator",
        "DynamicQuantizeLinear:q",
        graph([op("DynamicQuantizeLinear", "x", "q s z"), op("DequantizeLinear", "q s z", "y")], TINY, SAME),
        graph([op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "q s z", "y")], TINY, SAME, ROW),
        also("zero-point-computed", "zero-point-uint8", "scale-computed"),
    ),
    Case(
        "unknown-operator",
        "Attention:y",
        attention(TensorProto.FLOAT16),
        one("Softmax", "x"),
        also("opset"),
        [JETPACK6],
    ),
    Case("unknown-operator", "Bernoulli:y", one("Bernoulli", "x"), one("Relu", "x")),
    Case(
        "foreign-operator",
        "fused",
        graph(
            [helper.make_node("FusedMatMul", ["x", "w"], ["y"], "fused", domain="com.microsoft")],
            TINY,
            {"y": (M, N)},
            {"w": np.ones((K, N), F32)},
            opsets={"com.microsoft": 1},
        ),
        graph([op("MatMul", "x w", "y")], TINY, {"y": (M, N)}, {"w": np.ones((K, N), F32)}),
    ),
    Case("operator-option", "Resize:y", resize(antialias=1), resize()),
    Case(
        "computed-axes",
        "ReduceMean:y",
        graph(
            [op("ReduceMean", "x axes", "y")], {**TINY, "axes": (1,)}, {"y": (M, 1)}, types={"axes": TensorProto.INT64}
        ),
        graph([op("ReduceMean", "x axes", "y")], TINY, {"y": (M, 1)}, {"axes": np.array([-1])}),
    ),
    Case(
        "attention-float32", "Attention:y", attention(TensorProto.FLOAT), attention(TensorProto.FLOAT16), on=[JETPACK7]
    ),
    Case(
        "dynamic-shape",
        "x",
        graph([op("Relu", "x", "y")], {"x": ("batch", K)}, {"y": ("batch", K)}),
        graph([op("Relu", "x", "y")], TINY, SAME),
    ),
    Case(
        "data-dependent-shape",
        "NonZero:y",
        graph([op("NonZero", "x", "y")], TINY, {"y": (2, "found")}, types={"y": TensorProto.INT64}),
        graph(
            [op("NonZero", "c", "i"), op("Cast", "i", "f", to=TensorProto.FLOAT), op("Mul", "x f", "y")],
            {"x": (1, 1)},
            {"y": (1, 3)},
            {"c": np.ones(3, F32)},
        ),
    ),
    Case("external-data", "bias", outside(), linear()),
    Case(
        "unknown-type",
        "x",
        graph([op("Cast", "x", "y", to=TensorProto.FLOAT)], TINY, SAME, types={"x": TensorProto.INT16}),
        graph([op("Cast", "x", "y", to=TensorProto.FLOAT)], TINY, SAME, types={"x": TensorProto.INT32}),
    ),
    Case(
        "double",
        "Cast:d",
        graph([op("Cast", "x", "d", to=TensorProto.DOUBLE), op("Cast", "d", "y", to=TensorProto.FLOAT)], TINY, SAME),
        graph([op("Cast", "x", "d", to=TensorProto.FLOAT16), op("Cast", "d", "y", to=TensorProto.FLOAT)], TINY, SAME),
    ),
    Case(
        "uint8-inside",
        "Transpose:t",
        graph(
            [op("Transpose", "x", "t"), op("Cast", "t", "y", to=TensorProto.FLOAT)],
            TINY,
            {"y": (K, M)},
            types={"x": TensorProto.UINT8},
        ),
        graph(
            [op("Cast", "x", "t", to=TensorProto.FLOAT), op("Transpose", "t", "y")],
            TINY,
            {"y": (K, M)},
            types={"x": TensorProto.UINT8},
        ),
    ),
    Case(
        "uint8-inside",
        "Cast:t",
        graph([op("Cast", "x", "t", to=TensorProto.UINT8), op("Cast", "t", "y", to=TensorProto.FLOAT)], TINY, SAME),
        graph([op("Cast", "x", "y", to=TensorProto.UINT8)], TINY, SAME, types={"y": TensorProto.UINT8}),
    ),
    Case("zero-point-missing", "QuantizeLinear:xq", linear(zero=None), linear()),
    Case("zero-point-uint8", "QuantizeLinear:xq", linear(zero=np.array(0, U8)), linear()),
    Case("zero-point-uint8", "DequantizeLinear:xd", linear(zero=np.array(128, U8)), linear()),
    Case("zero-point-not-zero", "QuantizeLinear:xq", linear(zero=np.array(3, I8)), linear()),
    Case("zero-point-not-zero", "DequantizeLinear:wd", linear(weight_zero=np.eye(1, N, 7, dtype=I8)[0]), linear()),
    Case(
        "zero-point-computed",
        "QuantizeLinear:q",
        computed_zero_point(),
        graph([op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "q s z", "y")], TINY, SAME, ROW),
    ),
    Case("zero-point-size", "DequantizeLinear:wd", linear(weight_zero=np.zeros(1, I8)), linear()),
    Case(
        "scale-not-positive",
        "DequantizeLinear:wd",
        linear(weight_scale=DEAD),
        linear(weight_scale=np.maximum(DEAD, 2**-14)),
    ),
    Case("scale-not-positive", "QuantizeLinear:xq", linear(scale=F32(-0.05)), linear(scale=F32(0.05))),
    Case("scale-not-positive", "QuantizeLinear:xq", linear(scale=F32("nan")), linear(scale=F32(2**-20))),
    Case("scale-infinite", "QuantizeLinear:xq", linear(scale=F32("inf")), linear(scale=F32(1e30))),
    Case(
        "scale-denormal",
        "QuantizeLinear:xq",
        linear(body=F16, scale=F16(1e-6)),
        linear(body=F16, scale=F16(2**-14)),
    ),
    Case(
        "scale-computed",
        "QuantizeLinear:q",
        graph(
            [
                op("ReduceMax", "x", "s", keepdims=0),
                op("QuantizeLinear", "x s z", "q"),
                op("DequantizeLinear", "q s z", "y"),
            ],
            TINY,
            SAME,
            {"z": I8(0)},
        ),
        graph([op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "q s z", "y")], TINY, SAME, ROW),
    ),
    Case("scale-type", "QuantizeLinear:xq", linear(body=F16), linear(body=F16, scale=F16(0.05)), also("invalid")),
    Case("scale-type", "DequantizeLinear:xd", linear(body=F16, opset=20), linear(opset=20), also("invalid")),
    Case("int32-bias", "DequantizeLinear:bd", gemm(biased=True), gemm(biased=False)),
    Case("weight-uint8", "DequantizeLinear:wd", linear(weight=np.ones((K, N), U8)), linear()),
    Case(
        "quantized-type",
        "DequantizeLinear:wd",
        linear(weight=np.ones((K, N), np.int16), opset=21),
        linear(opset=21),
        on=[JETPACK7],
    ),
    Case("quantized-type", "QuantizeLinear:q", float8(), linear(), on=[JETPACK6]),
    Case(
        "int8-constant",
        "Transpose:wt",
        graph(
            [
                *pair("x", "xd"),
                op("Transpose", "w", "wt"),
                op("DequantizeLinear", "wt scale zero", "wd"),
                op("MatMul", "xd wd", "y"),
            ],
            TINY,
            {"y": (M, N)},
            {"w": np.ones((N, K), I8), "scale": F32(0.1), "zero": I8(0)},
        ),
        graph(
            [
                *pair("x", "xd"),
                op("DequantizeLinear", "w scale zero", "wd"),
                op("Transpose", "wd", "wt"),
                op("MatMul", "xd wt", "y"),
            ],
            TINY,
            {"y": (M, N)},
            {"w": np.ones((N, K), I8), "scale": F32(0.1), "zero": I8(0)},
        ),
    ),
    Case(
        "quantized-scalar",
        "DequantizeLinear:half",
        after(op("DequantizeLinear", "c scale zero", "half"), op("Mul", "sum half", "y"), c=I8(10)),
        after(op("DequantizeLinear", "c scale zero", "half"), op("Mul", "sum half", "y"), c=np.full(1, 10, I8)),
    ),
    Case(
        "int8-arithmetic",
        "Cast:y",
        after(op("QuantizeLinear", "sum scale zero", "q"), op("Cast", "q", "y", to=TensorProto.FLOAT)),
        after(
            op("QuantizeLinear", "sum scale zero", "q"),
            op("Reshape", "q flat", "r"),
            op("DequantizeLinear", "r scale zero", "d"),
            op("Reshape", "d square", "y"),
            flat=np.array([M * N]),
            square=np.array([M, N]),
        ),
    ),
    Case(
        "int8-arithmetic",
        "QuantizeLinear:y",
        graph([op("QuantizeLinear", "x s z", "y")], TINY, SAME, ROW, types={"y": TensorProto.INT8}),
        graph([op("DequantizeLinear", "x s z", "y")], TINY, SAME, ROW, types={"x": TensorProto.INT8}),
    ),
    Case(
        "activation-per-channel",
        "QuantizeLinear:xq",
        linear(scale=np.full(K, 0.05, F32), zero=ZEROS_K),
        linear(scale=np.full(1, 0.05, F32), zero=ZEROS_K[:1]),
    ),
    Case("weight-axis", "DequantizeLinear:wd", linear(axis=0), linear(axis=1)),
    Case("weight-axis", "DequantizeLinear:wd", linear(axis=0), linear(axis=-1)),
    Case(
        "weight-axis",
        "DequantizeLinear:wd",
        weighted("Gemm", (N, K), 1, (M, K), (M, N), transB=1),
        weighted("Gemm", (N, K), 0, (M, K), (M, N), transB=1),
    ),
    Case(
        "weight-axis",
        "DequantizeLinear:wd",
        weighted("Conv", (16, 8, 3, 3), 1, (1, 8, 9, 9), (1, 16, 7, 7)),
        weighted("Conv", (16, 8, 3, 3), 0, (1, 8, 9, 9), (1, 16, 7, 7)),
    ),
    Case(
        "weight-axis",
        "DequantizeLinear:wd",
        weighted("ConvTranspose", (8, 16, 3, 3), 0, (1, 8, 9, 9), (1, 16, 11, 11)),
        weighted("ConvTranspose", (8, 16, 3, 3), 1, (1, 8, 9, 9), (1, 16, 11, 11)),
    ),
    Case("weight-axis-implicit", "DequantizeLinear:wd", without_axis(scales=N), without_axis(scales=1), on=[JETPACK6]),
    Case(
        "quantized-sum",
        "Add:y",
        after(*pair("sum", "a"), op("Sin", "sum", "s"), *pair("s", "b"), op("Add", "a b", "y")),
        after(op("Sin", "sum", "s"), op("Add", "sum s", "y")),
    ),
    Case(
        "quantized-attention",
        "MatMul:scores",
        written_out_attention(quantized=True),
        written_out_attention(quantized=False),
    ),
    Case(
        "quantized-elsewhere",
        "LayerNormalization:y",
        after(*pair("sum", "s"), op("LayerNormalization", "s gain", "y"), gain=np.ones(N, F32)),
        after(op("LayerNormalization", "sum gain", "y"), gain=np.ones(N, F32)),
    ),
    Case(
        "half-quantized",
        "MatMul:y",
        graph(
            [op("DequantizeLinear", "w s z", "wd"), op("MatMul", "x wd", "y")],
            TINY,
            {"y": (M, N)},
            {"w": np.ones((K, N), I8), **ROW},
        ),
        linear(),
    ),
    Case(
        "half-quantized",
        "MatMul:y",
        graph(
            [*pair("x", "xd"), op("MatMul", "xd w", "y")],
            TINY,
            {"y": (M, N)},
            {"w": np.ones((K, N), F32), "scale": F32(0.1), "zero": I8(0)},
        ),
        linear(),
    ),
    Case("tiny-quantized", "MatMul:product", linear(weight=np.ones((8, N), I8)), linear(weight=np.ones((16, N), I8))),
    Case("tiny-quantized", "MatMul:product", linear(weight=np.ones((K, 15), I8)), linear(weight=np.ones((K, 16), I8))),
    Case(
        "repeated-quantize",
        "QuantizeLinear:b_q",
        after(
            *pair("sum", "a"),
            *pair("sum", "b"),
            op("Concat", "a b", "ab", axis=0),
            op("Gather", "ab rows", "y"),
            **ROWS,
        ),
        after(*pair("sum", "a"), op("Concat", "a a", "aa", axis=0), op("Gather", "aa rows", "y"), **ROWS),
    ),
    Case("fp16-mean-square", "ReduceMean:y", squares(TensorProto.FLOAT16), squares(TensorProto.FLOAT)),
)


EACH = [pytest.param(case, target, id=f"{case.rule}-{case.node}-{target.name}") for case in CASES for target in case.on]


@pytest.mark.parametrize(("case", "target"), EACH)
def test_a_graph_that_breaks_the_rule_is_found_and_one_that_nearly_does_is_clean(case: Case, target: Target) -> None:
    found = lint(case.bad, target)
    assert {finding.rule for finding in found} == {case.rule} | case.also
    assert case.node in {finding.node for finding in found if finding.rule == case.rule}
    assert lint(case.good, target) == []


def test_thor_has_float8() -> None:
    assert lint(float8(), JETPACK7) == []


def test_every_rule_has_a_graph() -> None:
    assert {case.rule for case in CASES} == {rule.name for rule in RULES}


def test_names_are_unique() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(("case", "target"), EACH)
def test_every_finding_is_one_line_that_says_what_and_what_to_do(case: Case, target: Target) -> None:
    for finding in lint(case.bad, target):
        said = str(finding)
        assert said.count("\n") == 0 and len(said) < 400
        assert all((finding.node, finding.reason, finding.fix)) and not said.endswith(".")


def test_the_model_is_left_as_it_is() -> None:
    for case in CASES:
        before = case.bad.SerializeToString(deterministic=True)
        lint(case.bad, JETPACK6)
        assert case.bad.SerializeToString(deterministic=True) == before


def test_a_nameless_node_is_known_by_what_it_makes() -> None:
    assert label(helper.make_node("Relu", ["x"], ["y"])) == "Relu making 'y'"
