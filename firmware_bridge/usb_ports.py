"""Serial ports by what is plugged in, ``usb:VID:PID[:SERIAL]``, and not by the number that they got this time."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from serial.tools import list_ports

from firmware_bridge.controller import BridgeError

PREFIX = "usb:"
_NAME = re.compile(r"usb:([0-9a-f]{4}):([0-9a-f]{4})(?::(.+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UsbPort:
    """device: path, as /dev/ttyACM0. serial: number of the device, empty if it has none. description: for people."""

    device: str
    vid: int
    pid: int
    serial: str
    description: str

    @property
    def name(self) -> str:
        """What finds this port again, wherever it is plugged in."""
        return f"{PREFIX}{self.vid:04x}:{self.pid:04x}" + (f":{self.serial}" if self.serial else "")


def plugged_in() -> list[UsbPort]:
    """All serial ports with a USB identity, in the order of their paths."""
    found = [
        UsbPort(port.device, port.vid, port.pid or 0, port.serial_number or "", port.description or "")
        for port in list_ports.comports()
        if port.vid is not None
    ]
    return sorted(found, key=lambda port: port.device)


def name_behind(port: str) -> str:
    """What is known of where a device is plugged in, whatever number its port got: the name of the USB device, or the port as given
    where there is none. port: as in :func:`firmware_bridge.serial_port.open_port`."""
    if "://" in port or not (port.lower().startswith(PREFIX) or os.sep in port):
        return port  # a CAN channel, too
    device = device_of(port) if port.lower().startswith(PREFIX) else os.path.realpath(port)
    return next((each.name for each in plugged_in() if os.path.realpath(each.device) == os.path.realpath(device)), device)


def device_of(name: str) -> str:
    """The path of the one port with this name. Raises BridgeError if it is no such name, or names none or several."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise BridgeError(f"{name} names no USB device: write usb:VID:PID or usb:VID:PID:SERIAL, as usb:2e8a:000a")
    vid, pid, serial = int(match[1], 16), int(match[2], 16), match[3]
    ports = plugged_in()
    fitting = [port for port in ports if (port.vid, port.pid) == (vid, pid) and serial in (None, port.serial)]
    if len(fitting) == 1:
        return fitting[0].device
    if not fitting:
        there = ", ".join(port.name for port in ports) or "none"
        raise BridgeError(f"no serial port {name} is plugged in: plug it in or name another (found: {there})")
    names = ", ".join(port.name if port.serial else port.device for port in fitting)
    raise BridgeError(f"{len(fitting)} serial ports are {name}: name one of {names}")
