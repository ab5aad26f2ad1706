"""Pictures of a board as a camera with known intrinsics would take them: rendered ray by ray, slightly blurred, noisy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from calibration.board import Corners, Grey
from edge.intrinsics import Lens

WIDTH, HEIGHT = 640, 480
LENS = Lens(
    WIDTH,
    HEIGHT,
    np.array([[520.0, 0.0, 330.0], [0.0, 524.0, 236.0], [0.0, 0.0, 1.0]]),
    np.array([-0.25, 0.09, 0.001, -0.0005, -0.01]),
)
SQUARE_MM = 25.0
SQUARE_PX = 40


def chessboard(columns: int, rows: int) -> Grey:
    """A flat picture of it with a white rim of one square. columns, rows: inner corners."""
    down, across = np.mgrid[0 : rows + 1, 0 : columns + 1]
    squares = np.where((down + across) % 2, 255, 0).astype(np.uint8)
    squares = np.pad(squares, 1, constant_values=255)
    return np.kron(squares, np.ones((SQUARE_PX, SQUARE_PX), np.uint8))


def charuco(columns: int, rows: int, dictionary: int, legacy: bool = False, marker_share: float = 0.7) -> Grey:
    """The same for a ChArUco board."""
    markers = cv2.aruco.getPredefinedDictionary(dictionary)
    board = cv2.aruco.CharucoBoard((columns + 1, rows + 1), SQUARE_MM, marker_share * SQUARE_MM, markers)
    board.setLegacyPattern(legacy)
    flat = board.generateImage(((columns + 1) * SQUARE_PX, (rows + 1) * SQUARE_PX))
    return np.pad(np.asarray(flat, np.uint8), SQUARE_PX, constant_values=255)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the middle of the board is, mm from the camera (right, down, ahead), and its Rodrigues vector."""

    middle: tuple[float, float, float]
    turn: tuple[float, float, float]


POSES = [
    Pose((60.0 * column, 45.0 * row, 400.0 + 40.0 * column), (0.5 * row + 0.1, 0.5 * column - 0.05, 0.1 * row * column))
    for row in (-1, 0, 1)
    for column in (-1, 0, 1)
] + [
    Pose((95.0, 0.0, 430.0), (0.0, 0.6, 0.1)),
    Pose((-95.0, 20.0, 430.0), (0.1, -0.6, 0.0)),
    Pose((20.0, 75.0, 430.0), (0.6, 0.0, 0.0)),
    Pose((-20.0, -75.0, 430.0), (-0.6, 0.0, 0.2)),
    Pose((100.0, 80.0, 480.0), (0.35, 0.35, 0.0)),
    Pose((-100.0, -80.0, 480.0), (-0.35, 0.35, 0.0)),
    Pose((100.0, -80.0, 480.0), (-0.35, -0.35, 0.0)),
    Pose((-100.0, 80.0, 480.0), (0.35, -0.35, 0.0)),
]
"""All over the picture, turned to all sides."""


def picture(flat: Grey, pose: Pose, seed: int = 0) -> Grey:
    """uint8 (480, 640): what the camera sees of this flat board."""
    turn = cv2.Rodrigues(np.array(pose.turn))[0]
    to_board = np.linalg.inv(np.column_stack([turn[:, :2], pose.middle]))
    places = cv2.perspectiveTransform(_rays(), to_board).reshape(HEIGHT, WIDTH, 2)
    at = places / SQUARE_MM * SQUARE_PX + np.array([flat.shape[1], flat.shape[0]]) / 2 - 0.5
    soft = cv2.GaussianBlur(flat, (0, 0), 1.0)
    shown = cv2.remap(soft, at.astype(np.float32), None, cv2.INTER_LINEAR, borderValue=(170.0,))
    noise = np.random.default_rng(seed).normal(0.0, 2.0, shown.shape)
    return np.asarray(np.clip(0.8 * shown + 20 + noise, 0, 255), np.uint8)


def true_corners(columns: int, rows: int, pose: Pose) -> Corners:
    """Where the inner corners really are in that picture."""
    across, down = np.meshgrid(np.arange(columns), np.arange(rows))
    places = np.stack([across, down, np.zeros_like(down)], axis=-1).reshape(-1, 3) * SQUARE_MM
    centred = places - places.mean(axis=0)
    pixels, _ = cv2.projectPoints(centred, np.array(pose.turn), np.array(pose.middle), LENS.matrix, LENS.distortion)
    return Corners(np.arange(len(places)), places.astype(np.float32), pixels.reshape(-1, 2).astype(np.float32))


@cache
def _rays() -> np.ndarray:
    """float64 (480 * 640, 1, 2): where the light of each pixel comes from, at unit distance."""
    across, down = np.meshgrid(np.arange(WIDTH, dtype=np.float64), np.arange(HEIGHT, dtype=np.float64))
    seen = np.stack([across.ravel(), down.ravel()], axis=1)[:, None]
    rays = np.asarray(cv2.undistortPoints(seen, LENS.matrix, LENS.distortion)).reshape(-1, 2)
    for _ in range(10):  # OpenCV stops early at the rim
        ahead = np.column_stack([rays, np.ones(len(rays))])
        there, _ = cv2.projectPoints(ahead, np.zeros(3), np.zeros(3), LENS.matrix, LENS.distortion)
        rays += (seen - there).reshape(-1, 2) / np.diag(LENS.matrix)[:2]
    return rays[:, None]
