"""iCEM over the world model: sample plans, roll all of them out in one engine call, keep the best, sample around them.

The improved cross-entropy method (Pinneri et al., CoRL 2020): coloured noise, a warm start from the last tick's plan
shifted by one step, and elites carried over. Bounded by a deadline: another iteration begins only if the slowest one so
far would still fit, and the best plan seen so far is returned whenever the time is over.
"""

from __future__ import annotations

import math

import numpy as np

from edge.clock import Clock
from edge.config import PlannerConfig
from edge.engines.engine import Engine, EngineError, write_input
from edge.messages import Belief, Floats, Goal, Plan
from edge.planning.noise import noise_bank
from edge.planning.planner import PlanningError

_BANK = 32
"""How many iterations' worth of noise is drawn once; a slice of it costs nothing on the loop's path."""
_STRIDE = 1237
"""Rows between the beginnings of two slices: a prime, so that they come to begin everywhere in the bank."""
_FIXED = 3
"""Plans that every iteration asks about."""


class SamplingPlanner:
    """Plans with the bundle's rollout graph.

    rollout: context (1, C, T, D), past_actions (1, C - 1, A), actions (N, K, A), goal (1, T, D) -> distance (N, K), the
    mean squared latent distance to the goal after each step.
    """

    def __init__(self, rollout: Engine, clock: Clock, config: PlannerConfig) -> None:
        self._rollout = rollout
        self._clock = clock
        self._config = config
        self._candidates, self._horizon, self._width = rollout.inputs["actions"].shape
        room = self._candidates - _FIXED - 1  # the elites are asked about again, and one plan at least must be new
        if config.elites > room:
            raise PlanningError(
                f"planner.elites is {config.elites} and the bundle's rollout has {self._candidates} candidates: "
                f"choose at most {room}"
            )
        self._bank = noise_bank(
            np.random.default_rng(config.seed), _BANK * self._candidates, self._horizon, self._width, config.colour
        )
        self._next_noise = 0
        # A late step counts more: a rover that must park sideways has to turn away from its goal first.
        weights = np.arange(1, self._horizon + 1, dtype=np.float32) ** np.float32(config.lateness)
        self._weights: Floats = weights / weights.sum()
        self._costs: Floats = np.empty(self._candidates, dtype=np.float32)
        self._actions: Floats = rollout.input("actions")  # sampled in place, so that nothing is copied
        self._mean: Floats | None = None
        self._elites: Floats | None = None
        self._slowest_ns = 0
        self.engine_ns = 0

    def plan(self, belief: Belief, goal: Goal, deadline_ns: int) -> Plan:
        """See :class:`edge.planning.planner.Planner`."""
        config, actions = self._config, self._actions
        self.engine_ns = 0
        cost_now = float(np.mean((belief.latent - goal.latent) ** 2))
        write_input(self._rollout, "context", belief.context[None])
        write_input(self._rollout, "past_actions", belief.actions[None])
        write_input(self._rollout, "goal", goal.latent[None])
        mean, elites = self._shifted()
        spread = np.full((self._horizon, self._width), config.spread, dtype=np.float32)
        keep, take = np.float32(config.inertia), np.float32(1.0 - config.inertia)
        best = mean
        best_cost = math.inf
        done = 0
        # Every array operation here is counted: between two engine calls the caches are cold, and each one costs 5 to 40 us.
        while done < config.iterations:
            started = self._clock.now_ns()
            if done and started + self._slowest_ns > deadline_ns:
                break
            self._sample(mean, spread)
            # Three plans are always asked about: go on as planned, stand still, and the best so far.
            actions[0], actions[1], actions[2] = mean, 0.0, best
            if elites is not None:
                actions[_FIXED : _FIXED + len(elites)] = elites
            costs = self._roll_out()
            order = costs.argsort()[: config.elites]  # what is not a number comes last
            elites = actions.take(order, axis=0)
            leader_cost = float(costs[order[0]])
            if not math.isfinite(leader_cost):
                raise EngineError("the rollout gave no finite cost: export the bundle again")
            if leader_cost < best_cost:
                best, best_cost = elites[0], leader_cost
            centre = np.add.reduce(elites)
            centre /= config.elites
            off = elites - centre
            off *= off
            deviation = np.add.reduce(off)
            deviation /= config.elites
            np.sqrt(deviation, out=deviation)
            mean = keep * mean + take * centre
            spread = keep * spread + take * deviation
            done += 1
            self._slowest_ns = max(self._clock.now_ns() - started, self._slowest_ns * 15 // 16)
        self._mean = best
        self._elites = None if elites is None else elites[: max(1, config.elites // 4)]
        reached = cost_now <= goal.reached_cost
        return Plan(best, best_cost, cost_now, done, done * self._candidates, goal.name, reached)

    def forget(self) -> None:
        """See :class:`edge.planning.planner.Planner`."""
        self._mean = self._elites = None

    def _shifted(self) -> tuple[Floats, Floats | None]:
        """Last tick's plan and elites one step on; the new last step repeats the one before it."""
        if self._mean is None or self._elites is None:
            return np.zeros((self._horizon, self._width), dtype=np.float32), None
        mean = np.concatenate([self._mean[1:], self._mean[-1:]])
        return mean, np.concatenate([self._elites[:, 1:], self._elites[:, -1:]], axis=1)

    def _sample(self, mean: Floats, spread: Floats) -> None:
        start = self._next_noise = (self._next_noise + _STRIDE) % (len(self._bank) - self._candidates + 1)
        actions = self._actions
        np.multiply(self._bank[start : start + self._candidates], spread, out=actions)
        np.add(actions, mean, out=actions)
        np.minimum(actions, 1.0, out=actions)
        np.maximum(actions, -1.0, out=actions)

    def _roll_out(self) -> Floats:
        """float32 (N,) costs of the sampled actions."""
        started = self._clock.now_ns()
        self._rollout.enqueue()
        self._rollout.wait()
        self.engine_ns += self._clock.now_ns() - started
        return np.dot(self._rollout.output("distance"), self._weights, out=self._costs)
