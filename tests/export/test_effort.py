"""Work is counted in multiplications, small models are measured in full, and large ones less but never not at all."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import effort, footage
from export.effort import LEAST_PLANS, affordable, affordable_by_all, multiplications, within
from export.footage import RUNS, plan_sets, read_for
from export.sources.onnx_pair import open_onnx_pair
from tests.export.sources.pair import write_pair, write_pictures


def weight(name, *shape):
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def test_matmuls_gemms_and_convolutions_are_counted_as_often_as_they_are_used():
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["seen"], kernel_shape=[2, 2], strides=[2, 2]),  # 1 * 5 * 4 * 4 places of 3 * 4
        helper.make_node("Flatten", ["seen"], ["flat"]),
        helper.make_node("Gemm", ["flat", "down"], ["low"]),  # 80 * 7
        helper.make_node("MatMul", ["low", "square"], ["once"]),  # 7 * 7
        helper.make_node("MatMul", ["once", "square"], ["twice"]),  # 7 * 7
    ]
    weights = [weight("kernel", 5, 3, 2, 2), weight("down", 80, 7), weight("square", 7, 7)]
    graph = helper.make_graph(nodes, "g", [value("x", 1, 3, 8, 8)], [value("twice", 1, 7)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    assert multiplications(model) == 80 * 12 + 80 * 7 + 2 * 49


@pytest.mark.parametrize(
    ("budget", "each", "wanted", "least", "expected"),
    [
        (100, 10, 5, 1, 5),
        (100, 10, 50, 1, 10),
        (100, 1000, 50, 1, 1),
        (100, 1000, 50, 4, 4),
        (100, 1000, 3, 4, 3),
        (100, 1000, 50, 0, 0),
        (100, 0, 50, 1, 50),
    ],
)
def test_as_many_as_the_budget_has_room_for(budget, each, wanted, least, expected):
    assert within(budget, each, wanted, least=least) == expected


def test_the_same_model_is_measured_in_full_if_it_is_small_and_less_if_it_is_large(tmp_path, monkeypatch):
    source = open_onnx_pair(write_pair(tmp_path, robot=True))
    frames = str(write_pictures(tmp_path / "frames", 300, (32, 48)))
    assert plan_sets(source.graphs, 12) == 12 and affordable(source.graphs["encoder"], 40) == 40
    assert len(read_for(source, frames).calibration) == RUNS
    each = multiplications(source.graphs["rollout"])
    monkeypatch.setattr(effort, "WORK", 6 * each)
    assert plan_sets(source.graphs, 12) == 6 and affordable(source.graphs["rollout"], 12, times=3) == 2
    assert affordable_by_all(source.graphs.values(), 12, times=6) == 1
    monkeypatch.setattr(effort, "WORK", each // 2)
    monkeypatch.setattr(footage, "WORK_SEEN", 1)
    assert plan_sets(source.graphs, 12) == LEAST_PLANS and plan_sets({}, 12) == 12
    assert len(read_for(source, frames).calibration) == 1
