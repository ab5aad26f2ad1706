"""``latentloop bench world``: does the world model get the rover to where it is shown? Without real time, from fixed seeds.

Four drivers on the same starts and goals: the INT8 model, the same model in FP32, random actions, and an oracle that plans with
the true physics. Success is judged by the true pose, which no model sees.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from edge import bundle as bundles
from edge.belief import BeliefFilter
from edge.bundle import Bundle
from edge.clock import FakeClock, MonotonicClock
from edge.config import PlannerConfig
from edge.encoder import FrameEncoder
from edge.engines import EngineInfo, EngineSettings, TensorSpec, load_engine
from edge.engines.engine import Array
from edge.errors import UserError
from edge.messages import Belief, Floats, Frame, Goal
from edge.planning import SamplingPlanner
from edge.worlds.arena import ArenaPainter
from edge.worlds.arena_world import ARRIVED_M, ARRIVED_RAD, GOAL_DISTANCE_M, GOAL_STEPS, arrived, draw_goal
from edge.worlds.rover import SPEC, STEP_S, Doubles, Rover, pose_distance, random_actions, random_pose

SEED = 30_000
"""Training and validation footage come from seeds 1 and 2, the live world from others still; the planner's defaults were
chosen on episodes of seed 20 000."""
STEPS = 40
DELAY_S = 0.08
"""From a frame to the moment its command takes effect, as measured in the live loop."""

Driver = Literal["int8", "fp32", "random", "oracle"]
DRIVERS: tuple[Driver, ...] = ("int8", "fp32", "random", "oracle")

Choose = Callable[[int, Floats], Floats]
"""From the step, and the action (2,) that was really commanded in the one before, to the next action."""


class Motors(Protocol):
    """What stands between an action and the wheels."""

    def act(self, rover: Rover, action: Floats) -> Floats:
        """Live through one step, in which the action takes effect after :data:`DELAY_S`, and say what of it was really
        commanded. action: float32 (2,) in [-1, 1]."""


class PerfectMotors:
    """Wheels that do what they are told."""

    def __init__(self) -> None:
        self._running: Doubles = np.zeros((1, 2))

    def act(self, rover: Rover, action: Floats) -> Floats:
        """See Motors."""
        rover.drive(DELAY_S, self._running)
        self._running = np.asarray(action, dtype=np.float64)[None] * SPEC.max_wheel_speed
        rover.drive(STEP_S - DELAY_S, self._running)
        return action


class Episode:
    """One start and goal. The rover lags: a command takes effect :data:`DELAY_S` after the frame it answers."""

    def __init__(self, number: int, motors: Motors | None = None) -> None:
        """motors: perfect ones, unless given."""
        self._motors = PerfectMotors() if motors is None else motors
        self.rng = np.random.default_rng([SEED, number])
        self.painter = ArenaPainter(SEED + number)
        self.rover = Rover(random_pose(self.rng, 1))
        self.goal = draw_goal(self.rover, self.rng)
        self._running: Doubles = np.zeros((1, 2))
        self.light = float(self.rng.uniform(0.97, 1.03))

    def frame(self, step: int) -> Frame:
        """What the camera sees now."""
        return Frame(self.painter.paint(self.rover.pose[0], self.light), round(step * STEP_S * 1e9), step)

    def goal_frame(self) -> Frame:
        """The picture that the robot is shown."""
        return Frame(self.painter.paint(self.goal, self.light), 0, 0)

    def act(self, action: Floats) -> Floats:
        """Live through one step, and say what was really commanded. action: float32 (2,) in [-1, 1]."""
        done = self._motors.act(self.rover, action)
        self._running = np.asarray(done, dtype=np.float64)[None] * SPEC.max_wheel_speed
        return done

    @property
    def running(self) -> Doubles:
        """The commanded wheel speeds (1, 2) in force."""
        return self._running


class OracleRollout:
    """The true physics behind the engine contract: what a perfect world model would foresee."""

    info = EngineInfo("true physics", "fp64", 0, 0)

    def __init__(self, episode: Episode, candidates: int, horizon: int) -> None:
        self._episode = episode
        shapes = {"context": (1, 1, 1, 1), "past_actions": (1, 0, 2), "goal": (1, 1, 1), "actions": (candidates, horizon, 2)}
        self.inputs: Mapping[str, TensorSpec] = {n: TensorSpec(n, "float32", s) for n, s in shapes.items()}
        self.outputs: Mapping[str, TensorSpec] = {"distance": TensorSpec("distance", "float32", (candidates, horizon))}
        self._buffers = {n: np.zeros(spec.shape, dtype=np.float32) for n, spec in (*self.inputs.items(), *self.outputs.items())}

    def input(self, name: str) -> Array:
        return self._buffers[name]

    def output(self, name: str) -> Array:
        return self._buffers[name]

    def enqueue(self) -> None:
        actions = self._buffers["actions"]
        rovers = self._episode.rover.repeat(len(actions))
        running = np.repeat(self._episode.running, len(actions), axis=0)
        for step in range(actions.shape[1]):
            rovers.drive(DELAY_S, running)
            running = actions[:, step].astype(np.float64) * SPEC.max_wheel_speed
            rovers.drive(STEP_S - DELAY_S, running)
            metres, turn = pose_distance(rovers.pose, self._episode.goal)
            self._buffers["distance"][:, step] = (metres / ARRIVED_M) ** 2 + (turn / ARRIVED_RAD) ** 2

    def wait(self) -> None:
        """All is done in enqueue."""

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class Model:
    """The engines of one precision."""

    encoder: FrameEncoder
    predictor: Any
    planner: SamplingPlanner
    reached_cost: float


def load_model(bundle: Bundle, precision: Literal["int8", "fp32"], config: PlannerConfig) -> Model:
    """Raises UserError for a bundle that has no goal."""
    goal = bundle.manifest.goal
    if goal is None or bundle.manifest.graphs.rollout is None:
        raise UserError(f"bundle {bundle.manifest.name!r} has no goal and no rollout graph: give a robot's bundle")
    settings = EngineSettings(precision=precision)
    clock = MonotonicClock()
    encoder = FrameEncoder(load_engine(bundle, "encoder", settings), bundle, clock)
    # The clock of the planner stands still, so that it always does the same number of iterations.
    planner = SamplingPlanner(load_engine(bundle, "rollout", settings), FakeClock(), config)
    return Model(encoder, load_engine(bundle, "predictor", settings), planner, goal.reached_cost)


def drive_by_model(model: Model, episode: Episode) -> Choose:
    """The world model chooses; it sees pictures of the arena."""
    belief = BeliefFilter(model.predictor, FakeClock())
    model.planner.forget()
    goal = Goal("goal", model.encoder.encode(episode.goal_frame()).tokens, model.reached_cost)

    def choose(step: int, before: Floats) -> Floats:
        found = belief.update(model.encoder.encode(episode.frame(step)), before)
        assert found is not None
        plan = model.planner.plan(found, goal, 1)
        return np.zeros_like(before) if plan.reached else plan.actions[0]

    return choose


def drive_by_oracle(episode: Episode, config: PlannerConfig, candidates: int, horizon: int) -> Choose:
    """A plan with the true physics of perfect wheels chooses."""
    planner = SamplingPlanner(OracleRollout(episode, candidates, horizon), FakeClock(), config)
    nothing = np.zeros((1, 1), dtype=np.float32)
    belief = Belief(nothing, None, nothing[None], np.zeros((0, 2), dtype=np.float32), 0, 0)
    goal = Goal("goal", nothing, -1.0)
    return lambda step, before: planner.plan(belief, goal, 1).actions[0]


def _drive_at_random(episode: Episode) -> Choose:
    actions = random_actions(episode.rng, 1, STEPS)[0].astype(np.float32)
    return lambda step, before: actions[step]


def bench_world(
    bundle: Bundle, episodes: int, drivers: tuple[Driver, ...], iterations: int, note: Callable[[str], None]
) -> dict[str, Any]:
    """Success of each driver over the same episodes, with a 95 % interval, and the steps it took. note: progress."""
    config = PlannerConfig(iterations=iterations)
    goal = bundle.manifest.goal
    if goal is None or bundle.manifest.graphs.rollout is None:
        raise UserError(f"bundle {bundle.manifest.name!r} has no goal and no rollout graph: give a robot's bundle")
    models = {name: load_model(bundle, name, config) for name in ("int8", "fp32") if name in drivers}
    steps: dict[str, list[int | None]] = {name: [] for name in drivers}
    for number in range(episodes):
        for driver in drivers:
            episode = Episode(number)
            if driver in models:
                choose = drive_by_model(models[driver], episode)
            elif driver == "oracle":
                choose = drive_by_oracle(episode, config, goal.candidates, goal.horizon)
            else:
                choose = _drive_at_random(episode)
            steps[driver].append(steps_to_goal(episode, choose))
        said = ", ".join(f"{name} {sum(s is not None for s in found)}" for name, found in steps.items())
        note(f"episode {number + 1} of {episodes}: reached by {said}")
    return {
        "success": {name: round(sum(s is not None for s in found) / episodes, 4) for name, found in steps.items()},
        "interval_95": {name: interval(sum(s is not None for s in found), episodes) for name, found in steps.items()},
        "median_steps": {
            name: float(np.median([s for s in found if s is not None])) if any(s is not None for s in found) else None
            for name, found in steps.items()
        },
        "failed_episodes": {name: [i for i, s in enumerate(found) if s is None] for name, found in steps.items()},
        "episodes": episodes,
        "step_limit": STEPS,
        "arrived": {"metres": ARRIVED_M, "degrees": float(np.rad2deg(ARRIVED_RAD))},
        "goals": {"random_steps_ahead": GOAL_STEPS, "at_least_metres": GOAL_DISTANCE_M},
        "planner": {"iterations": iterations, "candidates": goal.candidates, "horizon": goal.horizon},
        "bundle": bundle.sha256,
    }


def steps_to_goal(episode: Episode, choose: Choose) -> int | None:
    """None where the true pose was never there within :data:`STEPS`."""
    action: Floats = np.zeros(2, dtype=np.float32)
    for step in range(STEPS):
        action = episode.act(choose(step, action))
        if arrived(episode.rover.pose[0], episode.goal):
            return step + 1
    return None


def interval(reached: int, episodes: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    share, square = reached / episodes, z * z / episodes
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * np.sqrt(share * (1 - share) / episodes + square / (4 * episodes))
    return round(float(centre - half), 4), round(float(centre + half), 4)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench world``."""
    parser = subparsers.add_parser("world", help="how often the rover reaches its goal: INT8, FP32, random, oracle")
    parser.add_argument("--bundle", default="rover", help="name or folder (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=100, help="start and goal pairs (default: %(default)s)")
    steps = PlannerConfig().iterations
    parser.add_argument("--iterations", type=int, default=steps, help="of the planner, per step (default: %(default)s)")
    parser.add_argument("--drivers", default=",".join(DRIVERS), help="which to compare (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    drivers = tuple(name for name in DRIVERS if name in args.drivers.split(","))
    if args.episodes < 1 or args.iterations < 1 or not drivers:
        raise UserError(f"bench world needs --episodes and --iterations of 1 or more, and --drivers from {', '.join(DRIVERS)}")
    result = bench_world(bundles.load(args.bundle), args.episodes, drivers, args.iterations, _note)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        for name, share in result["success"].items():
            low, high = result["interval_95"][name]
            print(f"{name:7} {100 * share:5.1f} %  (95 % interval {100 * low:.0f} to {100 * high:.0f} %)")
    return 0


def _note(text: str) -> None:
    print(f"\r{text}", end="", file=sys.stderr, flush=True)
