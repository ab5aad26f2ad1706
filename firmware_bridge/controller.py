"""The one contract behind which every motor controller sits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable


class FirmwareState(str, Enum):
    """The firmware's states (see docs/protocol.md)."""

    OFFLINE = "offline"
    IDLE = "idle"
    LINKED = "linked"
    ACTIVE = "active"
    SAFE_STOP = "safe_stop"
    SAFE = "safe"
    ESTOP = "estop"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """What went over the wire since the link opened."""

    sent: int = 0
    acked: int = 0
    received: int = 0
    crc_errors: int = 0
    dropped: int = 0


class AxisMode(str, Enum):
    """What the target of an axis is: how fast to go, or where to be."""

    VELOCITY = "velocity"
    POSITION = "position"


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis as its controller takes commands.

    unit: of a target, "rad/s" or "m/s" in velocity mode, "rad" in position mode. low, high: the range of targets, in that
    unit. max_speed: rad/s or m/s. max_acceleration: the same per second; the controller keeps to it by itself.
    """

    name: str
    mode: AxisMode
    unit: str
    low: float
    high: float
    max_speed: float
    max_acceleration: float


@dataclass(frozen=True, slots=True)
class Health:
    """What the hardware feels like. supply_v: V, None where it is not measured. temperature_c: degrees Celsius per axis, or
    one for all; empty where it is not measured."""

    supply_v: float | None = None
    temperature_c: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """The newest command of which the device says that it acts on it. Times are host monotonic ns.

    valid_until_ns: as given to ``send``, which tells the commands apart; of a plan, the time of its last knot. sent_ns: when it was
    handed to the wire. applied_ns: when the device began to act on it, right within bound_ns.
    """

    valid_until_ns: int
    sent_ns: int
    applied_ns: int
    bound_ns: int


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The newest word from the motors.

    position: rad per axis. velocity: rad/s per axis (m and m/s for axes whose unit is m/s). current: A per axis, empty
    where it is not measured. received_ns: host monotonic time of arrival, 0 if never. firmware: name and version as the
    device reports them. faults: names, empty if none. measured_ns: host monotonic time at which the device took these
    numbers, as exact as the two clocks are related; 0 if never. trouble: why it is OFFLINE, or why the last request was
    refused, one sentence; empty when all is well. stop_cause: why the motors were last stopped, in the controller's own word.
    applied: None before the first, and where a controller cannot tell. planned_s: how long the motion of ``follow`` still goes on.
    """

    state: FirmwareState
    position: tuple[float, ...]
    velocity: tuple[float, ...]
    current: tuple[float, ...]
    received_ns: int
    firmware: str = ""
    faults: tuple[str, ...] = ()
    counts: LinkCounts = field(default_factory=LinkCounts)
    measured_ns: int = 0
    health: Health = field(default_factory=Health)
    trouble: str = ""
    stop_cause: str = "none"
    applied: Applied | None = None
    planned_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Knot:
    """Where the axes are to be at one moment of a planned motion.

    at_ns: host monotonic time, ns. position: rad, one per axis in the order of the axes; of no meaning for a velocity axis.
    velocity: rad/s, the same. Plain Python numbers.
    """

    at_ns: int
    position: tuple[float, ...]
    velocity: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which device answers, so that what was proved on one counts for no other.

    kind: "latentloop", or that of another make (docs/drivers.md). uid: the device's own serial number if unique, else the port that
    it is on, as far as that can be told: another device there then passes for this one. firmware: name and version. limits:
    checksum, hexadecimal, of all that limits what is commanded. simulated: it says of itself that it can hurt nobody. spec:
    how a command names it.
    """

    kind: str
    uid: str
    unique: bool
    firmware: str
    limits: str
    simulated: bool
    spec: str


class BridgeError(Exception):
    """The link or the device refused; the message says what, where and what to do."""


class MotorController(Protocol):
    """Motors at the other end of some wire. All calls are thread-safe; only ``connect``, ``arm`` and ``identity`` may block."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axis names, in the order of every per-axis tuple."""

    def describe(self) -> tuple[Axis, ...]:
        """Every axis in that order, with its mode, unit and limits. Raises BridgeError before ``connect``."""

    def identity(self) -> Identity:
        """Of the device that is connected now; it may be another one than a moment ago. May block for a second. Raises BridgeError
        while there is none."""

    def connect(self, timeout_s: float = 3.0) -> None:
        """Open the wire and shake hands. Raises BridgeError."""

    def arm(self, timeout_s: float = 1.0) -> None:
        """Ask the device to let motors move; only after an explicit act of a person.

        Raises BridgeError with the reason.
        """

    def disarm(self) -> None:
        """Ramp to standstill and drop the permission to move."""

    def estop(self, reason: int = 1) -> None:
        """Cut outputs now; latched on the device until :meth:`clear_estop`."""

    def clear_estop(self) -> None:
        """Release a latched emergency stop; leads to IDLE, never to motion."""

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        """Hand over the newest target per axis, in its unit (:class:`Axis`); latest wins, nothing is queued.

        valid_until_ns is host monotonic time; the link converts it to device time.
        """

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        """The loop says it is alive until then; the link feeds the device's lease only as long as this holds.

        engaged: the loop is actually commanding (False makes an ACTIVE device leave ACTIVE).
        """

    def telemetry(self) -> Telemetry:
        """The newest telemetry; never blocks."""

    def close(self) -> None:
        """Disarm, say goodbye, close the wire. Safe to call twice."""


@runtime_checkable
class TrajectoryController(MotorController, Protocol):
    """A motor controller that can be handed a motion to come. Not every controller is one; ask with ``isinstance``."""

    def most_knots(self) -> int:
        """How many knots a plan may have; 0 where what is behind it cannot follow. Raises BridgeError before ``connect``."""

    def follow(self, knots: Sequence[Knot], replace_from_ns: int | None = None) -> None:
        """Have the device move along these knots by itself, in place of what it has queued from replace_from_ns on (host monotonic
        ns; None: as soon as it can, which is 20 ms from now). Does not block; a newer plan, and ``send``, take its place.

        Between knots a position follows the cubic Hermite curve through positions and velocities, a velocity the straight line; all
        limits hold. To append, replace from a time after the last knot. A last knot with no velocity is a rest. After any other the
        motion goes on for UNDERRUN_MS, and then is a stop: so a late plan is bridged, and a planner that is gone moves nothing.
        Leases are needed all the same: ``heartbeat``, engaged. Knots that are past already are left out; while the device is not
        ACTIVE, or when all of them are past, the plan is held back and counted as dropped, as a command is.

        Raises BridgeError for what is no plan: no knot, or more than ``most_knots``, not one finite number per axis, times that do
        not rise by 1 ms at least, a knot more than 1.9 s ahead; and where the device cannot follow.
        """
