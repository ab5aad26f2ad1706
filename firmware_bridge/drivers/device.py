"""What a driver must provide: one kind of motor controller, seen from the loop that owns its port."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from firmware_bridge.controller import Axis, Health, LinkCounts


@dataclass(frozen=True, slots=True)
class Reading:
    """What the motors say now. position, velocity: per axis, in rad and rad/s (m and m/s). current: A, or empty.
    energised: whether every motor is switched on; None where that cannot be read. faults: one sentence's worth each."""

    position: tuple[float, ...]
    velocity: tuple[float, ...]
    current: tuple[float, ...] = ()
    energised: bool | None = None
    faults: tuple[str, ...] = ()
    health: Health = field(default_factory=Health)


class Device(Protocol):
    """Called from one thread only, except ``urgent`` and the other attributes. Every call but these may raise NoAnswer (try again
    at the next turn) or PortLost; none takes longer than a few time-outs of its line."""

    axes: tuple[Axis, ...]
    """As commands are understood, tightened by what the device told in ``open``."""
    uid: str
    """The device's own serial number, or those of all its parts, as told in ``open``; empty where it tells none."""
    unprovable: str
    """Why it cannot be shown that it stops by itself when the driver falls silent, a sentence; empty where it can."""
    untestable: str
    """Why it is not moved for a test at all, a sentence; empty where it may be."""
    urgent: threading.Event
    """Set from any thread to end a wait for an answer at once."""

    def open(self, timeout_s: float) -> str:
        """Open the port, find every motor, bring what still moves to a stand, switch the device's own watchdog on and read it
        back. Returns name and version of the device. Nothing is switched on. Raises BridgeError."""

    def read(self) -> Reading:
        """Ask for the state. A single motor that stays silent is a fault in the reading; NoAnswer is for silence of all."""

    def enable(self, reading: Reading) -> None:
        """Switch the motors on, at a stand where they are. Raises BridgeError if that did not take."""

    def command(self, values: Sequence[float]) -> None:
        """Hand over targets, limited already. This feeds the device's watchdog."""

    def rest(self) -> None:
        """After a stop: hold still, and switch off what then does not fall. Works blindly, when nothing answers."""

    def cut(self) -> None:
        """Switch off now, without waiting for answers."""

    def clear(self) -> None:
        """Clear errors that the device has latched, after a person said so. Switches nothing on."""

    def counts(self) -> LinkCounts:
        """What went over the line since ``open``."""

    def close(self) -> None:
        """Close the port, leaving the motors as they are."""
