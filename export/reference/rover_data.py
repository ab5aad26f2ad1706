"""Training footage for the rover: babbling episodes seen by the arena's own camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.worlds.arena import ArenaPainter
from edge.worlds.rover import SPEC, STEP_S, Rover, random_actions, random_pose

TRAINING_SEED = 1
VALIDATION_SEED = 2
"""Seeds of the recorded footage; the benchmark's start and goal pairs come from other seeds (see edge.bench)."""


@dataclass(frozen=True)
class Footage:
    """pictures: uint8 (E, T, h, w, 3) BGR. actions: float32 (E, T, 2), actions[:, t] chosen on seeing pictures[:, t]. poses: (E, T, 3)."""

    pictures: NDArray[np.uint8]
    actions: NDArray[np.float32]
    poses: NDArray[np.float64]


def record(episodes: int, steps: int, seed: int, size: tuple[int, int] = (48, 64), progress: bool = False) -> Footage:
    """Drive ``episodes`` rovers at random for ``steps`` frames. A command takes effect 50 to 110 ms after its frame,
    as it does in the live loop: capture, encoding, planning and the serial line take that long."""
    rng = np.random.default_rng(seed)
    painter = ArenaPainter(seed)
    height, width = size
    actions = random_actions(rng, episodes, steps + 4)
    delay = rng.uniform(0.05, 0.11, size=episodes)
    rover = Rover(random_pose(rng, episodes))
    pictures = np.empty((episodes, steps, height, width, 3), dtype=np.uint8)
    poses = np.empty((episodes, steps, 3))
    ticks = round(STEP_S / SPEC.dt)
    late = np.rint((delay - STEP_S) / SPEC.dt).astype(int)  # in physics ticks, negative: within the same step
    for step in range(-3, steps):
        if step >= 0:
            poses[:, step] = rover.pose
            for episode in range(episodes):
                # Fresh light in every picture: light that stays the same for an episode is the easiest thing to predict,
                # and an encoder that may encode it learns that instead of the rover.
                full = painter.paint(rover.pose[episode], float(rng.uniform(0.9, 1.1)))
                pictures[episode, step] = cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
            if progress and step % 2 == 0:
                print(f"recording: frame {step + 1} of {steps} in {episodes} episodes", flush=True)
        index = step + 3
        for tick in range(ticks):
            chosen_now = tick >= ticks + late
            still_older = tick < late
            current = np.where(chosen_now[:, None], actions[:, index], actions[:, max(index - 1, 0)])
            current = np.where(still_older[:, None], actions[:, max(index - 2, 0)], current)
            rover.drive(SPEC.dt, current * SPEC.max_wheel_speed)
    return Footage(pictures, actions[:, 3 : 3 + steps].astype(np.float32), poses)
