"""The messages of the protocol, defined once: packing, the schema id, the C header and the tables in the docs follow.

Units are in the names or in the field's own description. Changing anything here changes :data:`SCHEMA_ID`, and a host
and a firmware that disagree about it cannot read each other's session frames, only say so.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import ClassVar

from firmware_bridge.codes import Code, Drive, Fault, Mode, Parameter, State, StopCause, StopPolicy
from firmware_bridge.layout import KIND_BYTES, MAX_AXES, POINTS, Field, Message, per_axis, raw, rest, scalar

__all__ = [
    "KIND_BYTES",
    "MAX_AXES",
    "POINTS",
    "Code",
    "Drive",
    "Fault",
    "Field",
    "Message",
    "Mode",
    "Parameter",
    "State",
    "StopCause",
    "StopPolicy",
]

MAGIC = 0x314C4C46
"""The first word of HELLO: "FLL1" on the wire."""
VERSION = 1
MAX_POINTS = 4
"""Most points in one TRAJ_PUSH; with many axes fewer fit."""


# -- host to device ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello(Message):
    """Begin a session. Sent outside any session; answered by HELLO_ACK, or by ACK if refused."""

    TYPE: ClassVar[int] = 0x01
    NAME: ClassVar[str] = "HELLO"
    magic: int = scalar("u32", "0x314C4C46")
    min_version: int = scalar("u8", "lowest major protocol version the host speaks")
    max_version: int = scalar("u8", "highest")
    nonce: int = scalar("u32", "random; a repeated HELLO with the same nonce gets the same session again")


@dataclass(frozen=True)
class TimeReq(Message):
    """Ask for the device's time; answered by TIME_RSP."""

    TYPE: ClassVar[int] = 0x02
    NAME: ClassVar[str] = "TIME_REQ"
    t_host_ns: int = scalar("u64", "any number of the host's, echoed")


@dataclass(frozen=True)
class Lease(Message):
    """The control loop lives. Without a fresh lease nothing moves."""

    TYPE: ClassVar[int] = 0x03
    NAME: ClassVar[str] = "LEASE"
    expire_us: int = scalar("u32", "device time at which the lease ends")
    host_state: int = scalar("u8", "the host's own state, for the device's log; not interpreted")
    engaged: int = scalar("u8", "1 if the loop is really commanding")
    last_state_seq: int = scalar("u8", "seq of the last STATE the host received")
    reserved: int = scalar("u8", "0")


@dataclass(frozen=True)
class Arm(Message):
    """Allow motion. The host proves that it knows the limits and the boot it is talking to."""

    TYPE: ClassVar[int] = 0x04
    NAME: ClassVar[str] = "ARM"
    limits_crc: int = scalar("u32", "CRC-32 of the limits as the host read them")
    boot_id: int = scalar("u32", "from HELLO_ACK")


@dataclass(frozen=True)
class Disarm(Message):
    """Ramp to standstill and withdraw the permission to move."""

    TYPE: ClassVar[int] = 0x05
    NAME: ClassVar[str] = "DISARM"


@dataclass(frozen=True)
class Estop(Message):
    """Cut the outputs now. Accepted outside any session and from any version; send it three times."""

    TYPE: ClassVar[int] = 0x06
    NAME: ClassVar[str] = "ESTOP"
    reason: int = scalar("u8", "the host's own number, for the device's log; not interpreted")


@dataclass(frozen=True)
class EstopClear(Message):
    """Release a latched ESTOP or FAULT. Leads to IDLE."""

    TYPE: ClassVar[int] = 0x07
    NAME: ClassVar[str] = "ESTOP_CLEAR"
    challenge: int = scalar("u16", "from STATE: proves that the host saw this very stop")


@dataclass(frozen=True)
class SetNow(Message):
    """New targets, effective at once, latest wins. Ends a trajectory."""

    TYPE: ClassVar[int] = 0x10
    NAME: ClassVar[str] = "SET_NOW"
    mode: int = scalar("u8", "1 = velocity, 2 = position; that of every axis named")
    mask: int = scalar("u8", "bit i: target i counts; other axes keep what they have")
    target: tuple[int, ...] = per_axis("i32", "mrad/s or mrad")
    valid_until_us: int = scalar("u32", "device time after which these targets are void")


