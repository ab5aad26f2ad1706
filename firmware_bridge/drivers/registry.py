"""Which motor controllers there are, and how one comes from a line of text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module

from firmware_bridge.board_settings import NONE, Value
from firmware_bridge.controller import BridgeError, MotorController
from firmware_bridge.device import LATENTLOOP
from firmware_bridge.drivers import spec as specs
from firmware_bridge.serial_controller import SerialController

DRIVERS = {
    "feetech": "firmware_bridge.drivers.feetech",
    "dynamixel": "firmware_bridge.drivers.dynamixel",
    "vesc": "firmware_bridge.drivers.vesc",
    "roboclaw": "firmware_bridge.drivers.roboclaw",
    "odrive": "firmware_bridge.drivers.odrive",
    "odrive-can": "firmware_bridge.drivers.odrive_can",
    "waveshare": "firmware_bridge.drivers.waveshare",
    "mavlink": "firmware_bridge.drivers.mavlink",
}
"""Modules with ``KEYS``, what may stand behind the question mark, and ``make``; loaded when asked for."""


def keys_of(kind: str) -> dict[str, str]:
    """Every key of a kind of controller, with a line on what it is."""
    if kind == LATENTLOOP:
        return {"baud": "1000000", "lease_ms": "100"}
    return dict(import_module(DRIVERS[kind]).KEYS)


def foreign(text: str) -> str | None:
    """The kind of controller, where a spec asks for another one than latentloop's firmware; None where it does not, or for none
    that there is. Raises BridgeError for text that is no spec."""
    kind = specs.parse(text).kind
    return kind if kind in DRIVERS else None


def make_controller(
    text: str,
    axes: Sequence[str] = (),
    *,
    baud: int = 1_000_000,
    lease_s: float = 0.1,
    state_hz: float = 50.0,
    settings: Mapping[str, Value] = NONE,
) -> MotorController:
    """The controller that a spec describes, not connected.

    text: ``kind:port?key=value&...``, or the bare port of a board with latentloop's firmware. axes: the names the robot
    gives them; empty to take the driver's. baud, lease_s: for latentloop's firmware, unless the spec says otherwise. state_hz:
    how often that firmware reports. settings: for latentloop's firmware only. Raises BridgeError, naming the key and the choices.
    """
    spec = specs.parse(text)
    kind = spec.kind or LATENTLOOP
    if kind != LATENTLOOP and kind not in DRIVERS:
        kinds = (LATENTLOOP, *DRIVERS)
        close = difflib.get_close_matches(kind, kinds, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(kinds)}"
        raise BridgeError(f"{text} asks for the unknown controller '{kind}': {hint}")
    specs.check_keys(spec, tuple(keys_of(kind)))
    if settings and kind != LATENTLOOP:
        raise BridgeError(
            f"{next(iter(settings))} is a setting of latentloop's firmware, and {text} is {kind}: set the limits of such a "
            "controller in its spec (docs/drivers.md)"
        )
    if kind == LATENTLOOP:
        return SerialController(
            spec.port,
            tuple(axes) or ("left", "right"),
            baud=spec.integer("baud", baud, 9600, 4_000_000),
            lease_s=spec.integer("lease_ms", round(lease_s * 1000), 50, 500) / 1000,
            state_hz=state_hz,
            settings=settings,
        )
    controller: MotorController = import_module(DRIVERS[kind]).make(spec, axes)
    return controller
