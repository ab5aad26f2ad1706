"""What every driver of a device on a :class:`~firmware_bridge.drivers.bus.Bus` has: its line, from open to close."""

from __future__ import annotations

import threading

from firmware_bridge.controller import LinkCounts
from firmware_bridge.drivers.bus import Bus
from firmware_bridge.serial_port import open_port


class OnBus:
    """The part of a :class:`~firmware_bridge.drivers.device.Device` that is the same for all of them."""

    def __init__(self, port: str, baud: int) -> None:
        self._port, self._baud = port, baud
        self.uid = ""
        self.unprovable = ""
        self.untestable = ""
        self.urgent = threading.Event()
        self._bus: Bus | None = None

    def counts(self) -> LinkCounts:
        return self._line.counts()

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()

    def _open_line(self) -> None:
        """Raises BridgeError."""
        self._bus = Bus(open_port(self._port, self._baud), self.urgent)

    @property
    def _line(self) -> Bus:
        assert self._bus is not None
        return self._bus
