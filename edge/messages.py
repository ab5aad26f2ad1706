"""The messages that travel down one tick, from camera frame to motor command.

Data flows one way: a stage takes the message before it and returns the next. Every message is a small frozen
dataclass; arrays inside are never written to after construction. Times are monotonic nanoseconds
(see :mod:`edge.clock`). Letters in shapes: H, W picture height and width; T tokens per frame (1 for a global
latent, gh*gw for patch latents on a grid); D latent dimension; C context length in frames; A action
dimension; N candidate plans; K plan horizon in steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.controller import Telemetry

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class CameraFault(str, Enum):
    """What can be wrong with a camera; the value is the name shown to people and written to JSON."""

    NO_FRAMES = "no_frames"
    LATE = "late"
    FROZEN = "frozen"
    BLACK = "black"
    WHITE = "white"
    COVERED = "covered"
    RESIZED = "resized"


class RobotState(str, Enum):
    """The supervisor's states, from harmless to broken (see :mod:`edge.safety`)."""

    DISARMED = "disarmed"
    ARMED = "armed"
    ACTING = "acting"
    HOLD = "hold"
    STOPPED = "stopped"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and what is known about it.

    pixels: uint8 (H, W, 3), BGR, owned by the frame. captured_ns: when the light was caught, as near as the
    source can tell. sequence: the source's own counter, gaps are dropped frames. faults: what the camera's
    health check says at this moment, worst first, empty when healthy. small: uint8 (h, w, 3), the same at the model's
    size, where somebody has made it already.
    """

    pixels: Pixels
    captured_ns: int
    sequence: int
    faults: tuple[CameraFault, ...] = ()
    small: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Latent:
    """What the encoder made of one frame. tokens: float32 (T, D)."""

    tokens: Floats
    captured_ns: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Belief:
    """The runtime's state of mind after predict and correct.

    latent: float32 (T, D), the corrected latent now. predicted: float32 (T, D), what the predictor expected
    before it saw this frame, or None on a cold start. context: float32 (C, T, D), the last C corrected
    latents, oldest first. actions: float32 (C - 1, A), normalised to [-1, 1]; actions[i] was commanded after
    context[i] was seen. captured_ns: capture time of the newest real frame in it.
    coasted: how many steps in a row were predicted without a trustworthy frame.
    """

    latent: Floats
    predicted: Floats | None
    context: Floats
    actions: Floats
    captured_ns: int
    coasted: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """How surprising this frame is, and whether that is an alarm.

    error: prediction error in latent space. unfamiliarity: distance to what is normal here. p_value: the
    calibrated probability of a score at least this high on normal footage, in (0, 1]. alarm_p: the p-value
    under which a frame counts against normality. alarmed: after debouncing. onset: True in the one tick in
    which an alarm begins. cause: a :class:`CameraFault` value, ``"unfamiliar"``, ``"unexpected"`` or ``""``.
    heat: float32 (gh, gw) surprise per patch, 1.0 at the alarm threshold, or None for a global latent.
    """

    error: float
    unfamiliarity: float
    p_value: float
    alarm_p: float
    alarmed: bool
    onset: bool
    cause: str
    heat: Floats | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """Where to go: a latent. name: for people. latent: float32 (T, D). reached_cost: the goal cost under which the
    robot counts as there. picture: the goal as a BGR picture for people, or None."""

    name: str
    latent: Floats
    reached_cost: float
    picture: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the planner wants to do. actions: float32 (K, A) in [-1, 1], first one first. cost: predicted cost of the
    plan. cost_now: goal cost of the present belief. iterations, candidates: how much was searched."""

    actions: Floats
    cost: float
    cost_now: float
    iterations: int
    candidates: int
    goal: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Command:
    """What is sent to the motors: one target per axis, in the axis' physical unit (rad/s for wheels).

    action: float32 (A,), the normalised action really commanded after limits; the belief conditions on it.
    valid_until_ns: after this host time the firmware must not act on it. limited: axes changed by a limit.
    """

    targets: tuple[float, ...]
    action: Floats
    valid_until_ns: int
    captured_ns: int
    limited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling a person: an alarm, a fault, a change of state.

    kind: ``"alarm"``, ``"clear"``, ``"state"`` or ``"goal"``. detail: one sentence. thumbnail: JPEG bytes or empty.
    wall_s: label only, seconds since the epoch.
    """

    kind: str
    cause: str
    detail: str
    at_ns: int
    wall_s: float
    thumbnail: bytes = b""


@dataclass(frozen=True, slots=True)
class MemoryCounts:
    """What the persistent memory holds."""

    episodes: int = 0
    concepts: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """What the build of engines in the background is at; no part of a tick.

    text: one clause for people, empty if there is nothing to tell. share: of the one plan that is being built, 0 to 1; None
    where nothing is being counted. outcomes: what came of each plan of this run, one sentence each, newest last.
    """

    text: str
    share: float | None = None
    outcomes: tuple[str, ...] = ()


@dataclass(slots=True)
class Tick:
    """Everything one turn of the loop saw, thought and did; observers read it, stages never do.

    timings_ns: duration per stage name. engine_ns: the part of it spent inside inference engines.
    capture_to_command_ns: from the frame's capture to the command's hand-over to the serial link, or None.
    """

    index: int
    started_ns: int
    state: RobotState = RobotState.DISARMED
    reason: str = ""
    frame: Frame | None = None
    faults: tuple[CameraFault, ...] = ()
    latent: Latent | None = None
    belief: Belief | None = None
    assessment: Assessment | None = None
    goal: Goal | None = None
    plan: Plan | None = None
    command: Command | None = None
    telemetry: Telemetry | None = None
    memory: MemoryCounts = field(default_factory=MemoryCounts)
    events: tuple[Event, ...] = ()
    timings_ns: dict[str, int] = field(default_factory=dict)
    engine_ns: int = 0
    total_ns: int = 0
    capture_to_command_ns: int | None = None
    overruns: int = 0
