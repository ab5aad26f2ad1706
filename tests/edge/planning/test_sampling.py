"""The planner on a world whose laws are known: it gets to the goal, in time, and survives costs that are no numbers."""

from __future__ import annotations

import numpy as np
import pytest

from edge.clock import NS_PER_MS, FakeClock
from edge.config import PlannerConfig
from edge.engines.engine import Array, EngineError, EngineInfo, TensorSpec
from edge.messages import Belief, Floats, Goal, Plan
from edge.planning import PlanningError, SamplingPlanner
from edge.planning.noise import noise_bank

STEP = 0.25
CANDIDATES, HORIZON = 64, 6
FAR = 10**15


class Glide:
    """An engine: a point in the plane that every action moves by a quarter. It may take time, and give NaN."""

    info = EngineInfo("numpy", "fp32", 0, 0)

    def __init__(self, clock: FakeClock, takes_ms: tuple[int, ...] = (0,), candidates: int = CANDIDATES) -> None:
        shapes = {"context": (1, 3, 1, 2), "past_actions": (1, 2, 2), "actions": (candidates, HORIZON, 2), "goal": (1, 1, 2)}
        self.inputs = {name: TensorSpec(name, "float32", shape) for name, shape in shapes.items()}
        self.outputs = {"distance": TensorSpec("distance", "float32", (candidates, HORIZON))}
        both = {**self.inputs, **self.outputs}
        self._buffers = {name: np.zeros(spec.shape, dtype=np.float32) for name, spec in both.items()}
        self._clock = clock
        self._takes_ms = takes_ms
        self.broken = np.zeros(candidates, dtype=bool)
        self.asked: list[Floats] = []

    def input(self, name: str) -> Array:
        return self._buffers[name]

    output = input

    def enqueue(self) -> None:
        actions = self._buffers["actions"]
        path = self._buffers["context"][:, -1, 0] + STEP * np.cumsum(actions, axis=1)
        self._buffers["distance"][:] = ((path - self._buffers["goal"][0]) ** 2).mean(axis=-1)
        self._buffers["distance"][self.broken] = np.nan
        self._clock.advance_ns(self._takes_ms[min(len(self.asked), len(self._takes_ms) - 1)] * NS_PER_MS)
        self.asked.append(actions.copy())

    def wait(self) -> None: ...

    def close(self) -> None: ...


class Bench:
    """A planner, its world and its clock."""

    def __init__(self, takes_ms: tuple[int, ...] = (0,), **settings: float) -> None:
        self.clock = FakeClock(start_ns=1)
        self.world = Glide(self.clock, takes_ms)
        self.planner = SamplingPlanner(self.world, self.clock, PlannerConfig(**{"iterations": 5, **settings}))  # type: ignore[arg-type]

    def plan(self, at: tuple[float, float], goal: tuple[float, float] = (0.0, 0.0), deadline_ns: int = FAR) -> Plan:
        here = np.array([at], dtype=np.float32)
        belief = Belief(here, None, np.repeat(here[None], 3, axis=0), np.zeros((2, 2), dtype=np.float32), 0, 0)
        return self.planner.plan(belief, Goal("there", np.array([goal], dtype=np.float32), 0.01), deadline_ns)


@pytest.mark.parametrize("goal", [(1.5, -1.0), (-0.8, 0.0), (0.0, 0.0)])
def test_the_closed_loop_reaches_the_goal_and_stays(goal: tuple[float, float]) -> None:
    bench = Bench()
    at = (0.0, 0.0)
    for _ in range(12):
        step = bench.plan(at, goal).actions[0] * STEP
        at = (at[0] + float(step[0]), at[1] + float(step[1]))
    last = bench.plan(at, goal)
    assert last.reached and last.cost_now <= 0.01
    assert last.goal == "there"


def test_far_from_the_goal_it_is_not_reached_and_the_plan_heads_there() -> None:
    plan = Bench().plan((0.0, 0.0), (9.0, -9.0))
    assert not plan.reached and plan.cost_now == pytest.approx(81.0) and plan.cost < plan.cost_now
    mean = plan.actions.mean(axis=0)
    assert mean[0] > 0.5 and mean[1] < -0.5


def test_the_cost_is_what_the_plan_costs_and_no_plan_that_was_asked_about_is_better() -> None:
    bench = Bench()
    goal = np.array((0.6, -0.4))
    plan = bench.plan((0.0, 0.0), (0.6, -0.4))
    weights = np.arange(1, HORIZON + 1) ** PlannerConfig().lateness
    weights = weights / weights.sum()

    def cost(actions: Floats) -> float:
        return float((((STEP * np.cumsum(actions, axis=0) - goal) ** 2).mean(axis=-1) * weights).sum())

    assert plan.cost == pytest.approx(cost(plan.actions), rel=1e-4)
    assert plan.cost <= min(cost(actions) for asked in bench.world.asked for actions in asked) + 1e-5
    assert (plan.iterations, plan.candidates) == (5, 5 * CANDIDATES)


