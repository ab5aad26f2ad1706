"""Asking servos on one bus, one by one or all at once, and keeping track of who has not answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_bridge.drivers.bus import Bus, NoAnswer

MISSES = 3
"""A servo that stays silent for so many turns in a row is a fault."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a servo answers. error: as its protocol defines it, 0 for none."""

    id: int
    error: int
    parameters: bytes


NextStatus = Callable[[bytearray], Status | None]
"""Takes the next status out of what was heard; None when there is none yet."""


def ask_one(bus: Bus, next_status: NextStatus, request: bytes, servo: int, size: int, tries: int = 2) -> Status:
    """The status of that servo with so many parameters, whatever else is heard. Raises NoAnswer, PortLost."""

    def take(heard: bytearray) -> Status | None:
        while (status := next_status(heard)) is not None:
            if status.id == servo and len(status.parameters) == size:
                return status
        return None

    return bus.ask(request, take, tries=tries)


class RollCall:
    """The newest status of every servo, each with ``size`` parameters."""

    def __init__(self, ids: Sequence[int], next_status: NextStatus, size: int) -> None:
        self._ids = ids
        self._next_status = next_status
        self._size = size
        self._missed = dict.fromkeys(ids, 0)
        self.newest: dict[int, Status] = {}

    def call(self, bus: Bus, to_all: bytes, to_one: Callable[[int], bytes]) -> set[int]:
        """Ask all with one request, and each that stays silent once more by itself: it may wait for one that is missing.

        Returns who answered. Raises NoAnswer when nobody does, or somebody never has; PortLost.
        """
        found: dict[int, Status] = {}

        def take(heard: bytearray) -> bool | None:
            while (status := self._next_status(heard)) is not None:
                if status.id in self._ids and len(status.parameters) == self._size:
                    found[status.id] = status
            return True if len(found) == len(self._ids) else None

        try:
            bus.ask(to_all, take, tries=1)
        except NoAnswer:
            if not found:
                raise
            for servo in [each for each in self._ids if each not in found]:
                try:
                    found[servo] = ask_one(bus, self._next_status, to_one(servo), servo, self._size, tries=1)
                except NoAnswer:
                    pass
        for servo in self._ids:
            self._missed[servo] = 0 if servo in found else self._missed[servo] + 1
        self.newest.update(found)
        if len(self.newest) < len(self._ids):
            raise NoAnswer("not every servo has answered yet")
        return set(found)

    def faults(self) -> list[str]:
        return [f"servo {servo} does not answer" for servo, missed in self._missed.items() if missed >= MISSES]


def missing(kind: str, ids: Sequence[int], found: Sequence[int], port: str, baud: int) -> str:
    """What a person reads when not every servo is there."""
    absent = ", ".join(str(servo) for servo in ids if servo not in found)
    others = f"only {', '.join(map(str, found))} do" if found else "none does"
    return (
        f"{kind} servo {absent} does not answer on {port} at {baud} baud ({others}): see to the motors' power, the cable "
        "behind the last one that answers, and the keys ids and baud"
    )
