"""Scaling to the model's picture: the fast way gives what the plain way gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.messages import Pixels
from edge.scaling import Scaler

SIZE = (64, 48)


def picture(height: int, width: int) -> Pixels:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.int16)
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width"),
    [
        pytest.param(480, 640, id="halved first"),
        pytest.param(720, 1280, id="halved first, of another shape"),
        pytest.param(481, 640, id="odd, not halved"),
        pytest.param(120, 160, id="too small to be halved"),
        pytest.param(24, 32, id="grown"),
    ],
)
def test_every_size_becomes_the_area_average(height: int, width: int) -> None:
    pixels = picture(height, width)
    scaled = Scaler(SIZE).scaled(pixels)
    plain = cv2.resize(pixels, SIZE, interpolation=cv2.INTER_AREA)
    assert scaled.shape == (48, 64, 3)
    assert np.abs(scaled.astype(int) - plain.astype(int)).max() <= 1


def test_one_scaler_takes_sizes_as_they_come_and_keeps_nothing() -> None:
    scaler = Scaler(SIZE)
    first, second = picture(480, 640), picture(960, 1280)
    kept = scaler.scaled(first)
    before = kept.copy()
    scaler.scaled(second)
    np.testing.assert_array_equal(kept, before)
    np.testing.assert_array_equal(scaler.scaled(first), before)
