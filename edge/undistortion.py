"""Takes the lens out of a picture on its way to the model's size.

Straightening the full picture costs ten times what scaling it costs, and one remap straight to the model's size picks single
pixels and aliases. So the picture is halved while it stays at least twice the model's, remapped to exactly twice, and halved
once more. That is as quick as scaling alone, and as near to the long way as bilinear weights allow (docs/calibrate_camera.md).
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.intrinsics import Intrinsics, IntrinsicsError, Lens, Matrix, scaled_matrix
from edge.messages import Pixels

GRID = 48
"""Points across and down at which a lens is checked."""
LEAST_SEEN = 0.25
"""A straight picture that shows less than this share of the camera's picture is no use."""


class Undistortion:
    """From a camera's picture to the model's, straight. Maps are computed once, here; one thread uses it.

    picture, size: width and height of the camera's picture and of the model's. The largest upright part of the straightened
    picture that is filled everywhere becomes the whole of the model's picture. Raises IntrinsicsError if the camera's picture
    has another shape than the calibrated one.
    """

    def __init__(self, intrinsics: Intrinsics, picture: tuple[int, int], size: tuple[int, int]) -> None:
        lens = intrinsics.lens
        if not lens.fits(*picture):
            raise IntrinsicsError(
                f"pictures of {picture[0]}x{picture[1]} do not fit the camera's intrinsics, measured at "
                f"{lens.width}x{lens.height}: set the camera to that shape, or run 'latentloop calibrate camera' at this one"
            )
        self.picture = picture
        self._size = size
        width, height = picture
        self._halved: list[Pixels] = []
        while width % 2 == height % 2 == 0 and width >= 4 * size[0] and height >= 4 * size[1]:
            width, height = width // 2, height // 2
            self._halved.append(np.empty((height, width, 3), dtype=np.uint8))
        given = lens.scaled(width, height)
        double = (2 * size[0], 2 * size[1])
        wanted = scaled_matrix(filled_matrix(lens), double[0] / lens.width, double[1] / lens.height)
        self._maps = cv2.initUndistortRectifyMap(given.matrix, given.distortion, np.eye(3), wanted, double, cv2.CV_16SC2)
        self._straight: Pixels = np.empty((double[1], double[0], 3), dtype=np.uint8)

    def straighten_into(self, target: Pixels, pixels: Pixels) -> None:
        """uint8 (H, W, 3) of the size given at the start -> target, uint8 (h, w, 3)."""
        for half in self._halved:
            cv2.resize(pixels, (half.shape[1], half.shape[0]), dst=half, interpolation=cv2.INTER_AREA)
            pixels = half
        # Replicated, because bilinear weights reach half a pixel over the rim.
        cv2.remap(pixels, *self._maps, cv2.INTER_LINEAR, dst=self._straight, borderMode=cv2.BORDER_REPLICATE)
        cv2.resize(self._straight, self._size, dst=target, interpolation=cv2.INTER_AREA)


def filled_matrix(lens: Lens) -> Matrix:
    """float64 (3, 3): the camera matrix of the straight picture of the lens's own size that is filled everywhere and shows
    most. Raises IntrinsicsError if there is none, because the polynomial of the distortion turns back inside the picture: what
    it says beyond the corners it was fitted to is a guess."""
    matrix, _ = cv2.getOptimalNewCameraMatrix(lens.matrix, lens.distortion, (lens.width, lens.height), 0.0)
    filled = np.asarray(matrix, np.float64)
    coarse = scaled_matrix(filled, GRID / lens.width, GRID / lens.height)
    across, down = cv2.initUndistortRectifyMap(
        lens.matrix, lens.distortion, np.eye(3), coarse, (GRID, GRID), cv2.CV_32FC1
    )  # where each point of the straight picture is taken from
    ordered = bool((np.diff(across, axis=1) > 0).all() and (np.diff(down, axis=0) > 0).all())
    inside = bool(across.min() > -1 and across.max() < lens.width and down.min() > -1 and down.max() < lens.height)
    if not (ordered and inside and np.ptp(across) > LEAST_SEEN * lens.width and np.ptp(down) > LEAST_SEEN * lens.height):
        raise IntrinsicsError(
            "these intrinsics fold the picture near its rim, as no lens does: run 'latentloop calibrate camera' with the board "
            "shown up to the rim on all sides"
        )
    return filled
