"""Opens a serial port, and says in one sentence why it cannot."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import termios
from pathlib import Path

import serial
from serial.tools import list_ports

from firmware_bridge import usb_ports
from firmware_bridge.controller import BridgeError
from firmware_bridge.line import READ_TIMEOUT_S, WRITE_TIMEOUT_S
from firmware_bridge.low_latency import make_fast
from firmware_bridge.port_holders import holders


def open_port(url: str, baud: int) -> serial.SerialBase:
    """Open a device path, ``usb:VID:PID[:SERIAL]`` or any URL that pyserial knows (``socket://``, ``rfc2217://`` ...), for this
    process alone and with as little latency as the system permits.

    What lay in its buffers is thrown away. Raises BridgeError.
    """
    device = usb_ports.device_of(url) if url.lower().startswith(usb_ports.PREFIX) else url
    try:
        port = serial.serial_for_url(
            device, baudrate=baud, timeout=READ_TIMEOUT_S, write_timeout=WRITE_TIMEOUT_S, exclusive=True
        )
        port.reset_input_buffer()
        port.reset_output_buffer()
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise BridgeError(_explain(device, error)) from None
    if "://" not in device:
        _keep_others_out(port, device)
        make_fast(port, device)
    return port


def _keep_others_out(port: serial.SerialBase, device: str) -> None:
    """pyserial's lock holds between programs that ask for it. This one holds against all, such as a modem manager; it is left
    out on pseudo-terminals, which nobody probes."""
    if os.path.realpath(device).startswith("/dev/pts/"):
        return
    try:
        fcntl.ioctl(port.fileno(), termios.TIOCEXCL)
    except OSError:
        pass  # a driver that does not know it


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
        users = ", ".join(holders(url)) or "another program"
        return f"{url} is in use by {users}: end it, or name another port"
    if "://" not in url and Path(url).exists() and not stat.S_ISCHR(os.stat(url).st_mode):
        return f"{url} is not a serial port: name a device such as /dev/ttyACM0"
    return f"{url} cannot be opened ({error}): check the port's name and the cable"


def _group(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return "dialout"
