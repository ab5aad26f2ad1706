"""Opens a serial port, and says in one sentence why it cannot."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import serial
from serial.tools import list_ports

from firmware_bridge.controller import BridgeError

READ_TIMEOUT_S = 0.02
WRITE_TIMEOUT_S = 0.005


def open_port(url: str, baud: int) -> serial.SerialBase:
    """Open a device path or any URL that pyserial knows (``socket://``, ``rfc2217://`` ...), for this process alone.

    What lay in its buffers is thrown away. Raises BridgeError.
    """
    try:
        port = serial.serial_for_url(
            url, baudrate=baud, timeout=READ_TIMEOUT_S, write_timeout=WRITE_TIMEOUT_S, exclusive=True
        )
        port.reset_input_buffer()
        port.reset_output_buffer()
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise BridgeError(_explain(url, error)) from None
    return port


def _explain(url: str, error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        found = ", ".join(port.device for port in list_ports.comports()) or "none"
        return f"there is no serial port {url}: plug the controller in or name another port (found: {found})"
    if number == errno.EACCES:
        group = _group(url)
        return (
            f"no permission to open {url}: add yourself to the group {group} "
            f"(sudo usermod -aG {group} $USER) and log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
        return f"{url} is in use by another program: end it, or name another port"
    if "://" not in url and Path(url).exists() and not stat.S_ISCHR(os.stat(url).st_mode):
        return f"{url} is not a serial port: name a device such as /dev/ttyACM0"
    return f"{url} cannot be opened ({error}): check the port's name and the cable"


def _group(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return "dialout"
