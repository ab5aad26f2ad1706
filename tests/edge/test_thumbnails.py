"""Small pictures for people: the right size, the right colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.thumbnails import Thumbnails


@pytest.mark.parametrize(
    ("size", "small"),
    [((480, 640), (120, 160)), ((720, 1280), (90, 160)), ((241, 321), (120, 160)), ((48, 64), (48, 64)), ((1, 4000), (1, 160))],
)
def test_shape_and_colour(size: tuple[int, int], small: tuple[int, int]) -> None:
    thumbnails = Thumbnails(160)
    for colour in ((255, 128, 0), (10, 20, 200)):
        data = thumbnails.jpeg(np.full((*size, 3), colour, dtype=np.uint8))
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None and pixels.shape == (*small, 3)
        np.testing.assert_allclose(pixels.mean(axis=(0, 1)), colour, atol=4)
