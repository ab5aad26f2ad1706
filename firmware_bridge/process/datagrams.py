"""What the two processes say to each other: one MessagePack datagram each, over a SOCK_SEQPACKET pair.

Targets go one way and are never answered; the newest counts. An ``Ask`` is answered by one ``Answer`` with its
number. Reports and log lines come by themselves. The end of either process closes the socket for the other.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from firmware_bridge.controller import Axis, Identity, Telemetry

LONGEST = 65_536
Verb = Literal["connect", "keep_connecting", "identify", "arm", "disarm", "estop", "clear_estop", "close"]


class Settings(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first datagram: which controller, see :func:`firmware_bridge.drivers.make_controller`. log_level: of Python's
    logging; less important lines stay in the child."""

    spec: str
    axes: tuple[str, ...]
    baud: int
    lease_s: float
    log_level: int


class Targets(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """See MotorController.send."""

    targets: tuple[float, ...]
    valid_until_ns: int


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A call of MotorController. argument: a time-out in seconds, or the reason of an estop."""

    number: int
    verb: Verb
    argument: float = 0.0


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """refused: the message of the BridgeError, empty if all went well. axes: what ``describe`` says, after connect. identity: after
    identify."""

    number: int
    refused: str = ""
    axes: tuple[Axis, ...] = ()
    identity: Identity | None = None


class Report(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The newest telemetry; also without news, as a sign of life."""

    telemetry: Telemetry


class LogLine(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """As in Python's logging. name: of the logger. text: with the traceback, if there is one."""

    level: int
    name: str
    text: str


ToChild = Settings | Targets | Ask
ToParent = Answer | Report | LogLine

encode = msgspec.msgpack.Encoder().encode
read_by_child = msgspec.msgpack.Decoder(ToChild).decode
read_by_parent = msgspec.msgpack.Decoder(ToParent).decode
