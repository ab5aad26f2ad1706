"""From a camera's picture to the one the model looks at: area-averaged, so that nothing aliases; straight, if the lens is known."""

from __future__ import annotations

import cv2
import numpy as np

from edge.intrinsics import Intrinsics
from edge.messages import Pixels
from edge.undistortion import Undistortion


class Scaler:
    """Scales to one size. Holds a buffer: one thread uses it. size: width and height of the model's picture. intrinsics:
    those of the camera whose lens is to be taken out, or None."""

    def __init__(self, size: tuple[int, int], intrinsics: Intrinsics | None = None) -> None:
        self._size = size
        self._halved: Pixels = np.empty((0, 0, 3), dtype=np.uint8)
        self._intrinsics = intrinsics
        self._undistortion: Undistortion | None = None

    def scale_into(self, target: Pixels, pixels: Pixels) -> None:
        """uint8 (H, W, 3) of any size -> target, uint8 (h, w, 3). Halving a large picture first gives the same to one grey
        level and saves a third of the time, because OpenCV halves with vector instructions. Raises IntrinsicsError for a
        picture that the intrinsics do not fit."""
        height, width = pixels.shape[:2]
        if self._intrinsics is not None:
            if self._undistortion is None or self._undistortion.picture != (width, height):
                self._undistortion = Undistortion(self._intrinsics, (width, height), self._size)
            self._undistortion.straighten_into(target, pixels)
            return
        if height >= 4 * self._size[1] and width >= 4 * self._size[0] and height % 2 == width % 2 == 0:
            if self._halved.shape[:2] != (height // 2, width // 2):
                self._halved = np.empty((height // 2, width // 2, 3), dtype=np.uint8)
            cv2.resize(pixels, (width // 2, height // 2), dst=self._halved, interpolation=cv2.INTER_AREA)
            pixels = self._halved
        cv2.resize(pixels, self._size, dst=target, interpolation=cv2.INTER_AREA)

    def scaled(self, pixels: Pixels) -> Pixels:
        """The same in an array of its own."""
        target: Pixels = np.empty((self._size[1], self._size[0], 3), dtype=np.uint8)
        self.scale_into(target, pixels)
        return target
