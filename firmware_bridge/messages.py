"""The messages of the protocol, defined once: packing, the schema id, the C header and the tables in the docs follow.

A message is a dataclass whose fields are laid out in order, little endian, without padding. Units are in the names or
in the field's own description. Changing anything here changes :data:`SCHEMA_ID`, and a host and a firmware that
disagree about it cannot read each other's session frames, only say so.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field, fields
from enum import IntEnum, IntFlag
from functools import cache
from typing import Any, ClassVar, TypeVar

MAGIC = 0x314C4C46
"""The first word of HELLO: "FLL1" on the wire."""
VERSION = 1
MAX_AXES = 8

M = TypeVar("M", bound="Message")

_KINDS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i"}
KIND_BYTES = {kind: struct.calcsize("<" + code) for kind, code in _KINDS.items()}


class State(IntEnum):
    """The firmware's states as they appear on the wire; 0 never does, it is the host's word for "not connected"."""

    OFFLINE = 0
    IDLE = 1
    LINKED = 2
    ACTIVE = 3
    SAFE_STOP = 4
    SAFE = 5
    ESTOP = 6
    FAULT = 7


class Code(IntEnum):
    """What an ACK says about the frame it answers."""

    OK = 0
    BAD_PAYLOAD = 1
    UNKNOWN_TYPE = 2
    BAD_VERSION = 3
    NO_SESSION = 4
    BAD_STATE = 5
    LATCHED = 6
    NO_LEASE = 7
    WRONG_LIMITS = 8
    WRONG_BOOT = 9
    BAD_MODE = 10
    BAD_AXIS = 11
    LATE = 12
    TOO_EARLY = 13
    WRONG_CHALLENGE = 14
    BAD_STREAM = 15


class StopCause(IntEnum):
    """Why the motors were last stopped."""

    NONE = 0
    LEASE_EXPIRED = 1
    COMMAND_EXPIRED = 2
    DISENGAGED = 3
    DISARMED = 4
    NEW_SESSION = 5
    REJECTED_COMMANDS = 6
    ESTOP = 7
    FAULT = 8


class Fault(IntFlag):
    """Reasons for FAULT, one bit each."""

    OVER_CURRENT = 1
    UNDER_VOLTAGE = 2
    ENCODER = 4
    WATCHDOG_RESET = 8
    DRIVER_LOST = 16


class Mode(IntEnum):
    """What the targets of a SET_NOW mean."""

    VELOCITY = 1


def _scalar(kind: str, means: str) -> Any:
    return field(metadata={"kind": kind, "count": 1, "means": means})


def _per_axis(kind: str, means: str) -> Any:
    return field(metadata={"kind": kind, "count": 0, "means": means})


def _bytes(count: int, means: str) -> Any:
    return field(metadata={"kind": "u8", "count": count, "means": means})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the layout. count: how many values, 0 for one per axis; kind: a key of KIND_BYTES."""

    name: str
    kind: str
    count: int
    means: str

    @property
    def type_text(self) -> str:
        return self.kind if self.count == 1 else f"{self.kind}[{self.count or 'n'}]"


class Message:
    """Base of all messages. TYPE is the type byte of the frame header."""

    __slots__ = ()
    TYPE: ClassVar[int]
    NAME: ClassVar[str]

    @classmethod
    @cache  # asked for with every frame
    def layout(cls) -> tuple[Field, ...]:
        found = fields(cls)  # type: ignore[arg-type]
        return tuple(Field(f.name, f.metadata["kind"], f.metadata["count"], f.metadata["means"]) for f in found)

    @classmethod
    def size(cls, axes: int) -> int:
        """Bytes of the payload on a device with that many axes."""
        return sum(KIND_BYTES[f.kind] * (f.count or axes) for f in cls.layout())

    def pack(self) -> bytes:
        """The payload. Raises struct.error if a value does not fit its field."""
        parts = []
        for f in self.layout():
            value = getattr(self, f.name)
            if f.count > 1:
                parts.append(struct.pack(f"{f.count}s", value))
            elif f.count == 1:
                parts.append(struct.pack("<" + _KINDS[f.kind], value))
            else:
                parts.append(struct.pack(f"<{len(value)}{_KINDS[f.kind]}", *value))
        return b"".join(parts)

    @classmethod
    def unpack(cls: type[M], payload: bytes) -> M:
        """Read a payload; the number of axes follows from its length. Raises ValueError if no number of axes fits."""
        fixed = cls.size(0)
        each = cls.size(1) - fixed
        axes = (len(payload) - fixed) // each if each else 0
        if len(payload) != fixed + axes * each or not 0 <= axes <= MAX_AXES:
            raise ValueError(f"{len(payload)} bytes are no {cls.NAME}")
        values: list[Any] = []
        offset = 0
        for f in cls.layout():
            count = f.count or axes
            size = count * KIND_BYTES[f.kind]
            piece = payload[offset : offset + size]
            offset += size
            if f.count > 1:
                values.append(piece)
            else:
                numbers = struct.unpack(f"<{count}{_KINDS[f.kind]}", piece)
                values.append(numbers if f.count == 0 else numbers[0])
        return cls(*values)


