"""Which board answers on a port: the first words of a session, and nothing that could move a motor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from firmware_bridge.board_settings import NONE, Value
from firmware_bridge.controller import BridgeError, Identity
from firmware_bridge.device import LATENTLOOP, Device
from firmware_bridge.drivers import spec as specs
from firmware_bridge.drivers.registry import keys_of
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import text
from firmware_bridge.serial_controller import COMMON_BAUD
from firmware_bridge.serial_port import open_port

PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Board:
    """Where a board with latentloop's firmware is. port, baud: see :func:`firmware_bridge.serial_port.open_port`."""

    port: str
    baud: int


def board_of(text: str) -> Board | None:
    """The board that a spec names; None for another kind of controller. Raises BridgeError for what is no spec."""
    spec = specs.parse(text)
    if (spec.kind or LATENTLOOP) != LATENTLOOP:
        return None
    specs.check_keys(spec, tuple(keys_of(LATENTLOOP)))
    return Board(spec.port, spec.integer("baud", COMMON_BAUD, 9600, 4_000_000))


@contextlib.contextmanager
def talking_to(
    board: Board, period_ms: int = 20, timeout_s: float = PATIENCE_S, settings: Mapping[str, Value] = NONE
) -> Iterator[Device]:
    """A session with whatever axes it has; the port is closed in every case. settings: to be in force in it. Raises BridgeError."""
    link = Link(open_port(board.port, board.baud))
    try:
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        yield Device.begin(link, board.port, None, period_ms, deadline_ns, settings)
    except LinkLost as error:
        raise BridgeError(f"the link to {board.port} broke: {error}") from None
    finally:
        link.close()


def identity_of(device: Device, board: Board) -> Identity:
    """As its controller would say it."""
    return device.identity(board.port if board.baud == COMMON_BAUD else f"{LATENTLOOP}:{board.port}?baud={board.baud}")


def axes_of(device: Device) -> tuple[str, ...]:
    """Their names."""
    return tuple(text(axis.name) for axis in device.session.axes)
