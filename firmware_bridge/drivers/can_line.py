"""A CAN bus: a channel of the kernel (``can0``), or an adapter on a serial port that speaks slcan. Needs the extra can."""

from __future__ import annotations

import errno
import select
import threading
import time
from collections.abc import Sequence
from typing import Any

import serial

from firmware_bridge import usb_ports
from firmware_bridge.controller import BridgeError, LinkCounts
from firmware_bridge.drivers.bus import SLICE_S, PortLost
from firmware_bridge.drivers.cansimple import Frame
from firmware_bridge.serial_port import open_port

WRITE_TIMEOUT_S = 0.005
LONGEST_S = 0.05
"""A bus that never falls silent does not hold the reader longer than this beyond what was asked."""


def python_can() -> Any:
    """The package. Raises BridgeError."""
    try:
        import can
    except ImportError:
        raise BridgeError("CAN needs the package python-can: pip install 'latentloop[can]'") from None
    return can


class CanLine:
    """One open bus, frames with 11-bit identifiers of some nodes. Not thread-safe.

    port: a path, pyserial URL or USB identity is an slcan adapter, anything else a channel of the kernel, whose bit rate is
    set where it is brought up. Raises BridgeError.
    """

    def __init__(self, port: str, bitrate: int, baud: int, nodes: Sequence[int], urgent: threading.Event) -> None:
        self._can = python_can()
        self._urgent = urgent
        self.sent = self.received = self.garbage = self.unsent = 0
        if port.lower().startswith(usb_ports.PREFIX):
            port = usb_ports.device_of(port)
        self._bus = self._adapter(port, bitrate, baud) if "/" in port or port.startswith("COM") else self._channel(port)
        self._bus.set_filters([{"can_id": node << 5, "can_mask": 0x7E0, "extended": False} for node in nodes])
        try:
            self._fd: int | None = self._bus.fileno()
        except (NotImplementedError, self._can.CanError):
            self._fd = None

    def write(self, frame: Frame) -> None:
        """A frame that nobody takes, because no other node is there to confirm it, is counted and dropped. Raises PortLost."""
        data = None if frame.remote else frame.data
        message = self._can.Message(
            arbitration_id=frame.id, is_extended_id=False, is_remote_frame=frame.remote, data=data
        )
        try:
            self._bus.send(message, timeout=WRITE_TIMEOUT_S)
            self.sent += 1
        except (self._can.CanError, OSError) as error:
            code = getattr(error, "error_code", None) or getattr(error, "errno", None)
            full = "buffer full" in str(error) or isinstance(error.__cause__, serial.SerialTimeoutException)
            if not full and code not in (errno.ENOBUFS, errno.EAGAIN):
                raise PortLost(f"writing failed ({error})") from None
            self.unsent += 1

    def heard(self, timeout_s: float) -> list[Frame]:
        """What came within so long, and all that had come before; ends at once when it is urgent. Raises PortLost."""
        found = []
        end = time.monotonic() + timeout_s
        last = end + LONGEST_S
        while not self._urgent.is_set():
            left = end - time.monotonic()
            if left <= 0 and (time.monotonic() > last or not self._waiting()):
                break
            message = self._next(min(max(left, 0.0), SLICE_S))
            if message is None or message.is_extended_id or message.is_error_frame or message.is_fd:
                continue
            data = bytes(message.data or b"")
            if not message.is_remote_frame and len(data) < message.dlc:
                self.garbage += 1  # slcan has no checksum: a line that was cut short
                continue
            self.received += 1
            found.append(Frame(message.arbitration_id, data, message.is_remote_frame, time.monotonic()))
        return found

    def counts(self) -> LinkCounts:
        """Frames; dropped are those that nobody took."""
        return LinkCounts(self.sent, self.received, self.received, self.garbage, self.unsent)

    def close(self) -> None:
        try:
            self._bus.shutdown()
        except (self._can.CanError, OSError):
            pass  # it was gone already

    def _next(self, timeout_s: float) -> Any:
        try:
            return self._bus.recv(timeout_s)
        except ValueError:  # an slcan line that makes no sense
            self.garbage += 1
        except (self._can.CanError, OSError) as error:
            if not isinstance(error.__cause__, ValueError):
                raise PortLost(f"reading failed ({error})") from None
            self.garbage += 1
            self._forget()
        return None

    def _forget(self) -> None:
        """python-can keeps bytes that are no text for ever and stumbles over them again."""
        try:
            self._bus.flush()
        except (self._can.CanError, OSError) as error:
            raise PortLost(f"reading failed ({error})") from None

    def _waiting(self) -> bool:
        try:
            return self._fd is not None and bool(select.select([self._fd], [], [], 0.0)[0])
        except (OSError, ValueError):
            return False

    def _channel(self, port: str) -> Any:
        try:
            return self._can.Bus(interface="socketcan", channel=port)
        except (self._can.CanError, OSError, ValueError) as error:
            raise BridgeError(
                f"the CAN channel {port} cannot be opened ({error}): bring it up (sudo ip link set {port} up type can bitrate "
                "250000), or name the serial port of an slcan adapter"
            ) from None

    def _adapter(self, port: str, bitrate: int, baud: int) -> Any:
        open_port(port, baud).close()  # says in one line what is wrong with a port, which python-can does not
        try:
            bus = self._can.Bus(
                interface="slcan", channel=port, tty_baudrate=baud, bitrate=bitrate, sleep_after_open=0.1, timeout=0.001
            )
        except (self._can.CanError, OSError, ValueError) as error:
            raise BridgeError(
                f"the slcan adapter on {port} cannot be used ({error}): see to the cable and the key bitrate"
            ) from None
        try:
            bus.serialPortOrig.exclusive = True  # two programs on one adapter would each get half of the frames
        except (AttributeError, OSError, ValueError):
            pass  # a port that cannot be kept to oneself
        return bus
