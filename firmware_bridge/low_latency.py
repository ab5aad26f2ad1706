"""Serial drivers that wait before they deliver: the FTDI chip's latency timer and the kernel's low-latency flag.

An FTDI chip keeps received bytes for up to 16 ms unless told otherwise. Both settings are tried when a port is opened; the timer
needs the right to write in sysfs, and who lacks it is told the command.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import serial

log = logging.getLogger(__name__)

SYSFS = Path("/sys")
WANTED_MS = 1
RULE = 'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"'
"""For /etc/udev/rules.d, so that it holds for every FTDI adapter and after every plugging in."""


def timer_of(device: str, sysfs: Path = SYSFS) -> Path | None:
    """The file with the latency timer of this port, ms; None if it has none."""
    path = sysfs / "bus/usb-serial/devices" / Path(os.path.realpath(device)).name / "latency_timer"
    return path if path.exists() else None


def timer_ms(timer: Path) -> int | None:
    """None if it cannot be read."""
    try:
        return int(timer.read_text())
    except (OSError, ValueError):
        return None


def command_for(timer: Path) -> str:
    """What sets it until the adapter is unplugged."""
    return f"echo {WANTED_MS} | sudo tee {timer}"


def make_fast(port: serial.SerialBase, device: str, sysfs: Path = SYSFS) -> None:
    """Do what is permitted. What is not is logged with the command that does it."""
    try:
        port.set_low_latency_mode(True)  # ASYNC_LOW_LATENCY, with TIOCSSERIAL
    except (AttributeError, NotImplementedError, ValueError, OSError):
        pass  # not a UART: pseudo-terminals and USB-CDC devices deliver at once
    timer = timer_of(device, sysfs)
    if timer is None or (waits_ms := timer_ms(timer)) is None or waits_ms <= WANTED_MS:
        return
    try:
        timer.write_text(f"{WANTED_MS}")
    except OSError:
        log.warning("%s keeps every answer for up to %d ms: run '%s'", device, waits_ms, command_for(timer))
