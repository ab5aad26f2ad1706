"""What the overhead camera sees of the arena: a rover on a floor, with sensor noise and a lamp that drifts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.messages import Pixels
from edge.worlds.rover import SPEC, RoverSpec

WIDTH = 640
HEIGHT = 480
_SUBPIXEL_BITS = 4


class ArenaPainter:
    """Draws the arena as BGR pictures of 640x480, one pixel per 3.125 mm."""

    def __init__(self, seed: int = 0, spec: RoverSpec = SPEC, noise_sigma: float = 6.0) -> None:
        self.spec = spec
        self._rng = np.random.default_rng(seed)
        self._scale = WIDTH / spec.arena_width
        self.floor = _paint_floor()
        """The empty arena, without noise: uint8 (480, 640, 3)."""
        # Fresh Gaussian noise costs more than the whole picture: shifted copies of one sheet look the same.
        sheet = self._rng.normal(0.0, noise_sigma, size=(HEIGHT + 64, WIDTH + 64, 3))
        self._noise: NDArray[np.int16] = np.clip(np.rint(sheet), -40, 40).astype(np.int16)

    def paint(self, pose: NDArray[np.float64], light: float = 1.0) -> Pixels:
        """The picture of one rover, uint8 (480, 640, 3). pose: float64 (3,) of x, y in m, heading in rad. light: lamp gain."""
        picture = self.floor.copy()
        self.draw(picture, pose)
        row, column = self._rng.integers(0, 64, size=2)
        noise = self._noise[row : row + HEIGHT, column : column + WIDTH]
        lit = cv2.convertScaleAbs(picture, alpha=light) if light != 1.0 else picture
        noisy = cv2.add(lit, noise, dtype=cv2.CV_8U)
        return np.asarray(noisy, dtype=np.uint8)

    def draw(self, picture: Pixels, pose: NDArray[np.float64]) -> None:
        """Put one rover, without noise, into a picture of the arena's size."""
        x, y, heading = (float(v) for v in pose)
        radius = self.spec.body_radius
        ahead = np.array((np.cos(heading), np.sin(heading)))
        left = np.array((-ahead[1], ahead[0]))
        centre = np.array((x, y))
        self._disc(picture, centre, radius, (70, 62, 58))
        self._disc(picture, centre, radius * 0.82, (196, 132, 44))
        for side in (left, -left):
            self._quad(picture, centre + 0.86 * radius * side, ahead * radius * 0.55, side * radius * 0.18, (24, 24, 26))
        self._disc(picture, centre + ahead * radius * 0.55, radius * 0.36, (60, 190, 250))

    def _disc(self, picture: Pixels, centre: NDArray[np.float64], radius: float, colour: tuple[int, int, int]) -> None:
        at = self._fixed(centre)
        cv2.circle(picture, at, round(radius * self._scale * (1 << _SUBPIXEL_BITS)), colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)

    def _quad(
        self,
        picture: Pixels,
        centre: NDArray[np.float64],
        half_length: NDArray[np.float64],
        half_width: NDArray[np.float64],
        colour: tuple[int, int, int],
    ) -> None:
        signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
        corners = [self._fixed(centre + a * half_length + b * half_width) for a, b in signs]
        cv2.fillConvexPoly(picture, np.array(corners, dtype=np.int32), colour, cv2.LINE_AA, _SUBPIXEL_BITS)

    def _fixed(self, point: NDArray[np.float64]) -> tuple[int, int]:
        column, row = (v * self._scale * (1 << _SUBPIXEL_BITS) for v in point)
        return round(column), round(row)


def _paint_floor() -> Pixels:
    """A floor of tiles with a border, the same in every world so that what moves is the rover."""
    floor = np.full((HEIGHT, WIDTH, 3), (176, 182, 180), dtype=np.uint8)
    for column in range(0, WIDTH, 80):
        for row in range(0, HEIGHT, 80):
            if (column // 80 + row // 80) % 2:
                cv2.rectangle(floor, (column, row), (column + 79, row + 79), (164, 171, 170), -1)
    cv2.rectangle(floor, (0, 0), (WIDTH - 1, HEIGHT - 1), (96, 92, 90), 10)
    return floor
