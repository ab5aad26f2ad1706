"""The round inside the graph gives the numbers of the round in numpy, and so the same plans."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edge.clock import FakeClock
from edge.config import PlannerConfig
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.messages import Belief, Goal
from edge.planning import SamplingPlanner
from edge.planning.refinement import refine, usable
from export.lint.rules import lint
from export.lint.target import TARGETS
from export.refinement import ELITES, elites_of, refining, without_refinement
from export.sources.source import SourceError

N, K, A = 40, 5, 2


@pytest.fixture(scope="module")
def glide() -> bytes:
    """A point in the plane that every action moves by a quarter, as a rollout graph."""
    text = f"""
    <ir_version: 9, opset_import: ["" : 19]>
    glide (float[1,3,1,2] context, float[1,2,2] past_actions, float[{N},{K},{A}] actions, float[1,1,2] goal)
        => (float[{N},{K}] distance)
    <float quarter = {{0.25}}, int64 steps = {{1}}, int64[1] start = {{2}}, int64[1] end = {{3}}, int64[1] frames = {{1}},
     int64[1] last = {{-1}}, int64[1] token = {{2}}>
    {{
        summed = CumSum (actions, steps)
        moved = Mul (summed, quarter)
        now = Slice (context, start, end, frames)
        here = Squeeze (now, token)
        path = Add (moved, here)
        away = Sub (path, goal)
        squares = Mul (away, away)
        distance = ReduceMean <keepdims = 0> (squares, last)
    }}
    """
    return onnx.parser.parse_model(text).SerializeToString()


def fill(engine: OnnxRuntimeEngine, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name, spec in engine.inputs.items():
        engine.input(name)[...] = rng.uniform(-1, 1, spec.shape)
    engine.input("inertia")[...] = rng.uniform(0, 0.9)
    engine.input("spread")[...] = rng.uniform(0, 1, engine.inputs["spread"].shape)


def expected(engine: OnnxRuntimeEngine) -> tuple[np.ndarray, np.ndarray, float]:
    return refine(
        engine.input("actions"),
        engine.output("distance"),
        engine.input("step_weights"),
        engine.input("spread"),
        engine.input("noise"),
        float(engine.input("inertia")[0]),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_graph_refines_as_numpy_does(glide: bytes, seed: int) -> None:
    engine = OnnxRuntimeEngine(refining(glide, ELITES), "glide")
    fill(engine, seed)
    engine.enqueue()
    plans, spread, cost = expected(engine)
    np.testing.assert_allclose(engine.output("refined"), plans, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(engine.output("next_spread"), spread, rtol=1e-5, atol=1e-6)
    assert float(engine.output("best_cost")[0]) == pytest.approx(cost, rel=1e-5)


def test_costs_that_are_no_numbers_come_last_and_alone_are_not_usable(glide: bytes) -> None:
    engine = OnnxRuntimeEngine(refining(glide, ELITES), "glide")
    fill(engine, 0)
    engine.input("step_weights")[...] = 1.0
    engine.input("actions")[4:] = np.nan
    engine.enqueue()
    elites = engine.output("refined")[2 : 2 + ELITES]
    assert np.isfinite(elites[:4]).all() and usable(float(engine.output("best_cost")[0]))
    engine.input("goal")[...] = np.inf
    engine.enqueue()
    assert not usable(float(engine.output("best_cost")[0]))


def test_planning_with_the_graph_is_planning_with_numpy(glide: bytes) -> None:
    """Costs the same to the last digits that matter, tick after tick, warm start and all."""
    here = np.zeros((1, 2), np.float32)
    belief = Belief(here, None, np.zeros((3, 1, 2), np.float32), np.zeros((2, 2), np.float32), 0, 0)
    goal = Goal("there", np.array([[0.9, -0.6]], np.float32), 0.01)
    engines = [OnnxRuntimeEngine(data, "glide") for data in (glide, refining(glide, 6))]
    planners = [SamplingPlanner(engine, FakeClock(), PlannerConfig()) for engine in engines]
    for _ in range(4):
        plain, inside = (planner.plan(belief, goal, 1 << 60) for planner in planners)
        np.testing.assert_allclose(plain.actions, inside.actions, atol=1e-4)
        assert inside.cost == pytest.approx(plain.cost, rel=1e-3)
        assert inside.cost < inside.cost_now


@pytest.mark.parametrize("target", TARGETS)
def test_tensorrt_takes_every_operator_of_it(glide: bytes, target: str) -> None:
    added = onnx.load_from_string(refining(glide, ELITES))
    before = {str(finding) for finding in lint(onnx.load_from_string(glide), TARGETS[target])}
    assert {str(finding) for finding in lint(added, TARGETS[target])} == before


def test_it_can_be_taken_out_again(glide: bytes) -> None:
    assert without_refinement(onnx.load_from_string(refining(glide, ELITES))) == onnx.load_from_string(glide)


def test_too_few_plans_are_refused(glide: bytes) -> None:
    with pytest.raises(SourceError, match="a rollout of 40 plans leaves none to draw beside 2 fixed ones and 38 elites"):
        refining(glide, 38)


@pytest.mark.parametrize(("candidates", "elites"), [(4, 1), (16, 2), (64, 6), (1024, 6)])
def test_a_round_keeps_some_of_its_plans(candidates: int, elites: int) -> None:
    assert elites_of(candidates) == elites
