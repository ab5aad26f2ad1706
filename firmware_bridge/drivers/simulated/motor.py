"""A motor that follows its command at once, within its top speed, while it has power."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Motor:
    """position: rad. velocity: rad/s. to: where a position motor goes. turning: what a velocity motor is told. travelled: all
    the way it ever made, rad. fastest: rad/s."""

    position: float = 0.0
    velocity: float = 0.0
    energised: bool = False
    to: float | None = None
    turning: float = 0.0
    top_speed: float = 20.0
    travelled: float = 0.0
    fastest: float = 0.0

    def advance(self, elapsed_s: float) -> None:
        if elapsed_s <= 0.0:
            return
        if not self.energised:
            wanted = 0.0
        elif self.to is None:
            wanted = self.turning
        else:
            wanted = (self.to - self.position) / elapsed_s
        self.velocity = max(-self.top_speed, min(self.top_speed, wanted))
        self.position += self.velocity * elapsed_s
        self.travelled += abs(self.velocity) * elapsed_s
        self.fastest = max(self.fastest, abs(self.velocity))

    def cut(self) -> None:
        """No power, no memory of what it was told."""
        self.energised, self.to, self.turning, self.velocity = False, None, 0.0, 0.0
