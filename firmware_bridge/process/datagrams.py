"""What the two processes say to each other: one MessagePack datagram each, over a SOCK_SEQPACKET pair.

An ``Ask`` is answered by one ``Answer`` with its number. Plans are never answered; the newest of them and of the targets counts.
Reports and log lines come by themselves. The end of either process closes the socket for the other. What the parent says at every
turn goes other ways: see :mod:`.heartbeat` and :mod:`.targets`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from firmware_bridge.board_settings import Value
from firmware_bridge.controller import Axis, Identity, Knot, Telemetry

LONGEST = 65_536
Verb = Literal["connect", "keep_connecting", "identify", "arm", "disarm", "estop", "clear_estop", "close"]


class Settings(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first datagram: which controller, see :func:`firmware_bridge.drivers.registry.make_controller`. settings: of the board,
    by name. log_level: of Python's logging; less important lines stay in the child."""

    spec: str
    axes: tuple[str, ...]
    baud: int
    lease_s: float
    state_hz: float
    settings: dict[str, Value]
    log_level: int


class Plan(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """See TrajectoryController.follow. order: rises with every plan and every targets."""

    knots: tuple[Knot, ...]
    replace_from_ns: int | None
    order: int


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A call of MotorController. argument: a time-out in seconds, or the reason of an estop."""

    number: int
    verb: Verb
    argument: float = 0.0


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """refused: the message of the BridgeError, empty if all went well. axes, most_knots: what the controller says, after
    connect. identity: after identify."""

    number: int
    refused: str = ""
    axes: tuple[Axis, ...] = ()
    most_knots: int = 0
    identity: Identity | None = None


class Report(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The newest telemetry; also without news, as a sign of life."""

    telemetry: Telemetry


class LogLine(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """As in Python's logging. name: of the logger. text: with the traceback, if there is one."""

    level: int
    name: str
    text: str


ToChild = Settings | Plan | Ask
ToParent = Answer | Report | LogLine

encode = msgspec.msgpack.Encoder().encode
read_by_child = msgspec.msgpack.Decoder(ToChild).decode
read_by_parent = msgspec.msgpack.Decoder(ToParent).decode
