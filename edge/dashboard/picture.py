"""Frames as JPEG for people: encoded once per frame however many people watch."""

from __future__ import annotations

import cv2
import numpy as np

from edge.messages import Pixels

LONGEST_SIDE = 640
QUALITY = 80


def jpeg(pixels: Pixels) -> bytes:
    """A picture for the page. pixels: uint8 (H, W, 3), BGR; the longest side of the JPEG is at most 640 px.

    Raises ValueError if the picture cannot be encoded.
    """
    height, width = pixels.shape[:2]
    if height == 0 or width == 0:
        raise ValueError(f"the picture is empty: {width}x{height}")
    shrink = LONGEST_SIDE / max(height, width)
    small = pixels
    if shrink < 1.0:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, encoded = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be made a JPEG")
    return encoded.tobytes()
