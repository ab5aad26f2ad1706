"""The messages of the protocol, defined once: packing, the schema id, the C header and the tables in the docs follow.

Units are in the names or in the field's own description. Changing anything here changes :data:`SCHEMA_ID`, and a host
and a firmware that disagree about it cannot read each other's session frames, only say so.
"""

from __future__ import annotations

import struct
import zlib
from typing import Annotated, ClassVar

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


class Hello(Message, frozen=True):
    """Begin a session. Sent outside any session; answered by HELLO_ACK, or by ACK if refused."""

    TYPE: ClassVar[int] = 0x01
    NAME: ClassVar[str] = "HELLO"
    magic: Annotated[int, scalar("u32", "0x314C4C46")]
    min_version: Annotated[int, scalar("u8", "lowest major protocol version the host speaks")]
    max_version: Annotated[int, scalar("u8", "highest")]
    nonce: Annotated[int, scalar("u32", "random; a repeated HELLO with the same nonce gets the same session again")]


class TimeReq(Message, frozen=True):
    """Ask for the device's time; answered by TIME_RSP."""

    TYPE: ClassVar[int] = 0x02
    NAME: ClassVar[str] = "TIME_REQ"
    t_host_ns: Annotated[int, scalar("u64", "any number of the host's, echoed")]


class Lease(Message, frozen=True):
    """The control loop lives. Without a fresh lease nothing moves."""

    TYPE: ClassVar[int] = 0x03
    NAME: ClassVar[str] = "LEASE"
    expire_us: Annotated[int, scalar("u32", "device time at which the lease ends")]
    host_state: Annotated[int, scalar("u8", "the host's own state, for the device's log; not interpreted")]
    engaged: Annotated[int, scalar("u8", "1 if the loop is really commanding")]
    last_state_seq: Annotated[int, scalar("u8", "seq of the last STATE the host received")]
    reserved: Annotated[int, scalar("u8", "0")]


class Arm(Message, frozen=True):
    """Allow motion. The host proves that it knows the limits and the boot it is talking to."""

    TYPE: ClassVar[int] = 0x04
    NAME: ClassVar[str] = "ARM"
    limits_crc: Annotated[int, scalar("u32", "CRC-32 of the limits as the host read them")]
    boot_id: Annotated[int, scalar("u32", "from HELLO_ACK")]


class Disarm(Message, frozen=True):
    """Ramp to standstill and withdraw the permission to move."""

    TYPE: ClassVar[int] = 0x05
    NAME: ClassVar[str] = "DISARM"


class Estop(Message, frozen=True):
    """Cut the outputs now. Accepted outside any session and from any version; send it three times."""

    TYPE: ClassVar[int] = 0x06
    NAME: ClassVar[str] = "ESTOP"
    reason: Annotated[int, scalar("u8", "the host's own number, for the device's log; not interpreted")]


class EstopClear(Message, frozen=True):
    """Release a latched ESTOP or FAULT. Leads to IDLE."""

    TYPE: ClassVar[int] = 0x07
    NAME: ClassVar[str] = "ESTOP_CLEAR"
    challenge: Annotated[int, scalar("u16", "from STATE: proves that the host saw this very stop")]


class SetNow(Message, frozen=True):
    """New targets, effective at once, latest wins. Ends a trajectory."""

    TYPE: ClassVar[int] = 0x10
    NAME: ClassVar[str] = "SET_NOW"
    mode: Annotated[int, scalar("u8", "1 = velocity, 2 = position; that of every axis named")]
    mask: Annotated[int, scalar("u8", "bit i: target i counts; other axes keep what they have")]
    target: Annotated[tuple[int, ...], per_axis("i32", "mrad/s or mrad")]
    valid_until_us: Annotated[int, scalar("u32", "device time after which these targets are void")]


class Point(Message, frozen=True):
    """One point of a trajectory, a part of TRAJ_PUSH and no message of its own."""

    TYPE: ClassVar[int] = 0x00
    NAME: ClassVar[str] = "POINT"
    t_us: Annotated[int, scalar("u32", "device time at which the axes are there")]
    position: Annotated[tuple[int, ...], per_axis("i32", "mrad; of no meaning for a velocity axis")]
    velocity: Annotated[tuple[int, ...], per_axis("i32", "mrad/s")]


class TrajPush(Message, frozen=True):
    """Put points into the trajectory buffer, instead of all that is queued from a time on. Taken as a whole or not."""

    TYPE: ClassVar[int] = 0x11
    NAME: ClassVar[str] = "TRAJ_PUSH"
    replace_from_us: Annotated[int, scalar("u32", "from this device time on the queued motion is dropped")]
    points: Annotated[tuple[Point, ...], rest("1 to 4 points, rising in time")]

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


class ParamGet(Message, frozen=True):
    """Ask for a parameter; answered by PARAM."""

    TYPE: ClassVar[int] = 0x20
    NAME: ClassVar[str] = "PARAM_GET"
    parameter: Annotated[int, scalar("u8", "see the parameters")]
    axis: Annotated[int, scalar("u8", "0 to n - 1; 0 for a parameter of the device")]


