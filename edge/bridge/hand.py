"""Motors that are led by hand: lease and commands are fed exactly as told, so that what stops by itself can be seen to."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState

TURN_NS = 20_000_000
HELD_UP_NS = 80_000_000
PATIENCE_S = 3.0
STILL = 0.05
"""rad/s or m/s, at which an axis counts as standing."""
SPAN_MS = 150
MOVED = 0.03
"""rad or m, by which an axis has moved even where no speed is measured."""

Path = Callable[[float], Sequence[float]]
"""Targets in the units of the axes, by the seconds since it was begun."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One report. at: in the time of :meth:`Hand.late_ms`. measured_ms: when position and velocity were. cause: of the newest stop,
    in the controller's word. clamped: axes whose newest target was limited, by number; None where the controller does not say."""

    at: int
    measured_ms: float
    state: FirmwareState
    position: tuple[float, ...]
    velocity: tuple[float, ...]
    cause: str = ""
    clamped: frozenset[int] | None = None


class Hand(ABC):
    """leased: feed the lease at every turn. valid_ms: of commands. seen: every report since the last ``forget``. lease_end,
    command_end: when the newest ones run out, in the time of ``late_ms``. margin_ms: how late a stop may begin. causes: what a stop
    by the end of a lease, and of a command, is called. where: in messages. held_up: this computer stood still, and may have starved
    the lease itself."""

    margin_ms: float
    causes: tuple[str, str]

    def __init__(self, where: str, axes: tuple[Axis, ...], lease_ms: int = 200) -> None:
        self.where, self.axes = where, axes
        self.lease_ms = lease_ms
        self.leased = False
        self.held_up = False
        self.valid_ms = 200
        self.lease_end = self.command_end = 0
        self.seen: list[Seen] = []
        self.newest = Seen(0, 0.0, FirmwareState.OFFLINE, (), ())
        self._path: Path | None = None
        self._began_ns = 0

    # -- of the kind of controller -----------------------------------------------------------------------------------

    @abstractmethod
    def feed(self, until_ns: int) -> None:
        """A lease, and note its end."""

    @abstractmethod
    def say(self, targets: Sequence[float], until_ns: int) -> None:
        """A command, whatever the state and however large, and note its end."""

    @abstractmethod
    def listen(self, until_ns: int) -> None:
        """Take in reports."""

    @abstractmethod
    def ask_to_arm(self) -> str:
        """Why it refuses; empty if it does not."""

    @abstractmethod
    def disarm(self) -> None:
        """And wait for no answer."""

    @abstractmethod
    def stop(self) -> None:
        """An emergency stop."""

    @abstractmethod
    def clear(self) -> bool:
        """The emergency stop; False if it is still latched."""

    @abstractmethod
    def late_ms(self, at: int, end: int) -> float:
        """From the one to the other; negative if it was earlier."""

    # -- of all ------------------------------------------------------------------------------------------------------

    def note(self, report: Seen) -> None:
        self.newest = report
        self.seen.append(report)

    def forget(self) -> None:
        self.seen = [self.newest]

    def follow(self, path: Path | None) -> None:
        """From now on; None sends no commands."""
        self._path, self._began_ns = path, time.monotonic_ns()

    def turn(self) -> None:
        """Send what is to be sent, and listen for 20 ms. Raises LinkLost or BridgeError."""
        now_ns = time.monotonic_ns()
        if self.leased:
            self.feed(now_ns + self.lease_ms * 1_000_000)
        if self._path is not None:
            self.say(self._path((now_ns - self._began_ns) / 1e9), now_ns + self.valid_ms * 1_000_000)
        self.listen(now_ns + TURN_NS)
        self.held_up = self.held_up or time.monotonic_ns() - now_ns > HELD_UP_NS

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 1e9 / TURN_NS)):
            self.turn()

    def until(self, true: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        """Turn until it is true; False if it does not become so."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                return False
            self.turn()
        return True

    def fastest(self, axis: int) -> float:
        """As the device measures its speed. A joint follows its moving target in small jerks, so there its positions are taken, and
        also where no speed shows; those of wheels may be coarse."""
        measured = max((abs(report.velocity[axis]) for report in self.seen if report.velocity), default=0.0)
        return measured if measured > STILL and self.axes[axis].mode is AxisMode.VELOCITY else self._covered(axis)

    def _covered(self, axis: int) -> float:
        """The largest way over SPAN_MS, per second."""
        fastest, start = 0.0, 0
        for report in self.seen:
            while (passed_ms := report.measured_ms - self.seen[start].measured_ms) >= SPAN_MS:
                if report.position and self.seen[start].position:
                    fastest = max(fastest, 1000 * abs(report.position[axis] - self.seen[start].position[axis]) / passed_ms)
                start += 1
        return fastest

    def farthest(self, axis: int) -> float:
        """From the first report to the one that is farthest from it."""
        places = [report.position[axis] for report in self.seen if report.position]
        return max((abs(place - places[0]) for place in places), default=0.0)

    def moved(self, axis: int) -> bool:
        return self.fastest(axis) > STILL or self.farthest(axis) > MOVED

    def motionless(self) -> str:
        """The names of the axes that were not seen to move."""
        return ", ".join(axis.name for i, axis in enumerate(self.axes) if not self.moved(i))

    def standing(self) -> bool:
        return all(abs(speed) <= STILL for speed in self.newest.velocity)

    def begin(self, path: Path) -> None:
        """Arm, and follow it. Raises BridgeError."""
        self.leased, self.valid_ms = True, 200
        still = self._still()
        self.follow(lambda _: still)
        self.turn()
        if why := self.ask_to_arm():
            raise BridgeError(f"the controller on {self.where} does not arm: {why}")
        if not self.until(lambda: self.newest.state is FirmwareState.ACTIVE):
            raise BridgeError(f"the controller on {self.where} agrees to arm, and does not become active")
        self.forget()
        self.follow(path)

    def rest(self) -> None:
        """Disarmed and standing. Raises BridgeError."""
        self.leased = False
        self.follow(None)
        self.disarm()
        at_rest = (FirmwareState.LINKED, FirmwareState.SAFE)
        if not self.until(lambda: self.newest.state in at_rest and self.standing()):
            raise BridgeError(f"the motors of {self.where} do not come to rest: cut the power")
        self.forget()

    def _still(self) -> tuple[float, ...]:
        """Targets that move nothing."""
        return tuple(
            at if axis.mode is AxisMode.POSITION else 0.0 for axis, at in zip(self.axes, self.newest.position, strict=True)
        )
