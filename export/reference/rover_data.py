"""Training footage for the rover: babbling episodes seen by the arena's own camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.worlds.arena import HEIGHT, WIDTH, ArenaPainter
from edge.worlds.rover import SPEC, STEP_S, Rover, random_actions, random_pose

TRAINING_SEED = 1
VALIDATION_SEED = 2
"""Seeds of the recorded footage; the benchmark's start and goal pairs come from other seeds (see edge.bench)."""


@dataclass(frozen=True)
class Footage:
    """pictures: uint8 (E, T, h, w, 3) BGR. actions: float32 (E, T, 2), actions[:, t] chosen on seeing pictures[:, t].
    poses: float64 (E, T, 3)."""

    pictures: NDArray[np.uint8]
    actions: NDArray[np.float32]
    poses: NDArray[np.float64]


def record(episodes: int, steps: int, seed: Sequence[int], size: tuple[int, int] = (48, 64), progress: bool = False) -> Footage:
    """Drive ``episodes`` rovers at random for ``steps`` frames. A command takes effect 50 to 110 ms after its frame,
    as it does in the live loop: capture, encoding, planning and the serial line take that long."""
    rng = np.random.default_rng(seed)
    camera = _ModelCamera(rng, size)
    actions = random_actions(rng, episodes, steps + 4)
    delay = rng.uniform(0.05, 0.11, size=episodes)
    rover = Rover(random_pose(rng, episodes))
    pictures = np.empty((episodes, steps, *size, 3), dtype=np.uint8)
    poses = np.empty((episodes, steps, 3))
    ticks = round(STEP_S / SPEC.dt)
    late = np.rint((delay - STEP_S) / SPEC.dt).astype(int)  # in physics ticks, negative: within the same step
    for step in range(-3, steps):
        if step >= 0:
            poses[:, step] = rover.pose
            pictures[:, step] = camera.see(rover.pose)
            if progress:
                print(f"recording: frame {step + 1} of {steps} in {episodes} episodes", flush=True)
        index = step + 3
        for tick in range(ticks):
            chosen_now = tick >= ticks + late
            still_older = tick < late
            current = np.where(chosen_now[:, None], actions[:, index], actions[:, max(index - 1, 0)])
            current = np.where(still_older[:, None], actions[:, max(index - 2, 0)], current)
            rover.drive(SPEC.dt, current * SPEC.max_wheel_speed)
    return Footage(pictures, actions[:, 3 : 3 + steps].astype(np.float32), poses)


class _ModelCamera:
    """What the arena's camera shows after scaling to the model's picture, some 20 times faster than painting it whole:
    only the surroundings of the rover are painted and scaled, and the noise is drawn as what scaling leaves of it."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], noise_sigma: float = 6.0) -> None:
        self._rng = rng
        self._painter = ArenaPainter()
        self._canvas = self._painter.floor.copy()
        self._cell = HEIGHT // size[0]
        self._floor = cv2.resize(self._painter.floor, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        self._sigma = noise_sigma / self._cell
        self._reach = round((SPEC.body_radius * 1.4) * WIDTH / SPEC.arena_width)

    def see(self, poses: NDArray[np.float64]) -> NDArray[np.uint8]:
        """poses (B, 3) -> uint8 (B, h, w, 3), each in fresh light.

        Light that stays the same for an episode is the easiest thing to predict, and an encoder that may encode it learns
        that instead of the rover.
        """
        clean = np.repeat(self._floor[None], len(poses), axis=0)
        for picture, pose in zip(clean, poses, strict=True):
            self._painter.draw(self._canvas, pose)
            rows, columns = (self._around(float(v)) for v in (pose[1], pose[0]))
            large = tuple(slice(s.start * self._cell, s.stop * self._cell) for s in (rows, columns))
            window = self._canvas[large]
            target = picture[rows, columns]
            small = cv2.resize(window, target.shape[1::-1], interpolation=cv2.INTER_AREA)
            target[:] = small
            window[:] = self._painter.floor[large]
        light = self._rng.uniform(0.9, 1.1, size=(len(poses), 1, 1, 1)).astype(np.float32)
        noise = self._rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(self._sigma)
        seen = np.minimum(clean * light, np.float32(255.0)) + noise
        return np.asarray(np.clip(np.rint(seen), 0, 255), dtype=np.uint8)

    def _around(self, metres: float) -> slice:
        """The cells along one side of the picture that a rover at ``metres`` can touch."""
        pixel = metres * WIDTH / SPEC.arena_width
        first = max(0, int(pixel - self._reach) // self._cell)
        return slice(first, int(pixel + self._reach) // self._cell + 1)