# -- host to device ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello(Message):
    """Begin a session. Sent outside any session; answered by HELLO_ACK, or by ACK if refused."""

    TYPE: ClassVar[int] = 0x01
    NAME: ClassVar[str] = "HELLO"
    magic: int = _scalar("u32", "0x314C4C46")
    min_version: int = _scalar("u8", "lowest major protocol version the host speaks")
    max_version: int = _scalar("u8", "highest")
    nonce: int = _scalar("u32", "random; a repeated HELLO with the same nonce gets the same session again")


@dataclass(frozen=True)
class TimeReq(Message):
    """Ask for the device's time; answered by TIME_RSP."""

    TYPE: ClassVar[int] = 0x02
    NAME: ClassVar[str] = "TIME_REQ"
    t_host_ns: int = _scalar("u64", "any number of the host's, echoed")


@dataclass(frozen=True)
class Lease(Message):
    """The control loop lives. Without a fresh lease nothing moves."""

    TYPE: ClassVar[int] = 0x03
    NAME: ClassVar[str] = "LEASE"
    expire_us: int = _scalar("u32", "device time at which the lease ends")
    host_state: int = _scalar("u8", "the host's own state, for the device's log; not interpreted")
    engaged: int = _scalar("u8", "1 if the loop is really commanding")
    last_state_seq: int = _scalar("u8", "seq of the last STATE the host received")
    reserved: int = _scalar("u8", "0")


@dataclass(frozen=True)
class Arm(Message):
    """Allow motion. The host proves that it knows the limits and the boot it is talking to."""

    TYPE: ClassVar[int] = 0x04
    NAME: ClassVar[str] = "ARM"
    limits_crc: int = _scalar("u32", "CRC-32 of the limits as the host read them")
    boot_id: int = _scalar("u32", "from HELLO_ACK")


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
    reason: int = _scalar("u8", "the host's own number, for the device's log; not interpreted")


@dataclass(frozen=True)
class EstopClear(Message):
    """Release a latched ESTOP or FAULT. Leads to IDLE."""

    TYPE: ClassVar[int] = 0x07
    NAME: ClassVar[str] = "ESTOP_CLEAR"
    challenge: int = _scalar("u16", "from STATE: proves that the host saw this very stop")


@dataclass(frozen=True)
class SetNow(Message):
    """New targets, effective at once, latest wins."""

    TYPE: ClassVar[int] = 0x10
    NAME: ClassVar[str] = "SET_NOW"
    mode: int = _scalar("u8", "1 = velocity in mrad/s")
    mask: int = _scalar("u8", "bit i: target i counts; other axes keep what they have")
    target: tuple[int, ...] = _per_axis("i32", "mrad/s")
    valid_until_us: int = _scalar("u32", "device time after which these targets are void")


@dataclass(frozen=True)
class AxisGet(Message):
    """Ask what one axis is; answered by AXIS."""

    TYPE: ClassVar[int] = 0x23
    NAME: ClassVar[str] = "AXIS_GET"
    axis: int = _scalar("u8", "0 to n - 1")


@dataclass(frozen=True)
class Subscribe(Message):
    """Ask for a periodic message."""

    TYPE: ClassVar[int] = 0x30
    NAME: ClassVar[str] = "SUBSCRIBE"
    stream: int = _scalar("u8", "type byte of the wanted message: 0x83 STATE or 0x86 STATS")
    period_ms: int = _scalar("u16", "5 or more; 0 ends it")


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
    answered_seq: int = _scalar("u8", "seq of the HELLO")
    version: int = _scalar("u8", "major protocol version of the session")
    session: int = _scalar("u8", "session id, never 0, for the headers of all further frames")
    axes: int = _scalar("u8", "n, the number of axes, 1 to 8")
    nonce: int = _scalar("u32", "from HELLO")
    boot_id: int = _scalar("u32", "random per start of the firmware")
    schema_id: int = _scalar("u32", "which message definitions the device was built with")
    limits_crc: int = _scalar("u32", "CRC-32 of the limits in force")
    lease_cap_us: int = _scalar("u32", "longest lease the device grants")
    reset_cause: int = _scalar("u8", "0 power, 1 watchdog, 2 software, 3 other")
    max_body: int = _scalar("u8", "longest frame body the device takes, in bytes")
    uid: bytes = _bytes(12, "serial number of the board")
    firmware: bytes = _bytes(40, "name and version, UTF-8, filled up with zeros")


@dataclass(frozen=True)
class TimeRsp(Message):
    """The device's time, 64 bits wide. The low 32 bits are what all other messages use."""

    TYPE: ClassVar[int] = 0x82
    NAME: ClassVar[str] = "TIME_RSP"
    t_host_ns: int = _scalar("u64", "from TIME_REQ")
    t_rx_us: int = _scalar("u64", "device time at which TIME_REQ arrived")
    t_tx_us: int = _scalar("u64", "device time at which this answer was put together")


