"""How the simulated rover moves: a differential drive with slewed, lagging wheels between four walls.

Everything is vectorised over B independent rovers, so that training data, the benchmark's oracle and the live
simulation share one set of equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RoverSpec:
    """The rover and its arena. Lengths in m, angles in rad, times in s, wheel speeds in rad/s."""

    arena_width: float = 2.0
    arena_height: float = 1.5
    body_radius: float = 0.13
    wheel_radius: float = 0.05
    track: float = 0.36
    max_wheel_speed: float = 20.0
    max_wheel_acceleration: float = 400.0
    motor_time_constant: float = 0.05
    dt: float = 0.005


SPEC = RoverSpec()
STEP_S = 0.1
"""Seconds between two frames of the world model: one tick of the loop."""


class Rover:
    """B rovers. ``pose``: float64 (B, 3) of x, y, heading. ``wheels``: float64 (B, 2), left and right wheel speed."""

    def __init__(self, pose: Doubles, wheels: Doubles | None = None, spec: RoverSpec = SPEC) -> None:
        self.spec = spec
        self.pose: Doubles = np.array(pose, dtype=np.float64, ndmin=2)
        batch = len(self.pose)
        self.wheels: Doubles = np.zeros((batch, 2)) if wheels is None else np.array(wheels, dtype=np.float64, ndmin=2)
        self._slewed: Doubles = self.wheels.copy()

    def copy(self) -> Rover:
        twin = Rover(self.pose, self.wheels, self.spec)
        twin._slewed = self._slewed.copy()
        return twin

    def repeat(self, times: int) -> Rover:
        """The same rover ``times`` over, for trying out many action sequences at once."""
        twin = Rover(np.repeat(self.pose, times, axis=0), np.repeat(self.wheels, times, axis=0), self.spec)
        twin._slewed = np.repeat(self._slewed, times, axis=0)
        return twin

    def coast(self, seconds: float, output: Doubles) -> None:
        """Move for ``seconds`` with the motor controller's output held. output: float64 (B, 2), rad/s, already slewed."""
        steps = max(1, round(seconds / self.spec.dt))
        for _ in range(steps):
            self._slewed[:] = output
            self._integrate(seconds / steps)

    def drive(self, seconds: float, target: Doubles) -> None:
        """Move for ``seconds`` towards wheel speed ``target``, float64 (B, 2) in rad/s, with the slew limit applied."""
        steps = round(seconds / self.spec.dt)
        if steps == 0:
            return
        dt = seconds / steps
        change = self.spec.max_wheel_acceleration * dt
        limit = self.spec.max_wheel_speed
        goal = np.clip(target, -limit, limit)
        for _ in range(steps):
            self._slewed += np.clip(goal - self._slewed, -change, change)
            self._integrate(dt)

    def _integrate(self, dt: float) -> None:
        spec = self.spec
        self.wheels += (self._slewed - self.wheels) * (1.0 - np.exp(-dt / spec.motor_time_constant))
        surface = self.wheels * spec.wheel_radius
        forward = surface.mean(axis=1)
        turn = (surface[:, 1] - surface[:, 0]) / spec.track
        middle = self.pose[:, 2] + 0.5 * turn * dt
        self.pose[:, 0] += forward * np.cos(middle) * dt
        self.pose[:, 1] += forward * np.sin(middle) * dt
        self.pose[:, 2] = np.mod(self.pose[:, 2] + turn * dt + np.pi, 2 * np.pi) - np.pi
        margin = spec.body_radius
        np.clip(self.pose[:, 0], margin, spec.arena_width - margin, out=self.pose[:, 0])
        np.clip(self.pose[:, 1], margin, spec.arena_height - margin, out=self.pose[:, 1])


def random_pose(rng: np.random.Generator, batch: int, spec: RoverSpec = SPEC) -> Doubles:
    """Uniform poses inside the walls, float64 (B, 3)."""
    margin = spec.body_radius
    low = (margin, margin, -np.pi)
    high = (spec.arena_width - margin, spec.arena_height - margin, np.pi)
    return rng.uniform(low, high, size=(batch, 3))


def random_actions(rng: np.random.Generator, batch: int, steps: int, redraw: float = 0.3) -> Doubles:
    """Babbling: actions held and redrawn with probability ``redraw`` per step. float64 (B, steps, 2) in [-1, 1]."""
    fresh = rng.uniform(-1.0, 1.0, size=(batch, steps, 2))
    held = rng.random((batch, steps)) >= redraw
    for step in range(1, steps):
        fresh[:, step] = np.where(held[:, step, None], fresh[:, step - 1], fresh[:, step])
    return fresh


def pose_distance(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Distance in metres and heading difference in radians between poses (..., 3)."""
    metres = np.hypot(a[..., 0] - b[..., 0], a[..., 1] - b[..., 1])
    turn = np.abs(np.mod(a[..., 2] - b[..., 2] + np.pi, 2 * np.pi) - np.pi)
    return metres, turn
