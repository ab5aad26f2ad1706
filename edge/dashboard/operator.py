"""What a person at the page may do to the robot; implemented by whoever owns the robot."""

from __future__ import annotations

from typing import Protocol


class Refused(Exception):
    """The robot will not do it now; the message says why, as one sentence for the person who asked."""


class Operator(Protocol):
    """The page's four verbs. Every call is thread-safe and returns within milliseconds."""

    def arm(self) -> None:
        """Allow the motors to move. Raises Refused with the reason."""

    def disarm(self) -> None:
        """Bring the motors to rest and take the permission back."""

    def emergency_stop(self, reason: str) -> None:
        """Stop now and latch. reason: who or what asked, for the log. Must not raise and must not wait."""

    def clear_stop(self) -> None:
        """Release a latched stop; leads to disarmed, never to motion. Raises Refused with the reason."""
