"""Which parts of the picture and which tilts of the board the views of a camera cover, and what is still wanted, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import Corners, Numbers
from edge.intrinsics import Lens

NINTHS = (("upper left", "top", "upper right"), ("left", "middle", "right"), ("lower left", "bottom", "lower right"))
TILTS = ("left edge nearer", "right edge nearer", "upper edge nearer", "lower edge nearer")
TILT_DEG = 15.0
"""A board turned by so much tells focal length from distance; head-on the two look the same."""
ENOUGH_CORNERS = 20
"""In a ninth of the picture, over all views."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """corners: int64 (3, 3), how many were seen in each ninth of the picture. tilts: how many views have each of TILTS."""

    corners: Numbers
    tilts: dict[str, int]

    @property
    def wanted(self) -> list[str]:
        """What is still missing, for a person who holds the board; empty when all is covered."""
        places = [NINTHS[row][column] for row, column in np.argwhere(self.corners < ENOUGH_CORNERS)]
        edges = [name for name, views in self.tilts.items() if views == 0]
        found = []
        if places:
            found.append(f"the board at the {_listed(places)} of the picture")
        if edges:
            found.append(f"the board turned by {TILT_DEG:.0f} to 45 degrees, {_listed(edges)}")
        return found


def coverage(views: Sequence[Corners], lens: Lens) -> Coverage:
    """What these views cover. lens: as far as it is known, see :func:`rough_lens`."""
    corners = np.zeros((3, 3), np.int64)
    tilts = dict.fromkeys(TILTS, 0)
    for view in views:
        column = np.clip(3 * (view.pixels[:, 0] + 0.5) / lens.width, 0, 2).astype(int)
        row = np.clip(3 * (view.pixels[:, 1] + 0.5) / lens.height, 0, 2).astype(int)
        np.add.at(corners, (row, column), 1)
        for name, degrees in zip(TILTS, tilt(view, lens), strict=True):
            tilts[name] += degrees >= TILT_DEG
    return Coverage(corners, tilts)


def tilt(view: Corners, lens: Lens) -> tuple[float, float, float, float]:
    """By how many degrees the board is turned so that its left, right, upper or lower edge (as seen in the picture) is nearer
    than the opposite one; two of the four are negative."""
    found, turn, _ = cv2.solvePnP(view.places, view.pixels, lens.matrix, lens.distortion)
    if not found:
        return (0.0, 0.0, 0.0, 0.0)
    normal = cv2.Rodrigues(turn)[0][:, 2]
    right, down, ahead = -normal if normal[2] > 0 else normal  # towards the camera
    sideways, upright = (float(np.degrees(np.arctan2(each, -ahead))) for each in (right, down))
    return (sideways, -sideways, upright, -upright)


def rough_lens(width: int, height: int) -> Lens:
    """Good enough to tell how a board is turned before anything is known: 53 degrees across, no distortion."""
    middle = np.array([[width, 0.0, width / 2 - 0.5], [0.0, width, height / 2 - 0.5], [0.0, 0.0, 1.0]])
    return Lens(width, height, middle, np.zeros(5))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