@dataclass(frozen=True)
class StateReport(Message):
    """What the device does and measures."""

    TYPE: ClassVar[int] = 0x83
    NAME: ClassVar[str] = "STATE"
    t_us: int = _scalar("u32", "device time of this report")
    state: int = _scalar("u8", "see the states")
    stop_cause: int = _scalar("u8", "why the motors were last stopped, see the causes")
    faults: int = _scalar("u32", "latched faults, one bit each")
    last_seq: int = _scalar("u8", "seq of the last SET_NOW applied in this session")
    clamped: int = _scalar("u8", "bit i: that command asked too much of axis i and was clamped")
    applied_us: int = _scalar("u32", "device time at which it was applied; 0 if there was none yet")
    queue_ms: int = _scalar("u16", "motion still queued; 0 without trajectories")
    supply_mv: int = _scalar("u16", "supply voltage in mV; 0 = not measured")
    temperature_dc: int = _scalar("i16", "hottest driver in 0.1 degC; -32768 = not measured")
    challenge: int = _scalar("u16", "for ESTOP_CLEAR; 0 when nothing is latched")
    position: tuple[int, ...] = _per_axis("i32", "mrad")
    velocity: tuple[int, ...] = _per_axis("i32", "mrad/s")
    current: tuple[int, ...] = _per_axis("i16", "mA")


@dataclass(frozen=True)
class Ack(Message):
    """The answer to a frame with ACK_REQ; code 0 is yes, all else is no."""

    TYPE: ClassVar[int] = 0x84
    NAME: ClassVar[str] = "ACK"
    answered_seq: int = _scalar("u8", "seq of the answered frame")
    answered_type: int = _scalar("u8", "its type")
    code: int = _scalar("u8", "see the codes")


@dataclass(frozen=True)
class Stats(Message):
    """Counters since the start of the firmware; they wrap."""

    TYPE: ClassVar[int] = 0x86
    NAME: ClassVar[str] = "STATS"
    frames: int = _scalar("u32", "frames accepted")
    crc_errors: int = _scalar("u32", "frames with a wrong CRC, which is also what another schema looks like")
    cobs_errors: int = _scalar("u32", "frames that cannot be decoded or are shorter than a header and a CRC")
    overruns: int = _scalar("u32", "frames longer than the buffer")
    unknown: int = _scalar("u32", "frames with an unknown version, flag or type")
    stale: int = _scalar("u32", "frames of another session, or of none where one is needed")
    gaps: int = _scalar("u32", "frames missing by their seq")
    late: int = _scalar("u32", "leases and commands that were void when they arrived")
    rejects: int = _scalar("u32", "leases and commands refused for another reason")
    clamps: int = _scalar("u32", "leases and commands cut down to the limits")
    trips: int = _scalar("u32", "stops that nobody asked for, and emergency stops")
    leases: int = _scalar("u32", "leases accepted")
    tx_dropped: int = _scalar("u32", "own frames dropped because the host does not read")


@dataclass(frozen=True)
class Axis(Message):
    """What one axis is and may do."""

    TYPE: ClassVar[int] = 0x88
    NAME: ClassVar[str] = "AXIS"
    axis: int = _scalar("u8", "0 to n - 1")
    mode: int = _scalar("u8", "what SET_NOW commands: 1 = velocity")
    max_speed: int = _scalar("u32", "mrad/s")
    max_acceleration: int = _scalar("u32", "mrad/s^2")
    name: bytes = _bytes(16, "UTF-8, filled up with zeros")


TO_DEVICE: tuple[type[Message], ...] = (
    Hello, TimeReq, Lease, Arm, Disarm, Estop, EstopClear, SetNow, AxisGet, Subscribe, Ping,
)  # fmt: skip
TO_HOST: tuple[type[Message], ...] = (HelloAck, TimeRsp, StateReport, Ack, Stats, Axis)

SESSIONLESS = frozenset({Hello.TYPE, Estop.TYPE, Ping.TYPE})
"""What the device accepts with session 0."""


def schema_text() -> str:
    """The definition as text: a line per message of name, type and fields."""
    lines = (
        " ".join([m.NAME, f"{m.TYPE:02X}", *(f"{f.name}:{f.type_text}" for f in m.layout())]) for m in TO_DEVICE + TO_HOST
    )
    return "\n".join(lines) + "\n"


SCHEMA_ID = zlib.crc32(schema_text().encode())
"""CRC-32 of :func:`schema_text`. It goes into the CRC of every frame of a session."""


def limits_crc(lease_cap_us: int, axes: list[Axis]) -> int:
    """CRC-32 over the lease cap and then the payload of every AXIS in order: what ARM has to prove."""
    return zlib.crc32(struct.pack("<I", lease_cap_us) + b"".join(axis.pack() for axis in axes))


def text(raw: bytes) -> str:
    """A text field without its zeros."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
