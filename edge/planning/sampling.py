"""iCEM over the world model: sample plans, roll all of them out in one engine call, keep the best, sample around them.

The improved cross-entropy method (Pinneri et al., CoRL 2020): coloured noise, a warm start from the last tick's plan
shifted by one step, and elites carried over. Bounded by a deadline: another round begins only if the slowest one so far
would still fit, and the best plan seen so far is returned whenever the time is over.
"""

from __future__ import annotations

import numpy as np

from edge.bundle import FIXED_PLANS
from edge.clock import Clock
from edge.config import PlannerConfig
from edge.engines.engine import Engine, EngineError, write_input
from edge.messages import Belief, Floats, Goal, Plan
from edge.planning.noise import noise_bank
from edge.planning.planner import PlanningError
from edge.planning.refinement import late_weights, refine, usable

ELITES = 6
"""Plans kept per round where the rollout is no graph that has its own number."""
_BANK = 32
"""How many rounds' worth of noise is drawn once; a slice of it costs nothing on the loop's path."""
_STRIDE = 1237
"""Rows between the beginnings of two slices: a prime, so that they come to begin everywhere in the bank."""


class SamplingPlanner:
    """Plans with the bundle's rollout graph (docs/bundles.md), one call per round.

    rollout: context (1, C, T, D), past_actions (1, C - 1, A), actions (N, K, A), goal (1, T, D) -> distance (N, K), the
    mean squared latent distance to the goal after each step; and, from step_weights, spread, noise and inertia, what
    edge.planning.refinement.refine returns. A rollout without these is refined in numpy.
    """

    def __init__(self, rollout: Engine, clock: Clock, config: PlannerConfig) -> None:
        self._rollout = rollout
        self._clock = clock
        self._config = config
        self._candidates, self._horizon, width = rollout.inputs["actions"].shape
        self._has_past = "past_actions" in rollout.inputs
        self._inside = "refined" in rollout.outputs
        drawn = rollout.inputs["noise"].shape[0] if self._inside else self._candidates - FIXED_PLANS - ELITES
        if drawn < 1:
            raise PlanningError(
                f"the rollout has {self._candidates} candidates and needs more than {FIXED_PLANS + ELITES}: export the bundle again"
            )
        rng = np.random.default_rng(config.seed)
        self._bank = noise_bank(rng, _BANK * self._candidates, self._horizon, width, config.colour)
        self._wide = self._bank * np.float32(config.spread)
        self._next_noise = 0
        self._step_weights = late_weights(self._horizon, config.lateness)
        # The engine's own buffers, always the same ones: plans are drawn in place, and looking them up takes its time too.
        self._actions: Floats = rollout.input("actions")
        self._distance: Floats = rollout.output("distance")
        spread = (1, self._horizon, width)
        if self._inside:
            rollout.input("step_weights")[...] = self._step_weights
            rollout.input("inertia")[...] = config.inertia
            self._spread: Floats = rollout.input("spread")
            self._noise: Floats = rollout.input("noise")
            self._refined: Floats = rollout.output("refined")
            self._next_spread: Floats = rollout.output("next_spread")
            self._best_cost: Floats = rollout.output("best_cost")
        else:
            self._spread = np.empty(spread, np.float32)
            self._noise = np.empty((drawn, *spread[1:]), np.float32)
        self._best: Floats | None = None
        self._slowest_ns = 0
        self.engine_ns = 0

    def plan(self, belief: Belief, goal: Goal, deadline_ns: int) -> Plan:
        """See :class:`edge.planning.planner.Planner`."""
        # Every array operation here is counted: between two engine calls the caches are cold, and each costs 5 to 40 us.
        self.engine_ns = 0
        away = (belief.latent - goal.latent).ravel()
        cost_now = float(np.dot(away, away)) / away.size
        write_input(self._rollout, "context", belief.context[None])
        if self._has_past:
            write_input(self._rollout, "past_actions", belief.actions[None])
        write_input(self._rollout, "goal", goal.latent[None])
        self._begin()
        cost, done = 0.0, 0
        while done < self._config.iterations:
            started = self._clock.now_ns()
            if done and started + self._slowest_ns > deadline_ns:
                break
            cost = self._round()
            if not usable(cost):
                raise EngineError("the rollout gave no finite cost: export the bundle again")
            done += 1
            self._slowest_ns = max(self._clock.now_ns() - started, self._slowest_ns * 15 // 16)
        self._best = best = self._actions[FIXED_PLANS].copy()
        return Plan(best, cost, cost_now, done, done * self._candidates, goal.name, cost_now <= goal.reached_cost)

    def forget(self) -> None:
        """See :class:`edge.planning.planner.Planner`."""
        self._best = None

    def _begin(self) -> None:
        """The first plans: around last tick's best one step on, whose new last step repeats the one before it."""
        actions = self._actions
        actions[:FIXED_PLANS] = 0.0
        start = self._slice(self._candidates - FIXED_PLANS)
        if self._best is None:
            np.minimum(self._wide[start : start + self._candidates - FIXED_PLANS], 1.0, out=actions[FIXED_PLANS:])
        else:
            mean = actions[0]
            mean[:-1], mean[-1] = self._best[1:], self._best[-1]
            np.add(self._wide[start : start + self._candidates - FIXED_PLANS], mean, out=actions[FIXED_PLANS:])
            np.minimum(actions, 1.0, out=actions)
        np.maximum(actions, -1.0, out=actions)
        self._spread.fill(self._config.spread)

    def _round(self) -> float:
        """Roll the plans out, put the next ones in their place and return the cost of the best: row FIXED_PLANS from now on."""
        rollout = self._rollout
        start = self._slice(len(self._noise))
        self._noise[...] = self._bank[start : start + len(self._noise)]
        started = self._clock.now_ns()
        rollout.enqueue()
        rollout.wait()
        self.engine_ns += self._clock.now_ns() - started
        if self._inside:
            self._actions[...] = self._refined
            self._spread[...] = self._next_spread
            return float(self._best_cost[0])
        self._actions[...], self._spread[...], cost = refine(
            self._actions, self._distance, self._step_weights, self._spread, self._noise, self._config.inertia
        )
        return cost

    def _slice(self, rows: int) -> int:
        """Where in the bank the next noise begins."""
        self._next_noise = (self._next_noise + _STRIDE) % (len(self._bank) - rows + 1)
        return self._next_noise
