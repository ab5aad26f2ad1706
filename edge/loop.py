"""The loop: one turn from a camera frame to a motor command. It knows the stages and not who watches.

    camera -> encoder -> belief -> surprise -> goals -> planner -> safety -> memory -> observers

Each line of :meth:`Loop.tick` is one stage: it takes what the stages before it made and adds one thing to the tick.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.belief import BeliefFilter
from edge.cameras import Camera
from edge.chronicle import Chronicle
from edge.clock import Clock
from edge.encoder import FrameEncoder
from edge.goals import Errands
from edge.messages import Goal, Tick
from edge.motor_latency import MotorLatency
from edge.pacing import Pacer, first_beat_ns
from edge.planning import Planner
from edge.safety import Supervisor
from edge.surprise import Surprise


@dataclass(frozen=True, slots=True)
class Stages:
    """What the loop turns, in the order of the data."""

    camera: Camera
    encoder: FrameEncoder
    belief: BeliefFilter
    surprise: Surprise
    errands: Errands
    planner: Planner
    supervisor: Supervisor
    chronicle: Chronicle


class Loop:
    """Turns the stages. period_ns: the bundle's step. max_age_ns: an older picture is no picture. budget_ns: planning
    ends this long after the tick began. observe: called once per finished tick; must not block."""

    def __init__(
        self,
        stages: Stages,
        clock: Clock,
        *,
        period_ns: int,
        max_age_ns: int,
        budget_ns: int,
        axes: int,
        observe: Callable[[Tick], None],
    ) -> None:
        self._stages = stages
        self._clock = clock
        self._period_ns = period_ns
        self._max_age_ns = max_age_ns
        self._budget_ns = budget_ns
        self._idle = np.zeros(axes, dtype=np.float32)
        self._action = self._idle
        self._observe = observe
        self._goal: Goal | None = None
        self._motor_latency = MotorLatency()
        self._index = 0

    def run(self, stop: threading.Event) -> None:
        """Tick until ``stop`` is set; blocks. Raises what a stage raises, after which the lease runs out by itself."""
        self._clock.sleep_until_ns(first_beat_ns(self._stages.camera, self._clock, self._period_ns))
        pacer = Pacer(self._clock, self._period_ns)
        while not stop.is_set():
            pacer.wait()
            self._observe(self.tick(pacer.overruns))

    def tick(self, overruns: int = 0) -> Tick:
        """One turn."""
        clock, s = self._clock, self._stages
        tick = Tick(self._index, clock.now_ns(), overruns=overruns)
        mark = tick.started_ns

        def lap(stage: str) -> None:
            nonlocal mark
            now = clock.now_ns()
            tick.timings_ns[stage] = now - mark
            mark = now

        tick.frame = s.camera.latest(self._max_age_ns)
        tick.faults = s.camera.status().faults
        trusted = tick.frame is not None and not tick.faults
        lap("camera")
        tick.latent = s.encoder.encode(tick.frame) if tick.frame is not None and trusted else None
        encoded_ns = 0 if tick.latent is None else s.encoder.engine_ns  # before a goal's picture goes through it too
        lap("encoder")
        tick.belief = s.belief.update(tick.latent, self._action)
        lap("belief")
        tick.assessment = None if tick.belief is None else s.surprise.assess(tick.belief, tick.faults)
        lap("surprise")
        tick.goal = s.errands.goal()
        if tick.goal is not self._goal:
            self._goal = tick.goal
            s.planner.forget()
        lap("goals")
        if tick.belief is not None and tick.goal is not None:
            tick.plan = s.planner.plan(tick.belief, tick.goal, tick.started_ns + self._budget_ns)
        lap("planner")
        tick.command = s.supervisor.decide(tick.plan, tick.belief, tick.faults, tick.assessment)
        tick.state, tick.reason, tick.telemetry = s.supervisor.state, s.supervisor.reason, s.supervisor.telemetry
        tick.capture_to_motor_ns = self._motor_latency.news(tick.telemetry)
        if tick.command is not None:
            self._motor_latency.sent(tick.command)
        if tick.command is not None and tick.frame is not None:
            tick.capture_to_command_ns = clock.now_ns() - tick.frame.captured_ns
        self._action = self._idle if tick.command is None else tick.command.action
        lap("safety")
        tick.events = s.chronicle.note(tick, s.errands.judge(tick))
        tick.memory = s.chronicle.counts()
        lap("memory")
        planned_ns = 0 if tick.plan is None else s.planner.engine_ns
        tick.engine_ns = encoded_ns + s.belief.engine_ns + s.errands.engine_ns + planned_ns
        tick.total_ns = clock.now_ns() - tick.started_ns
        self._index += 1
        return tick