class ParamSet(Message, frozen=True):
    """Set a parameter until the firmware restarts. In LINKED only."""

    TYPE: ClassVar[int] = 0x21
    NAME: ClassVar[str] = "PARAM_SET"
    parameter: Annotated[int, scalar("u8", "see the parameters")]
    axis: Annotated[int, scalar("u8", "0 to n - 1; 0 for a parameter of the device")]
    value: Annotated[int, scalar("i32", "within the range that PARAM tells")]


class LimitsSet(Message, frozen=True):
    """Set the limits of an axis until the firmware restarts, never beyond what is compiled in. In LINKED only."""

    TYPE: ClassVar[int] = 0x22
    NAME: ClassVar[str] = "LIMITS_SET"
    axis: Annotated[int, scalar("u8", "0 to n - 1")]
    max_speed: Annotated[int, scalar("u32", "mrad/s")]
    max_acceleration: Annotated[int, scalar("u32", "mrad/s^2, at least 1; stops go on using the compiled one")]
    min_position: Annotated[int, scalar("i32", "mrad; 0 for a velocity axis")]
    max_position: Annotated[int, scalar("i32", "mrad; 0 for a velocity axis")]


class AxisGet(Message, frozen=True):
    """Ask what one axis is; answered by AXIS."""

    TYPE: ClassVar[int] = 0x23
    NAME: ClassVar[str] = "AXIS_GET"
    axis: Annotated[int, scalar("u8", "0 to n - 1")]


class Subscribe(Message, frozen=True):
    """Ask for a periodic message."""

    TYPE: ClassVar[int] = 0x30
    NAME: ClassVar[str] = "SUBSCRIBE"
    stream: Annotated[int, scalar("u8", "type byte of the wanted message: 0x83 STATE or 0x86 STATS")]
    period_ms: Annotated[int, scalar("u16", "5 or more; 0 ends it")]


class EventAck(Message, frozen=True):
    """The host has taken note of an event: the device forgets it."""

    TYPE: ClassVar[int] = 0x31
    NAME: ClassVar[str] = "EVENT_ACK"
    number: Annotated[int, scalar("u8", "from EVENT")]


class Ping(Message, frozen=True):
    """Does nothing; with ACK_REQ it is answered by ACK. Accepted outside any session."""

    TYPE: ClassVar[int] = 0x7E
    NAME: ClassVar[str] = "PING"


# -- device to host ------------------------------------------------------------------------------------------------


class HelloAck(Message, frozen=True):
    """The session begins. Sent outside any session so that a host of another schema can read it."""

    TYPE: ClassVar[int] = 0x81
    NAME: ClassVar[str] = "HELLO_ACK"
    answered_seq: Annotated[int, scalar("u8", "seq of the HELLO")]
    version: Annotated[int, scalar("u8", "major protocol version of the session")]
    session: Annotated[int, scalar("u8", "session id, never 0, for the headers of all further frames")]
    axes: Annotated[int, scalar("u8", "n, the number of axes, 1 to 8")]
    nonce: Annotated[int, scalar("u32", "from HELLO")]
    boot_id: Annotated[int, scalar("u32", "random per start of the firmware")]
    schema_id: Annotated[int, scalar("u32", "which message definitions the device was built with")]
    limits_crc: Annotated[int, scalar("u32", "CRC-32 of the limits in force")]
    lease_cap_us: Annotated[int, scalar("u32", "longest lease the device grants")]
    reset_cause: Annotated[int, scalar("u8", "0 power, 1 watchdog, 2 software, 3 other")]
    max_body: Annotated[int, scalar("u8", "longest frame body the device takes, in bytes")]
    trajectory_points: Annotated[int, scalar("u8", "room for so many points of a trajectory; 0 = no trajectories")]
    commit_us: Annotated[int, scalar("u32", "motion due within this time from now is not replaced any more")]
    uid: Annotated[bytes, raw(12, "serial number of the board")]
    firmware: Annotated[bytes, raw(40, "name and version, UTF-8, filled up with zeros")]


class TimeRsp(Message, frozen=True):
    """The device's time, 64 bits wide. The low 32 bits are what all other messages use."""

    TYPE: ClassVar[int] = 0x82
    NAME: ClassVar[str] = "TIME_RSP"
    t_host_ns: Annotated[int, scalar("u64", "from TIME_REQ")]
    t_rx_us: Annotated[int, scalar("u64", "device time at which TIME_REQ arrived")]
    t_tx_us: Annotated[int, scalar("u64", "device time at which this answer was put together")]