@pytest.mark.parametrize(
    ("takes_ms", "until_ms", "iterations"),
    [
        ((10,), -50, 1),
        ((10,), 0, 1),
        ((10,), 19, 1),
        ((10,), 20, 2),
        ((10,), 49, 4),
        ((10,), 50, 5),
        ((10,), 900, 5),
        ((30, 10), 59, 1),
        ((30, 10), 60, 2),
    ],
)
def test_no_iteration_begins_that_would_not_fit_but_one_does(takes_ms: tuple[int, ...], until_ms: int, iterations: int) -> None:
    bench = Bench(takes_ms)
    plan = bench.plan((0.0, 0.0), (1.0, 1.0), 1 + until_ms * NS_PER_MS)
    assert plan.iterations == iterations == len(bench.world.asked)
    spent_ms = (bench.clock.now_ns() - 1) // NS_PER_MS
    assert spent_ms <= until_ms or iterations == 1
    assert bench.planner.engine_ns == spent_ms * NS_PER_MS


def test_one_slow_iteration_is_remembered_in_the_next_tick_and_slowly_forgiven() -> None:
    bench = Bench((40, 1))
    searched = []
    for _ in range(30):
        searched.append(bench.plan((0.0, 0.0), (1.0, 1.0), bench.clock.now_ns() + 20 * NS_PER_MS).iterations)
    assert searched[:2] == [1, 1]
    assert searched[-1] == 5


@pytest.mark.parametrize(("candidates", "enough"), [(9, True), (8, False), (1, False)])
def test_a_rollout_without_room_for_new_plans_is_refused(candidates: int, enough: bool) -> None:
    world = Glide(FakeClock(), candidates=candidates)
    if enough:
        SamplingPlanner(world, FakeClock(), PlannerConfig())
    else:
        with pytest.raises(PlanningError, match=f"has {candidates} candidates and needs more than 8: export"):
            SamplingPlanner(world, FakeClock(), PlannerConfig())


def test_every_action_asked_about_lies_in_the_range() -> None:
    bench = Bench(spread=2.0)
    for _ in range(5):
        plan = bench.plan((0.0, 0.0), (9.0, -9.0))
        assert np.abs(plan.actions).max() <= 1.0
    assert len(bench.world.asked) == 25
    assert max(float(np.abs(asked).max()) for asked in bench.world.asked) == 1.0


def test_plans_with_no_finite_cost_are_never_chosen() -> None:
    bench = Bench()
    bench.world.broken[:] = True
    bench.world.broken[10:30] = False
    for _ in range(3):
        plan = bench.plan((0.0, 0.0), (1.0, 1.0))
        assert np.isfinite(plan.cost) and np.isfinite(plan.actions).all()
        assert plan.cost < 1.0


def test_no_finite_cost_at_all_is_an_error() -> None:
    bench = Bench()
    bench.world.broken[:] = True
    with pytest.raises(EngineError, match="no finite cost"):
        bench.plan((0.0, 0.0), (1.0, 1.0))


def test_starts_from_the_last_plan_one_step_on_until_told_to_forget() -> None:
    bench = Bench(iterations=1)
    first = bench.plan((0.0, 0.0), (1.0, -1.0))
    assert np.abs(first.actions).max() > 0
    bench.plan((0.0, 0.0), (1.0, -1.0))
    np.testing.assert_array_equal(bench.world.asked[1][0], np.concatenate([first.actions[1:], first.actions[-1:]]))
    bench.planner.forget()
    bench.plan((0.0, 0.0), (1.0, -1.0))
    assert not bench.world.asked[2][0].any()
    assert all(not asked[1].any() for asked in bench.world.asked), "standing still is always asked about"


def test_the_same_seed_plans_the_same() -> None:
    plans = [Bench(seed=seed).plan((0.0, 0.0), (0.6, -0.4)).actions for seed in (3, 3, 4)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert (plans[0] != plans[2]).any()


def _low_share(colour: float) -> float:
    """How much of the power lies in the lowest quarter of the frequencies."""
    noise = noise_bank(np.random.default_rng(0), 2000, 32, 1, colour)[..., 0]
    power = (np.abs(np.fft.rfft(noise, axis=1)) ** 2).mean(axis=0)
    return float(power[:5].sum() / power.sum())


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0, 4.0])
def test_the_noise_has_unit_variance_at_every_step(colour: float) -> None:
    noise = noise_bank(np.random.default_rng(1), 20_000, 8, 2, colour)
    assert noise.shape == (20_000, 8, 2) and noise.dtype == np.float32
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.04)
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.04)


def test_colour_moves_power_to_low_frequencies() -> None:
    shares = [_low_share(colour) for colour in (0.0, 1.0, 2.0)]
    assert shares[0] == pytest.approx(5 / 17, abs=0.04)
    assert shares[0] + 0.2 < shares[1] < shares[2] - 0.05
