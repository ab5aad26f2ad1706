"""Pictures and small recordings that the camera tests make."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.messages import Pixels


def scene(height: int = 120, width: int = 160) -> Pixels:
    """A room of sorts: flat areas and sharp edges, as a lens in focus sees them."""
    picture = np.full((height, width, 3), (150, 140, 130), np.uint8)
    picture[height * 2 // 3 :] = (60, 80, 90)
    cv2.rectangle(picture, (width // 8, height // 4), (width // 3, height * 3 // 4), (30, 40, 160), -1)
    cv2.rectangle(picture, (width * 5 // 8, height // 8), (width * 7 // 8, height // 2), (220, 220, 210), -1)
    cv2.line(picture, (0, height - 1), (width - 1, height // 2), (250, 250, 250), 2)
    return picture


def noisy(picture: Pixels, rng: np.random.Generator, sigma: float = 3.0) -> Pixels:
    """The picture with sensor noise."""
    shaken = picture + rng.normal(0.0, sigma, picture.shape).astype(np.float32)
    return np.clip(shaken, 0, 255).astype(np.uint8)


def write_avi(path: Path, pictures: list[Pixels], fps: float = 20.0) -> Path:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def numbered(count: int, height: int = 48, width: int = 64) -> list[Pixels]:
    """Pictures that tell their number by their brightness, robust against compression."""
    return [np.full((height, width, 3), 20 + 2 * number, np.uint8) for number in range(count)]


def number_of(picture: Pixels) -> int:
    return round((float(picture[..., 1].mean()) - 20) / 2)
