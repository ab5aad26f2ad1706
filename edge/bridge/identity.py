"""Which board answers on a port: the first words of a session, and nothing that could move a motor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from firmware_bridge.board_settings import NONE, Value
from firmware_bridge.controller import BridgeError
from firmware_bridge.device import Device
from firmware_bridge.drivers import spec as specs
from firmware_bridge.drivers.registry import LATENTLOOP, keys_of
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import text
from firmware_bridge.serial_port import open_port

BAUD = 1_000_000
PATIENCE_S = 3.0
SIMULATED = "latentloop-host"
"""The firmware that runs as a process and cannot hurt anybody calls itself so."""


@dataclass(frozen=True, slots=True)
class Board:
    """Where a board with latentloop's firmware is. port, baud: see :func:`firmware_bridge.serial_port.open_port`."""

    port: str
    baud: int


@dataclass(frozen=True, slots=True)
class Identity:
    """uid: serial number of the board, hexadecimal. limits_crc: of the limits in force. axes: names."""

    uid: str
    firmware: str
    limits_crc: int
    lease_cap_ms: float
    axes: tuple[str, ...]

    @property
    def simulated(self) -> bool:
        return is_simulated(self.firmware)


def is_simulated(firmware: str) -> bool:
    return firmware.startswith(SIMULATED)


def board_of(text: str) -> Board | None:
    """The board that a spec names; None for another kind of controller. Raises BridgeError for what is no spec."""
    spec = specs.parse(text)
    if (spec.kind or LATENTLOOP) != LATENTLOOP:
        return None
    specs.check_keys(spec, tuple(keys_of(LATENTLOOP)))
    return Board(spec.port, spec.integer("baud", BAUD, 9600, 4_000_000))


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


def identity_of(device: Device) -> Identity:
    session = device.session
    return Identity(
        uid=session.uid.hex(),
        firmware=session.firmware,
        limits_crc=session.limits_crc,
        lease_cap_ms=session.lease_cap_us / 1000,
        axes=tuple(text(axis.name) for axis in session.axes),
    )