@dataclass(frozen=True)
class Point(Message):
    """One point of a trajectory, a part of TRAJ_PUSH and no message of its own."""

    TYPE: ClassVar[int] = 0x00
    NAME: ClassVar[str] = "POINT"
    t_us: int = scalar("u32", "device time at which the axes are there")
    position: tuple[int, ...] = per_axis("i32", "mrad; of no meaning for a velocity axis")
    velocity: tuple[int, ...] = per_axis("i32", "mrad/s")


@dataclass(frozen=True)
class TrajPush(Message):
    """Put points into the trajectory buffer, instead of all that is queued from a time on. Taken as a whole or not."""

    TYPE: ClassVar[int] = 0x11
    NAME: ClassVar[str] = "TRAJ_PUSH"
    replace_from_us: int = scalar("u32", "from this device time on the queued motion is dropped")
    points: tuple[Point, ...] = rest("1 to 4 points, rising in time")

    def pack(self) -> bytes:
        return self.form(0).pack(self.replace_from_us) + b"".join([point.pack() for point in self.points])

    @classmethod
    def unpack(cls, payload: bytes, axes: int = 0) -> TrajPush:
        """The number of axes cannot be told from the length. Raises ValueError if it is none of that many axes."""
        size, head = Point.size(axes), cls.size(axes)
        count, rest = divmod(len(payload) - head, size)
        if not axes or rest or not 1 <= count <= MAX_POINTS:
            raise ValueError(f"{len(payload)} bytes are no {cls.NAME} of {axes} axes")
        points = tuple(Point.unpack(payload[at : at + size]) for at in range(head, len(payload), size))
        return cls(int.from_bytes(payload[:4], "little"), points)


@dataclass(frozen=True)
class ParamGet(Message):
    """Ask for a parameter; answered by PARAM."""

    TYPE: ClassVar[int] = 0x20
    NAME: ClassVar[str] = "PARAM_GET"
    parameter: int = scalar("u8", "see the parameters")
    axis: int = scalar("u8", "0 to n - 1; 0 for a parameter of the device")


@dataclass(frozen=True)
class ParamSet(Message):
    """Set a parameter until the firmware restarts. In LINKED only."""

    TYPE: ClassVar[int] = 0x21
    NAME: ClassVar[str] = "PARAM_SET"
    parameter: int = scalar("u8", "see the parameters")
    axis: int = scalar("u8", "0 to n - 1; 0 for a parameter of the device")
    value: int = scalar("i32", "within the range that PARAM tells")


@dataclass(frozen=True)
class LimitsSet(Message):
    """Set the limits of an axis until the firmware restarts, never beyond what is compiled in. In LINKED only."""

    TYPE: ClassVar[int] = 0x22
    NAME: ClassVar[str] = "LIMITS_SET"
    axis: int = scalar("u8", "0 to n - 1")
    max_speed: int = scalar("u32", "mrad/s")
    max_acceleration: int = scalar("u32", "mrad/s^2, at least 1; stops go on using the compiled one")
    min_position: int = scalar("i32", "mrad; 0 for a velocity axis")
    max_position: int = scalar("i32", "mrad; 0 for a velocity axis")


@dataclass(frozen=True)
class AxisGet(Message):
    """Ask what one axis is; answered by AXIS."""

    TYPE: ClassVar[int] = 0x23
    NAME: ClassVar[str] = "AXIS_GET"
    axis: int = scalar("u8", "0 to n - 1")


@dataclass(frozen=True)
class Subscribe(Message):
    """Ask for a periodic message."""

    TYPE: ClassVar[int] = 0x30
    NAME: ClassVar[str] = "SUBSCRIBE"
    stream: int = scalar("u8", "type byte of the wanted message: 0x83 STATE or 0x86 STATS")
    period_ms: int = scalar("u16", "5 or more; 0 ends it")


@dataclass(frozen=True)
class EventAck(Message):
    """The host has taken note of an event: the device forgets it."""

    TYPE: ClassVar[int] = 0x31
    NAME: ClassVar[str] = "EVENT_ACK"
    number: int = scalar("u8", "from EVENT")


@dataclass(frozen=True)
class Ping(Message):
    """Does nothing; with ACK_REQ it is answered by ACK. Accepted outside any session."""

    TYPE: ClassVar[int] = 0x7E
    NAME: ClassVar[str] = "PING"


