"""What rules are told about a model: subgraphs, functions, constants that are computed, and models that are broken."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.lint.network import Network
from export.lint.outline import LARGE
from export.lint.rules import lint
from export.lint.target import JETPACK6, TARGETS
from tests.export.lint.graphs import K, M, graph, linear, op
from tests.export.lint.test_rules import CASES


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, (M, K))]
    return helper.make_graph(list(nodes), "branch", [], outputs)


def test_nodes_of_subgraphs_are_seen() -> None:
    choose = op("If", "c", "y", then_branch=branch(op("Bernoulli", "x", "a")), else_branch=branch(op("Relu", "x", "b")))
    model = graph([choose], {"x": (M, K), "c": ()}, {"y": (M, K)}, types={"c": TensorProto.BOOL})
    assert [(found.rule, found.node) for found in lint(model, JETPACK6)] == [("unknown-operator", "Bernoulli:a")]


def test_nodes_of_functions_are_seen_and_their_names_are_no_operators() -> None:
    model = graph(
        [helper.make_node("Mine", ["x"], ["y"], "mine", domain="own")], {"x": (M, K)}, {"y": (M, K)}, opsets={"own": 1}
    )
    standard = [helper.make_opsetid("", 19)]
    model.functions.append(helper.make_function("own", "Mine", ["a"], ["b"], [op("Relu", "a", "b")], standard))
    assert lint(model, JETPACK6) == []
    del model.functions[:]
    model.functions.append(helper.make_function("own", "Mine", ["a"], ["b"], [op("Bernoulli", "a", "b")], standard))
    assert [found.rule for found in lint(model, JETPACK6)] == ["unknown-operator"]


@pytest.mark.parametrize(
    "setting", [{"value_ints": [-1]}, {"value": helper.make_tensor("v", TensorProto.INT64, [1], [-1])}]
)
def test_axes_may_come_from_a_constant_node(setting: dict[str, Any]) -> None:
    nodes = [op("Identity", "c", "axes"), op("ReduceMean", "x axes", "y")]
    model = graph([helper.make_node("Constant", [], ["c"], **setting), *nodes], {"x": (M, K)}, {"y": (M, 1)})
    assert lint(model, JETPACK6) == []
    value = Network(model).value("axes")
    assert value is not None and value.tolist() == [-1]


def test_axes_may_be_computed_from_constants_but_not_from_inputs() -> None:
    nodes = [op("Add", "c c", "axes"), op("ReduceMean", "x axes", "y")]
    model = graph(nodes, {"x": (M, K)}, {"y": (1, K)}, {"c": np.array([0])})
    assert lint(model, JETPACK6) == []
    nodes = [op("Shape", "x", "s", start=0, end=1), op("Sub", "s s", "axes"), op("ReduceMean", "x axes", "y")]
    assert [found.rule for found in lint(graph(nodes, {"x": (M, K)}, {"y": (1, K)}), JETPACK6)] == ["computed-axes"]


def test_zero_points_behind_an_identity_are_read() -> None:
    model = linear(zero=np.array(3, np.int8))
    model.graph.node.insert(0, op("Identity", "zero", "same"))
    for node in model.graph.node[1:3]:
        node.input[2] = "same"
    assert {found.rule for found in lint(model, JETPACK6)} == {"zero-point-not-zero"}


def test_weights_are_left_out_of_what_onnx_checks_and_still_looked_at() -> None:
    wide = 1 + LARGE // K
    dead = np.zeros(wide * K, np.float32)
    nodes = [
        op("DequantizeLinear", "w s z", "wd", axis=0),
        op("Cast", "wd", "wc", to=1),
        op("Reshape", "wc shape", "wr"),
    ]
    constants = {"w": np.ones(wide * K, np.int8), "s": dead, "z": dead.astype(np.int8), "shape": np.array([K, wide])}
    model = graph([*nodes, op("MatMul", "x wr", "y")], {"x": (M, K)}, {"y": (M, wide)}, constants)
    view = Network(model)
    assert view.outline.ByteSize() < LARGE < model.ByteSize()
    assert view.shapes["wr"] == (K, wide)
    assert {found.rule for found in lint(model, JETPACK6)} == {"scale-not-positive", "half-quantized"}


def test_a_weight_that_is_cut_off_is_found() -> None:
    weight = np.ones((K, LARGE // K), np.float32)
    model = graph([op("MatMul", "x w", "y")], {"x": (M, K)}, {"y": (M, weight.shape[1])}, {"w": weight})
    assert lint(model, JETPACK6) == []
    model.graph.initializer[0].raw_data = weight.tobytes()[: 2 * LARGE]
    assert [found.rule for found in lint(model, JETPACK6)] == ["invalid"]


def test_what_lies_in_another_file_does_not_hide_other_faults() -> None:
    model = linear(axis=0)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.ClearField("raw_data")
    bias.data_location = TensorProto.EXTERNAL
    assert {found.rule for found in lint(model, JETPACK6)} == {"external-data", "weight-axis"}


def test_a_long_chain_is_no_problem() -> None:
    nodes = [op("Relu", f"t{i}", f"t{i + 1}") for i in range(5000)]
    model = graph(
        [op("Identity", "x", "t0"), *nodes, op("MatMul", "t5000 w", "y")],
        {"x": (M, K)},
        {"y": (M, K)},
        {"w": np.eye(K, dtype=np.float32)},
    )
    assert lint(model, JETPACK6) == []


@given(
    st.sampled_from(CASES),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=6),
    st.sampled_from(list(TARGETS.values())),
)
@settings(max_examples=300, deadline=None)
def test_no_broken_model_breaks_the_lint(case: Any, wounds: list[tuple[int, int]], target: Any) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(case.bad)
    for place, kind in wounds:
        nodes, tensors = model.graph.node, model.graph.initializer
        if nodes and kind < 4:
            node = nodes[place % len(nodes)]
            field = (node.input, node.output, node.attribute, nodes)[kind]
            if field:
                del field[place % len(field)]
        elif tensors and kind == 4:
            tensors[place % len(tensors)].raw_data = b"abc"
        elif tensors and kind == 5:
            tensors[place % len(tensors)].data_type = place
        elif nodes and kind == 6:
            nodes[place % len(nodes)].op_type = nodes[0].op_type
    for finding in lint(model, target):
        assert str(finding).count("\n") == 0
