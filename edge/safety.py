"""The supervisor: who may move, how fast, and what stops it.

States, and what leads from one to the next (a person arms; nothing else does):

    DISARMED --arm--> ARMED --a goal and a plan--> ACTING --goal reached--> ARMED
    ARMED, ACTING --any HOLD reason--> HOLD --reason gone--> ARMED     (motors are told to stand still)
    HOLD --longer than hold_limit_s--> STOPPED
    any --emergency stop, or one latched in the firmware--> STOPPED --clear, by a person--> DISARMED
    any armed --FAULT reason--> FAULT --clear or disarm, by a person--> DISARMED

The reasons stand in one table, worst first; the first that holds decides.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.bridge import gate
from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.config import SafetyConfig
from edge.errors import UserError
from edge.messages import Assessment, Belief, CameraFault, Command, Plan, RobotState
from firmware_bridge.controller import BridgeError, FirmwareState, MotorController, Telemetry

TELEMETRY_FRESH_NS = 300 * NS_PER_MS
"""Telemetry comes 50 times a second; after this long without any the link counts as lost."""

ARMED_STATES = frozenset({RobotState.ARMED, RobotState.ACTING, RobotState.HOLD})
_GONE_SAFE = frozenset({FirmwareState.SAFE_STOP, FirmwareState.SAFE, FirmwareState.IDLE, FirmwareState.LINKED})


class ArmRefused(UserError):
    """Motors will not be armed now; the message says why, as one sentence for the person who asked."""


@dataclass(frozen=True, slots=True)
class ActionAxis:
    """One axis of the action space: its physical value at -1 and at +1, in the unit of the motor contract. bottom, top: the
    farthest that its motor can go, and slew: the fastest change per second that it follows, in the same unit."""

    name: str
    low: float
    high: float
    bottom: float = -math.inf
    top: float = math.inf
    slew: float = math.inf


@dataclass(frozen=True, slots=True)
class Situation:
    """What the supervisor judges in one tick."""

    now_ns: int
    telemetry: Telemetry
    belief: Belief | None
    faults: tuple[CameraFault, ...]
    assessment: Assessment | None
    config: SafetyConfig

    @property
    def link_lost(self) -> bool:
        """No word from the motors for too long."""
        telemetry = self.telemetry
        return (
            telemetry.state is FirmwareState.OFFLINE
            or telemetry.received_ns == 0
            or self.now_ns - telemetry.received_ns > TELEMETRY_FRESH_NS
        )

    @property
    def belief_age_ms(self) -> float:
        """Age of the newest picture behind the belief; infinite without a belief."""
        return float("inf") if self.belief is None else (self.now_ns - self.belief.captured_ns) / NS_PER_MS


Reason = Callable[[Situation], str]
"""Empty when all is well, else one sentence."""


def _firmware_stopped(s: Situation) -> str:
    return "the firmware has latched an emergency stop" if s.telemetry.state is FirmwareState.ESTOP else ""


def _link_lost(s: Situation) -> str:
    if not s.link_lost:
        return ""
    why = s.telemetry.trouble
    return f"the link to the motors is lost: {why}" if why else "the link to the motors is lost"


def _firmware_fault(s: Situation) -> str:
    if s.telemetry.state is not FirmwareState.FAULT:
        return ""
    return f"the firmware reports a fault: {', '.join(s.telemetry.faults) or 'unnamed'}"


def _went_safe(s: Situation) -> str:
    if s.telemetry.state not in _GONE_SAFE:
        return ""
    return f"the firmware stopped the motors by itself (state {s.telemetry.state.value})"


def _camera_fault(s: Situation) -> str:
    return f"the camera is {s.faults[0].value.replace('_', ' ')}" if s.faults else ""


def _stale(s: Situation) -> str:
    if s.belief is None:
        return "nothing has been seen yet"
    age = s.belief_age_ms
    return f"the newest trusted picture is {age:.0f} ms old" if age > s.config.stale_after_ms else ""


def _alarm(s: Situation) -> str:
    alarmed = s.config.hold_on_alarm and s.assessment is not None and s.assessment.alarmed
    return f"an alarm is on ({s.assessment.cause})" if alarmed and s.assessment is not None else ""


STOP_REASONS: tuple[Reason, ...] = (_firmware_stopped,)
FAULT_REASONS: tuple[Reason, ...] = (_link_lost, _firmware_fault, _went_safe)
HOLD_REASONS: tuple[Reason, ...] = (_camera_fault, _stale, _alarm)


def _first(reasons: tuple[Reason, ...], situation: Situation) -> str:
    return next((text for reason in reasons if (text := reason(situation))), "")


class Supervisor:
    """Decides once per tick; ``arm``, ``disarm``, ``emergency_stop`` and ``clear_stop`` come from any thread.

    axes: the action space, in the order of the motor controller's axes. period_ns: the tick; a command is valid for two.
    """

    def __init__(
        self,
        controller: MotorController,
        axes: tuple[ActionAxis, ...],
        config: SafetyConfig,
        clock: Clock,
        period_ns: int,
    ) -> None:
        self._controller = controller
        self._config = config
        self._clock = clock
        self._period_ns = period_ns
        self._axes = axes
        # Per axis, normalised: the lowest and highest action allowed, and the largest change in one tick.
        self._limits = tuple(_limits_of(axis, config, period_ns / NS_PER_S) for axis in axes)
        self._lock = threading.Lock()  # guards state and reason against the threads of people
        self._state = RobotState.DISARMED
        self._reason = "not armed yet"
        self._held_since_ns: int | None = None
        self._armed_at_ns = 0
        self._estopped = False
        self._withdrawn = 0  # times a person stopped or disarmed; an arming or clearing under way must not outlive one
        # The normalised action that means physical zero, or what comes nearest to it.
        self._rest = tuple(_clamped(-(axis.low + axis.high) / (axis.high - axis.low), 1.0) for axis in axes)
        self._last = self._rest
        self._situation: Situation | None = None

    @property
    def telemetry(self) -> Telemetry | None:
        """The word from the motors on which the last decision rests."""
        return None if self._situation is None else self._situation.telemetry

    @property
    def state(self) -> RobotState:
        """The state now."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it is in this state, one sentence."""
        return self._reason

    # -- from people, any thread ---------------------------------------------------------------------------------

    def arm(self) -> None:
        """Allow the motors to move, if they are simulated or were proved to stop (:mod:`edge.bridge.gate`); blocks until the
        firmware agrees, some seconds at most. Raises ArmRefused."""
        with self._lock:
            if self._state in ARMED_STATES:
                return
            withdrawn = self._withdrawn
            situation = self._situation
            why = self._why_not(situation)
        if why:
            raise ArmRefused(why)
        try:
            # Not under the lock: the loop must go on, and the firmware wants a live lease before it agrees.
            gate.arm(self._controller)
        except gate.Unproved as error:
            raise ArmRefused(str(error)) from None
        except BridgeError as error:
            raise ArmRefused(f"the firmware refused: {error}") from None
        with self._lock:
            if self._withdrawn != withdrawn or self._state is not RobotState.DISARMED:  # a stop came in between, and wins
                self._controller.disarm()
                raise ArmRefused(self._reason)
            self._armed_at_ns = self._clock.now_ns()
            self._enter(RobotState.ARMED, "armed by a person")

    def disarm(self) -> None:
        """Bring the motors to rest and take the permission back; also acknowledges a fault."""
        with self._lock:
            self._withdrawn += 1
            if self._state is not RobotState.STOPPED:
                self._enter(RobotState.DISARMED, "disarmed by a person")
        self._controller.disarm()

    def emergency_stop(self, reason: str) -> None:
        """Cut the motors now and latch; never waits, never raises."""
        self._controller.estop()
        with self._lock:
            self._estopped = True
            self._withdrawn += 1
            self._enter(RobotState.STOPPED, reason)

    def clear_stop(self) -> None:
        """Release a latched stop; leads to DISARMED, never to motion. Raises ArmRefused if there is nothing to clear."""
        with self._lock:
            if self._state not in (RobotState.STOPPED, RobotState.FAULT):
                raise ArmRefused(f"there is no stop to clear: the robot is {self._state.value}")
            latched, withdrawn = self._estopped, self._withdrawn
        # A stop of the supervisor's own making has left nothing latched in the firmware.
        if latched or self._controller.telemetry().state in (FirmwareState.ESTOP, FirmwareState.FAULT):
            try:
                self._controller.clear_estop()
            except BridgeError as error:
                raise ArmRefused(f"the firmware did not clear its stop: {error}") from None
        with self._lock:
            if self._withdrawn != withdrawn:  # stopped again in between
                raise ArmRefused(f"the robot was stopped again ({self._reason}): clear the stop once more")
            self._estopped = False
            self._enter(RobotState.DISARMED, "stop cleared by a person")

    # -- from the loop -------------------------------------------------------------------------------------------

    def decide(
        self,
        plan: Plan | None,
        belief: Belief | None,
        faults: tuple[CameraFault, ...],
        assessment: Assessment | None,
    ) -> Command | None:
        """Judge this tick and hand the command over; None while disarmed, stopped or broken. Blocks on nothing.

        plan: None when there is no goal. The link's lease is fed in every state, so that the firmware knows a live loop;
        engaged only while armed.
        """
        now = self._clock.now_ns()
        situation = Situation(now, self._controller.telemetry(), belief, faults, assessment, self._config)
        with self._lock:
            self._situation = situation
            self._judge(situation, plan)
            state = self._state
        armed = state in ARMED_STATES
        self._controller.heartbeat(now + 2 * self._period_ns, armed)
        if not armed:
            self._last = self._rest
            return None
        limited: tuple[str, ...] = ()
        if plan is not None and state is RobotState.ACTING:
            limited = self._limit(plan.actions[0].tolist())
        else:  # stand still at once; how fast the wheels may stop is the firmware's business
            self._last = self._rest
        targets = tuple(
            axis.low + (value + 1.0) * 0.5 * (axis.high - axis.low)
            for axis, value in zip(self._axes, self._last, strict=True)
        )
        captured_ns = 0 if belief is None else belief.captured_ns
        action = np.array(self._last, dtype=np.float32)
        command = Command(targets, action, now + 2 * self._period_ns, captured_ns, limited)
        self._controller.send(command.targets, command.valid_until_ns)
        return command

    def _judge(self, situation: Situation, plan: Plan | None) -> None:
        if why := _first(STOP_REASONS, situation):
            if self._state is not RobotState.STOPPED:
                self._enter(RobotState.STOPPED, why)
            return
        if self._state not in ARMED_STATES:
            return
        # Telemetry from before the arming still says that the motors are not active.
        fresh = situation.telemetry.received_ns > self._armed_at_ns or situation.link_lost
        if fresh and (why := _first(FAULT_REASONS, situation)):
            self._enter(RobotState.FAULT, why)
            self._controller.disarm()
            return
        if why := _first(HOLD_REASONS, situation):
            if self._held_since_ns is None:
                self._held_since_ns = situation.now_ns
            if situation.now_ns - self._held_since_ns > self._config.hold_limit_s * NS_PER_S:
                self._enter(RobotState.STOPPED, f"{why}, for more than {self._config.hold_limit_s:g} s")
                self._controller.disarm()
            elif self._state is not RobotState.HOLD or self._reason != why:
                self._enter(RobotState.HOLD, why)
            return
        self._held_since_ns = None
        if plan is None:
            self._enter(RobotState.ARMED, "waiting for a goal")
        elif plan.reached:
            self._enter(RobotState.ARMED, f"at the goal {plan.goal}")
        else:
            self._enter(RobotState.ACTING, f"on the way to {plan.goal}")

    def _why_not(self, situation: Situation | None) -> str:
        if self._state is RobotState.STOPPED:
            return f"the robot is stopped ({self._reason}): clear the stop first"
        if self._state is RobotState.FAULT:
            return f"there is a fault ({self._reason}): clear it first"
        if situation is None:
            return "the loop has not ticked yet: try again in a second"
        problem = _link_lost(situation) or _firmware_fault(situation) or _first(HOLD_REASONS, situation)
        return f"{problem}: mend that first" if problem else ""

    def _limit(self, wanted: list[float]) -> tuple[str, ...]:
        """Clamp to the allowed share of the range, then to the allowed change since the last tick. Returns the axes that
        this changed. Plain floats: for a few axes they take a tenth of the time of arrays."""
        last = []
        limited = []
        for axis, (lowest, highest, step), value, before in zip(self._axes, self._limits, wanted, self._last, strict=True):
            allowed = max(lowest, min(highest, value)) if math.isfinite(value) else 0.0
            allowed = before + _clamped(allowed - before, step)
            last.append(allowed)
            if not abs(allowed - value) < 1e-6:
                limited.append(axis.name)
        self._last = tuple(last)
        return tuple(limited)

    def _enter(self, state: RobotState, reason: str) -> None:
        if state is not RobotState.HOLD:
            self._held_since_ns = None
        self._state, self._reason = state, reason


def _limits_of(axis: ActionAxis, config: SafetyConfig, period_s: float) -> tuple[float, float, float]:
    half = 0.5 * (axis.high - axis.low)
    lowest, highest = ((each - axis.low) / half - 1.0 for each in (axis.bottom, axis.top))
    return max(-config.speed, lowest), min(config.speed, highest), min(config.slew, axis.slew / half) * period_s


def _clamped(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))
