"""Straight pictures for the model: against the long way at full size, and straight lines as the proof."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest

from edge.intrinsics import IntrinsicsError, scaled_matrix
from edge.messages import Pixels
from edge.scaling import Scaler
from edge.undistortion import Undistortion
from tests.edge.test_intrinsics import GOPRO
from tests.edge.test_scaling import picture


def the_long_way(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Straightened at full size, then averaged down."""
    lens = GOPRO.lens
    across, down = pixels.shape[1] / lens.width, pixels.shape[0] / lens.height
    wanted = scaled_matrix(_filled(), across, down)
    straight = cv2.undistort(pixels, scaled_matrix(lens.matrix, across, down), lens.distortion, None, wanted)
    return np.asarray(cv2.resize(straight, size, interpolation=cv2.INTER_AREA), np.uint8)


def by_one_remap(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Straight to the model's size, picking single pixels."""
    lens = GOPRO.lens.scaled(pixels.shape[1], pixels.shape[0])
    wanted = scaled_matrix(_filled(), size[0] / GOPRO.width, size[1] / GOPRO.height)
    maps = cv2.initUndistortRectifyMap(lens.matrix, lens.distortion, np.eye(3), wanted, size, cv2.CV_32FC1)
    return np.asarray(cv2.remap(pixels, *maps, cv2.INTER_LINEAR), np.uint8)


@pytest.mark.parametrize("size", [(64, 48), (64, 64), (128, 96), (224, 224)])
@pytest.mark.parametrize("full", [(1280, 960), (640, 480), (320, 240)])
def test_it_is_the_long_way_and_far_nearer_than_one_remap(full: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = picture(full[1], full[0])
    found = Scaler(size, GOPRO).scaled(pixels)
    wanted = the_long_way(pixels, size)
    assert found.shape == (size[1], size[0], 3)
    error = np.abs(found.astype(int) - wanted)
    aliased = np.abs(by_one_remap(pixels, size).astype(int) - wanted)
    assert error.mean() < 5.0
    if full[0] >= 4 * size[0]:
        assert error.mean() < 0.5 * aliased.mean()


def grid(lens_bends_it: bool) -> Pixels:
    """White lines on black at known places of a straight world, as this camera shows them."""
    lens = GOPRO.lens
    world = np.zeros((960, 1280), dtype=np.uint8)
    world[:, 160::160] = world[160::160] = 255
    world = np.asarray(cv2.GaussianBlur(world, (0, 0), 4), np.uint8)
    world = np.asarray(cv2.normalize(world, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    if lens_bends_it:
        across, down = np.meshgrid(np.arange(1280, dtype=np.float32), np.arange(960, dtype=np.float32))
        seen = np.stack([across.ravel(), down.ravel()], axis=1)[:, None]
        straight = cv2.undistortPoints(seen, lens.matrix, lens.distortion, None, None, _filled()).reshape(960, 1280, 2)
        world = np.asarray(cv2.remap(world, straight.astype(np.float32), None, cv2.INTER_LINEAR), np.uint8)
    return np.repeat(world[..., None], 3, axis=2)


def _filled() -> np.ndarray:
    """What the straight picture shows, asked of OpenCV: the largest part that is filled everywhere."""
    lens = GOPRO.lens
    return np.asarray(cv2.getOptimalNewCameraMatrix(lens.matrix, lens.distortion, (lens.width, lens.height), 0.0)[0])


def test_bent_lines_come_out_straight_and_where_they_belong() -> None:
    size = (256, 192)
    bent, straight = grid(True), Scaler(size).scaled(grid(False))
    found = Scaler(size, GOPRO).scaled(bent)
    untouched = Scaler(size).scaled(bent)
    assert np.abs(found.astype(int) - straight).mean() < 1.0
    assert np.abs(untouched.astype(int) - straight).mean() > 10.0


def test_every_pixel_is_filled() -> None:
    white = np.full((480, 640, 3), 255, dtype=np.uint8)
    assert Scaler((64, 48), GOPRO).scaled(white).min() == 255


def test_without_distortion_it_is_the_area_average() -> None:
    plain = msgspec.structs.replace(GOPRO, distortion=(0.0, 0.0, 0.0, 0.0, 0.0))
    pixels = picture(480, 640)
    error = np.abs(Scaler((64, 48), plain).scaled(pixels).astype(int) - Scaler((64, 48)).scaled(pixels))
    assert error.mean() < 3.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("distortion", (-0.35, 0.0, 0.0, 0.0, 0.0)),  # turns back inside the picture
        ("distortion", (-0.23276, 0.06164, 0.0, 0.0, -1.0)),
        ("distortion", (-0.23276, 0.06164, 0.5, 0.0, 0.0)),
        ("distortion", (100.0, 0.0, 0.0, 0.0, 0.0)),  # would show a spot of the picture
        ("fx", 1.0),
    ],
)
def test_numbers_that_no_lens_has_are_refused(key: str, value: object) -> None:
    with pytest.raises(IntrinsicsError, match="fold the picture"):
        Undistortion(msgspec.structs.replace(GOPRO, **{key: value}), (1280, 960), (64, 64))


@pytest.mark.parametrize("k1", [-0.1, 0.0, 0.1, 0.4])
def test_barrel_pincushion_and_none_are_lenses(k1: float) -> None:
    Undistortion(msgspec.structs.replace(GOPRO, fx=1000.0, fy=1000.0, distortion=(k1, 0.0, 0.0, 0.0, 0.0)), (640, 480), (64, 64))


def test_the_same_shape_fits_at_every_size_and_another_does_not() -> None:
    Undistortion(GOPRO, (320, 240), (64, 64))
    with pytest.raises(IntrinsicsError, match=r"pictures of 1280x720 do not fit .* measured at 1280x960: set the camera"):
        Undistortion(GOPRO, (1280, 720), (64, 64))


def test_one_scaler_follows_a_change_of_size_and_keeps_nothing() -> None:
    scaler = Scaler((64, 48), GOPRO)
    first, second = picture(480, 640), picture(960, 1280)
    kept = scaler.scaled(first)
    before = kept.copy()
    scaler.scaled(second)
    np.testing.assert_array_equal(kept, before)
    np.testing.assert_array_equal(scaler.scaled(first), before)
