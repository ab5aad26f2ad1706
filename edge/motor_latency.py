"""From the light on the sensor to the motor that acts on it, as the device acknowledges each command."""

from __future__ import annotations

from edge.messages import Command
from firmware_bridge.controller import Telemetry

ON_THE_WAY = 32
"""Commands whose acknowledgement is waited for."""


class MotorLatency:
    """Pairs commands with what telemetry says was acted on; a command is known by its ``valid_until_ns``."""

    def __init__(self) -> None:
        self._captured_ns: dict[int, int] = {}

    def sent(self, command: Command) -> None:
        """A command was handed over."""
        self._captured_ns[command.valid_until_ns] = command.captured_ns
        if len(self._captured_ns) > ON_THE_WAY:
            del self._captured_ns[next(iter(self._captured_ns))]

    def news(self, telemetry: Telemetry | None) -> int | None:
        """ns from the capture of a picture to the moment its command took effect, right within ``telemetry.applied.bound_ns``;
        each command once, None when nothing new was acknowledged."""
        applied = None if telemetry is None else telemetry.applied
        if applied is None:
            return None
        captured_ns = self._captured_ns.pop(applied.valid_until_ns, 0)
        return applied.applied_ns - captured_ns if captured_ns else None
