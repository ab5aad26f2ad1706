"""How the reference firmware leaves motion: by a ramp, or by cutting the power at once; the stops of firmware/core.c."""

from __future__ import annotations

from firmware_bridge.messages import Drive, Parameter, State, StopCause, StopPolicy
from firmware_bridge.reference_sending import record_event
from firmware_bridge.reference_state import CoreState
from firmware_bridge.reference_trajectory import U32


def _forget_targets(c: CoreState) -> None:
    n = len(c.motions)
    c.targets = [0] * n
    c.valid_until = [None] * n
    c.trajectory.clear()


def _stop(c: CoreState, state: State, cause: StopCause) -> None:
    c.state = state
    c.stop_cause = cause
    _forget_targets(c)
    if cause is StopCause.DISARMED:
        return
    c.count("trips")
    record_event(c)


def ramp_down(c: CoreState, cause: StopCause) -> None:
    """To a standstill within the limits; what the drives do then is for :func:`settle`."""
    asked = cause in (StopCause.DISARMED, StopCause.NEW_SESSION)
    c.after_stop = State.LINKED if asked else State.SAFE
    _stop(c, State.SAFE_STOP, cause)


def cut(c: CoreState, state: State, cause: StopCause) -> None:
    """Power off now. state: FAULT or ESTOP, which stay until they are cleared with a new challenge."""
    _stop(c, state, cause)
    c.drives = [Drive.OFF] * len(c.motions)
    for motion in c.motions:
        motion.cut()
    c.challenge = 0
    while c.challenge == 0:  # xorshift32, Marsaglia 2003
        x = c.random
        x ^= x << 13 & U32
        x ^= x >> 17
        x ^= x << 5 & U32
        c.random = x
        c.challenge = x & 0xFFFF


def estop(c: CoreState) -> None:
    """By button or message; latches."""
    if c.state is not State.ESTOP:
        cut(c, State.ESTOP, StopCause.ESTOP)


def settle(c: CoreState) -> None:
    """The ramp has ended: from now on each axis does what its policy says."""
    for i in range(len(c.drives)):
        policy = c.settings.of_axis(Parameter.STOP_POLICY, i)
        c.drives[i] = {StopPolicy.COAST: Drive.OFF, StopPolicy.BRAKE: Drive.BRAKE}.get(StopPolicy(policy), Drive.ON)
    c.stopped_us = c.now_us
    c.state = c.after_stop


def release(c: CoreState) -> None:
    """Let go of axes that are held only for a while after a stop."""
    if c.state not in (State.SAFE, State.LINKED):
        return
    for i, drive in enumerate(c.drives):
        releases = c.settings.of_axis(Parameter.STOP_POLICY, i) == StopPolicy.RELEASE
        after_us = 1000 * c.settings.of_axis(Parameter.RELEASE_AFTER_MS, i)
        if drive is Drive.ON and releases and (c.now_us - c.stopped_us) & U32 >= after_us:
            c.drives[i] = Drive.OFF