# -- device to host ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HelloAck(Message):
    """The session begins. Sent outside any session so that a host of another schema can read it."""

    TYPE: ClassVar[int] = 0x81
    NAME: ClassVar[str] = "HELLO_ACK"
    answered_seq: int = scalar("u8", "seq of the HELLO")
    version: int = scalar("u8", "major protocol version of the session")
    session: int = scalar("u8", "session id, never 0, for the headers of all further frames")
    axes: int = scalar("u8", "n, the number of axes, 1 to 8")
    nonce: int = scalar("u32", "from HELLO")
    boot_id: int = scalar("u32", "random per start of the firmware")
    schema_id: int = scalar("u32", "which message definitions the device was built with")
    limits_crc: int = scalar("u32", "CRC-32 of the limits in force")
    lease_cap_us: int = scalar("u32", "longest lease the device grants")
    reset_cause: int = scalar("u8", "0 power, 1 watchdog, 2 software, 3 other")
    max_body: int = scalar("u8", "longest frame body the device takes, in bytes")
    trajectory_points: int = scalar("u8", "room for so many points of a trajectory; 0 = no trajectories")
    commit_us: int = scalar("u32", "motion due within this time from now is not replaced any more")
    uid: bytes = raw(12, "serial number of the board")
    firmware: bytes = raw(40, "name and version, UTF-8, filled up with zeros")


@dataclass(frozen=True)
class TimeRsp(Message):
    """The device's time, 64 bits wide. The low 32 bits are what all other messages use."""

    TYPE: ClassVar[int] = 0x82
    NAME: ClassVar[str] = "TIME_RSP"
    t_host_ns: int = scalar("u64", "from TIME_REQ")
    t_rx_us: int = scalar("u64", "device time at which TIME_REQ arrived")
    t_tx_us: int = scalar("u64", "device time at which this answer was put together")


@dataclass(frozen=True)
class StateReport(Message):
    """What the device does and measures."""

    TYPE: ClassVar[int] = 0x83
    NAME: ClassVar[str] = "STATE"
    t_us: int = scalar("u32", "device time of this report")
    state: int = scalar("u8", "see the states")
    stop_cause: int = scalar("u8", "why the motors were last stopped, see the causes")
    faults: int = scalar("u32", "latched faults, one bit each")
    last_seq: int = scalar("u8", "seq of the last SET_NOW or TRAJ_PUSH taken in this session")
    clamped: int = scalar("u8", "bit i: that command asked too much of axis i and was clamped")
    powered: int = scalar("u8", "bit i: axis i is driven, which includes being held")
    applied_us: int = scalar("u32", "device time at which it was taken; 0 if there was none yet")
    queue_ms: int = scalar("u16", "time until the last queued point of the trajectory")
    supply_mv: int = scalar("u16", "supply voltage in mV; 0 = not measured")
    temperature_dc: int = scalar("i16", "hottest driver in 0.1 degC; -32768 = not measured")
    challenge: int = scalar("u16", "for ESTOP_CLEAR; 0 when nothing is latched")
    position: tuple[int, ...] = per_axis("i32", "mrad")
    velocity: tuple[int, ...] = per_axis("i32", "mrad/s")
    current: tuple[int, ...] = per_axis("i16", "mA")


@dataclass(frozen=True)
class Ack(Message):
    """The answer to a frame with ACK_REQ; code 0 is yes, all else is no."""

    TYPE: ClassVar[int] = 0x84
    NAME: ClassVar[str] = "ACK"
    answered_seq: int = scalar("u8", "seq of the answered frame")
    answered_type: int = scalar("u8", "its type")
    code: int = scalar("u8", "see the codes")


@dataclass(frozen=True)
class Event(Message):
    """The motors were stopped by something other than DISARM. Repeated until EVENT_ACK, also to the next host."""

    TYPE: ClassVar[int] = 0x85
    NAME: ClassVar[str] = "EVENT"
    number: int = scalar("u8", "counts the events")
    cause: int = scalar("u8", "see the causes")
    state: int = scalar("u8", "the state it led to")
    faults: int = scalar("u32", "latched faults at that time")
    at_us: int = scalar("u32", "device time at which it happened")


