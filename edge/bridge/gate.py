"""The one way to arm motors, but for the selftest itself: those that are simulated, or were proved to stop, and no others."""

from __future__ import annotations

from edge.bridge.proof import why_not
from edge.errors import UserError
from firmware_bridge.controller import MotorController


class Unproved(UserError):
    """This device was not proved to stop. The message says which command to run."""


def arm(controller: MotorController) -> None:
    """Arm what may be armed. It is asked anew each time who is there: boards are swapped and flashed.

    Blocks until the device agrees, some seconds at most. Raises Unproved, and BridgeError where the device is not there or refuses.
    """
    who = controller.identity()
    if why := why_not(who):
        raise Unproved(why)
    controller.arm()
    if who.simulated:  # the loop has to engage soon, and there is nobody to hurt meanwhile
        return
    try:
        same = controller.identity() == who
    except BaseException:
        controller.disarm()
        raise
    if not same:
        controller.disarm()
        raise Unproved("another device has answered than the one that was looked at: see what is plugged in, and arm again")