class StateReport(Message, frozen=True):
    """What the device does and measures."""

    TYPE: ClassVar[int] = 0x83
    NAME: ClassVar[str] = "STATE"
    t_us: Annotated[int, scalar("u32", "device time of this report")]
    state: Annotated[int, scalar("u8", "see the states")]
    stop_cause: Annotated[int, scalar("u8", "why the motors were last stopped, see the causes")]
    faults: Annotated[int, scalar("u32", "latched faults, one bit each")]
    last_seq: Annotated[int, scalar("u8", "seq of the last SET_NOW or TRAJ_PUSH taken in this session")]
    clamped: Annotated[int, scalar("u8", "bit i: that command asked too much of axis i and was clamped")]
    powered: Annotated[int, scalar("u8", "bit i: axis i is driven, which includes being held")]
    applied_us: Annotated[int, scalar("u32", "device time at which it was taken; 0 if there was none yet")]
    queue_ms: Annotated[int, scalar("u16", "time until the last queued point of the trajectory")]
    supply_mv: Annotated[int, scalar("u16", "supply voltage in mV; 0 = not measured")]
    temperature_dc: Annotated[int, scalar("i16", "hottest driver in 0.1 degC; -32768 = not measured")]
    challenge: Annotated[int, scalar("u16", "for ESTOP_CLEAR; 0 when nothing is latched")]
    position: Annotated[tuple[int, ...], per_axis("i32", "mrad")]
    velocity: Annotated[tuple[int, ...], per_axis("i32", "mrad/s")]
    current: Annotated[tuple[int, ...], per_axis("i16", "mA")]


class Ack(Message, frozen=True):
    """The answer to a frame with ACK_REQ; code 0 is yes, all else is no."""

    TYPE: ClassVar[int] = 0x84
    NAME: ClassVar[str] = "ACK"
    answered_seq: Annotated[int, scalar("u8", "seq of the answered frame")]
    answered_type: Annotated[int, scalar("u8", "its type")]
    code: Annotated[int, scalar("u8", "see the codes")]


class Event(Message, frozen=True):
    """The motors were stopped by something other than DISARM. Repeated until EVENT_ACK, also to the next host."""

    TYPE: ClassVar[int] = 0x85
    NAME: ClassVar[str] = "EVENT"
    number: Annotated[int, scalar("u8", "counts the events")]
    cause: Annotated[int, scalar("u8", "see the causes")]
    state: Annotated[int, scalar("u8", "the state it led to")]
    faults: Annotated[int, scalar("u32", "latched faults at that time")]
    at_us: Annotated[int, scalar("u32", "device time at which it happened")]


class Stats(Message, frozen=True):
    """Counters since the start of the firmware; they wrap."""

    TYPE: ClassVar[int] = 0x86
    NAME: ClassVar[str] = "STATS"
    frames: Annotated[int, scalar("u32", "frames accepted")]
    crc_errors: Annotated[int, scalar("u32", "frames with a wrong CRC, which is also what another schema looks like")]
    cobs_errors: Annotated[int, scalar("u32", "frames that cannot be decoded or are shorter than a header and a CRC")]
    overruns: Annotated[int, scalar("u32", "frames longer than the buffer")]
    unknown: Annotated[int, scalar("u32", "frames with an unknown version, flag or type")]
    stale: Annotated[int, scalar("u32", "frames of another session, or of none where one is needed")]
    gaps: Annotated[int, scalar("u32", "frames missing by their seq")]
    late: Annotated[int, scalar("u32", "leases, commands and points that were void when they arrived")]
    rejects: Annotated[int, scalar("u32", "leases and commands refused for another reason")]
    clamps: Annotated[int, scalar("u32", "leases and commands cut down to the limits")]
    trips: Annotated[int, scalar("u32", "stops that nobody asked for, and emergency stops")]
    leases: Annotated[int, scalar("u32", "leases accepted")]
    tx_dropped: Annotated[int, scalar("u32", "own frames dropped because the host does not read")]
    points: Annotated[int, scalar("u32", "points of trajectories taken")]
    underruns: Annotated[int, scalar("u32", "trajectories that ended in motion")]
    events_lost: Annotated[int, scalar("u32", "events not kept because four were waiting for EVENT_ACK")]
    longest_tick_us: Annotated[int, scalar("u32", "longest time between two control steps")]


class Param(Message, frozen=True):
    """The value of a parameter and what PARAM_SET would take."""

    TYPE: ClassVar[int] = 0x87
    NAME: ClassVar[str] = "PARAM"
    parameter: Annotated[int, scalar("u8", "see the parameters")]
    axis: Annotated[int, scalar("u8", "0 to n - 1; 0 for a parameter of the device")]
    value: Annotated[int, scalar("i32", "in force")]
    low: Annotated[int, scalar("i32", "lowest value that can be set")]
    high: Annotated[int, scalar("i32", "highest")]


class Axis(Message, frozen=True):
    """What one axis is and may do."""

    TYPE: ClassVar[int] = 0x88
    NAME: ClassVar[str] = "AXIS"
    axis: Annotated[int, scalar("u8", "0 to n - 1")]
    mode: Annotated[int, scalar("u8", "what commands it: 1 = velocity, 2 = position")]
    max_speed: Annotated[int, scalar("u32", "mrad/s")]
    max_acceleration: Annotated[int, scalar("u32", "mrad/s^2")]
    min_position: Annotated[int, scalar("i32", "mrad; 0 for a velocity axis")]
    max_position: Annotated[int, scalar("i32", "mrad; 0 for a velocity axis")]
    name: Annotated[bytes, raw(16, "UTF-8, filled up with zeros")]


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