@dataclass(frozen=True)
class Stats(Message):
    """Counters since the start of the firmware; they wrap."""

    TYPE: ClassVar[int] = 0x86
    NAME: ClassVar[str] = "STATS"
    frames: int = scalar("u32", "frames accepted")
    crc_errors: int = scalar("u32", "frames with a wrong CRC, which is also what another schema looks like")
    cobs_errors: int = scalar("u32", "frames that cannot be decoded or are shorter than a header and a CRC")
    overruns: int = scalar("u32", "frames longer than the buffer")
    unknown: int = scalar("u32", "frames with an unknown version, flag or type")
    stale: int = scalar("u32", "frames of another session, or of none where one is needed")
    gaps: int = scalar("u32", "frames missing by their seq")
    late: int = scalar("u32", "leases, commands and points that were void when they arrived")
    rejects: int = scalar("u32", "leases and commands refused for another reason")
    clamps: int = scalar("u32", "leases and commands cut down to the limits")
    trips: int = scalar("u32", "stops that nobody asked for, and emergency stops")
    leases: int = scalar("u32", "leases accepted")
    tx_dropped: int = scalar("u32", "own frames dropped because the host does not read")
    points: int = scalar("u32", "points of trajectories taken")
    underruns: int = scalar("u32", "trajectories that ended in motion")
    events_lost: int = scalar("u32", "events not kept because four were waiting for EVENT_ACK")
    longest_tick_us: int = scalar("u32", "longest time between two control steps")


@dataclass(frozen=True)
class Param(Message):
    """The value of a parameter and what PARAM_SET would take."""

    TYPE: ClassVar[int] = 0x87
    NAME: ClassVar[str] = "PARAM"
    parameter: int = scalar("u8", "see the parameters")
    axis: int = scalar("u8", "0 to n - 1; 0 for a parameter of the device")
    value: int = scalar("i32", "in force")
    low: int = scalar("i32", "lowest value that can be set")
    high: int = scalar("i32", "highest")


@dataclass(frozen=True)
class Axis(Message):
    """What one axis is and may do."""

    TYPE: ClassVar[int] = 0x88
    NAME: ClassVar[str] = "AXIS"
    axis: int = scalar("u8", "0 to n - 1")
    mode: int = scalar("u8", "what commands it: 1 = velocity, 2 = position")
    max_speed: int = scalar("u32", "mrad/s")
    max_acceleration: int = scalar("u32", "mrad/s^2")
    min_position: int = scalar("i32", "mrad; 0 for a velocity axis")
    max_position: int = scalar("i32", "mrad; 0 for a velocity axis")
    name: bytes = raw(16, "UTF-8, filled up with zeros")


TO_DEVICE: tuple[type[Message], ...] = (
    Hello, TimeReq, Lease, Arm, Disarm, Estop, EstopClear, SetNow, TrajPush, ParamGet, ParamSet, LimitsSet, AxisGet,
    Subscribe, EventAck, Ping,
)  # fmt: skip
TO_HOST: tuple[type[Message], ...] = (HelloAck, TimeRsp, StateReport, Ack, Event, Stats, Param, Axis)

EVERY: tuple[type[Message], ...] = (Point, *TO_DEVICE, *TO_HOST)

SESSIONLESS = frozenset({Hello.TYPE, Estop.TYPE, Ping.TYPE})
"""What the device accepts with session 0."""


def schema_text() -> str:
    """The definition as text: a line per message of name, type and fields."""
    lines = (
        " ".join([m.NAME, f"{m.TYPE:02X}", *(f"{f.name}:{f.type_text}" for f in m.layout())])
        for m in EVERY
    )
    return "\n".join(lines) + "\n"


SCHEMA_ID = zlib.crc32(schema_text().encode())
"""CRC-32 of :func:`schema_text`. It goes into the CRC of every frame of a session."""


def limits_crc(lease_cap_us: int, axes: list[Axis]) -> int:
    """CRC-32 over the lease cap and then the payload of every AXIS in order: what ARM has to prove."""
    return zlib.crc32(struct.pack("<I", lease_cap_us) + b"".join(axis.pack() for axis in axes))


def text(field: bytes) -> str:
    """A text field without its zeros."""
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
