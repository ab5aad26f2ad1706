"""Small JPEG pictures that go with events and episodes."""

from __future__ import annotations

import cv2

from edge.messages import Pixels
from edge.scaling import Scaler

JPEG_QUALITY = 80


class Thumbnails:
    """Makes pictures of one width, in pixels. Holds buffers: one thread uses it."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._scaler: Scaler | None = None
        self._shape = (0, 0)

    def jpeg(self, pixels: Pixels) -> bytes:
        """uint8 (H, W, 3) BGR -> JPEG of the same proportions, never larger than the original; empty if it cannot be
        encoded."""
        height, width = pixels.shape[:2]
        if width > self._width:
            if self._scaler is None or self._shape != (height, width):
                self._shape = (height, width)
                self._scaler = Scaler((self._width, max(1, round(height * self._width / width))))
            pixels = self._scaler.scaled(pixels)
        done, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        return data.tobytes() if done else b""
