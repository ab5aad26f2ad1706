"""Who may move the motors, and until when: an arming, a living control loop, and no stop."""

from __future__ import annotations


class Permission:
    """Not thread-safe. Times are host monotonic ns."""

    def __init__(self) -> None:
        self.permitted = False
        """By arming, until disarming, a stop or a new session."""
        self.stop_reason: int | None = None
        """Of an emergency stop, until it is cleared."""
        self._alive_until_ns = 0
        self._engaged = False

    def beat(self, alive_until_ns: int, engaged: bool) -> None:
        """See MotorController.heartbeat."""
        self._alive_until_ns, self._engaged = alive_until_ns, engaged

    def alive(self, now_ns: int) -> bool:
        """Whether there is a control loop."""
        return now_ns < self._alive_until_ns

    @property
    def engaged(self) -> bool:
        """What leases say: the loop commands, and it may."""
        return self._engaged and self.permitted

    def stop(self, reason: int) -> None:
        self.stop_reason, self.permitted = reason & 0xFF, False

    def lease_until(self, now_ns: int, lease_ns: int) -> int | None:
        """How far the device may be leased now: never beyond what the loop has promised. None for not at all."""
        if not self.alive(now_ns) or self.stop_reason is not None:
            return None
        return min(now_ns + lease_ns, self._alive_until_ns)
