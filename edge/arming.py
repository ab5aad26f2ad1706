"""Arming for whoever said --arm: once everything is healthy; and of a simulated robot again after every fault."""

from __future__ import annotations

import contextlib
import sys
import threading

from edge.clock import NS_PER_S, Clock
from edge.messages import RobotState
from edge.safety import ArmRefused, Supervisor

PATIENCE_S = 5.0
TRY_EVERY_S = 0.2
FAULT_SHOWN_S = 1.0
"""A fault stays visible for so long before it is cleared."""


def arm_when_healthy(supervisor: Supervisor, clock: Clock, stop: threading.Event) -> bool:
    """Try until the supervisor agrees, ``PATIENCE_S`` at most; False, and a line on stderr, if it does not. Blocks."""
    deadline_ns = clock.now_ns() + round(PATIENCE_S * NS_PER_S)
    while not stop.wait(TRY_EVERY_S):
        try:
            supervisor.arm()
            return True
        except ArmRefused as error:
            if clock.now_ns() > deadline_ns:
                print(f"latentloop: not armed: {error}", file=sys.stderr, flush=True)
                break
    return False


def keep_armed(supervisor: Supervisor, stop: threading.Event) -> None:
    """Until ``stop``, clear every fault and arm again, as often as it takes. Blocks. Only for what can hurt nobody.

    A stop or disarming by a person is another state than a fault, and stays.
    """
    cleared = ""  # what a fault looks like that was cleared here and not armed after yet
    while not stop.wait(FAULT_SHOWN_S):
        with contextlib.suppress(ArmRefused):
            if supervisor.state is RobotState.FAULT:
                supervisor.clear_stop()
                cleared = supervisor.reason
            elif supervisor.state is not RobotState.DISARMED:
                cleared = ""
            if cleared and supervisor.reason == cleared:
                supervisor.arm()
