"""Corners of boards in pictures rendered with a known camera, and what is said when there are none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.board import Charuco, Chessboard, dictionaries, dictionary_name
from edge.errors import UserError
from tests.calibration.shown_board import POSES, SQUARE_MM, charuco, chessboard, picture, true_corners

TURNED = [0, 4, 10, 15]
FLAT = chessboard(8, 6)
GREY = np.full((480, 640), 128, np.uint8)


@pytest.mark.parametrize("pose", TURNED)
def test_chessboard_corners_are_where_they_are(pose: int) -> None:
    found = Chessboard(8, 6, SQUARE_MM).find(picture(FLAT, POSES[pose]))
    wanted = true_corners(8, 6, POSES[pose])
    assert found is not None and len(found.pixels) == 48
    both_ways = [np.linalg.norm(each - wanted.pixels, axis=1).max() for each in (found.pixels, found.pixels[::-1])]
    assert min(both_ways) < 0.15, "half a turn looks the same"
    np.testing.assert_array_equal(found.places, wanted.places)


def test_a_large_picture_is_searched_small_and_measured_at_full_size() -> None:
    grey = picture(FLAT, POSES[4])
    large = np.asarray(cv2.resize(grey, (3200, 2400), interpolation=cv2.INTER_CUBIC), np.uint8)
    small_found, found = Chessboard(8, 6, SQUARE_MM).find(grey), Chessboard(8, 6, SQUARE_MM).find(large)
    assert found is not None and small_found is not None
    expected = (small_found.pixels + 0.5) * 5 - 0.5
    assert min(np.linalg.norm(found.pixels - each, axis=1).max() for each in (expected, expected[::-1])) < 1.0


@pytest.mark.parametrize("marker_share", [0.6, 0.7, 0.8])
@pytest.mark.parametrize("legacy", [False, True])
def test_charuco_corners_are_where_they_are_whatever_the_print(legacy: bool, marker_share: float) -> None:
    board = Charuco(7, 5, SQUARE_MM, "5X5_100")
    flat = charuco(7, 5, cv2.aruco.DICT_5X5_100, legacy, marker_share)
    for pose in (POSES[0], POSES[10]):
        found = board.find(picture(flat, pose))
        assert found is not None and len(found.numbers) >= 12
        wanted = true_corners(7, 5, pose)
        assert np.median(np.linalg.norm(found.pixels - wanted.pixels[found.numbers], axis=1)) < 0.2


def test_part_of_a_charuco_board_is_enough() -> None:
    flat = charuco(7, 5, cv2.aruco.DICT_5X5_100)
    grey = picture(flat, POSES[4])
    grey[:, 300:] = 128
    found = Charuco(7, 5, SQUARE_MM, "5X5_100").find(grey)
    assert found is not None and 8 <= len(found.numbers) < 35
    assert Chessboard(7, 5, SQUARE_MM).find(grey) is None


def test_one_row_of_corners_is_no_view() -> None:
    flat = charuco(9, 5, cv2.aruco.DICT_5X5_100)
    flat[118:] = 255  # the second row of corners would be at 120
    assert Charuco(9, 5, SQUARE_MM, "5X5_100").find(picture(flat, POSES[4])) is None


@pytest.mark.parametrize(
    ("board", "grey", "says"),
    [
        (Chessboard(9, 6, SQUARE_MM), picture(FLAT, POSES[4]), "a.png shows one of 8x6: give --board 8x6"),
        (Chessboard(9, 7, SQUARE_MM), picture(FLAT, POSES[4]), "--board 8x6, counting inner corners"),
        (Chessboard(9, 6, SQUARE_MM), GREY, "inner corners and not squares"),
        (
            Charuco(7, 5, SQUARE_MM, "4X4_50"),
            picture(charuco(7, 5, cv2.aruco.DICT_5X5_100), POSES[4]),
            "markers of 5X5_50: give --charuco 5X5_50",
        ),
        (
            Charuco(9, 5, SQUARE_MM, "5X5_100"),
            picture(charuco(7, 5, cv2.aruco.DICT_5X5_100), POSES[4]),
            "in another layout: check --board",
        ),
        (Charuco(7, 5, SQUARE_MM, "4X4_50"), GREY, "no marker of any dictionary"),
    ],
)
def test_why_a_board_is_not_found(board: Chessboard | Charuco, grey: np.ndarray, says: str) -> None:
    assert board.find(grey) is None
    assert says in board.why_not([("a.png", grey)])


def test_dictionaries_by_name() -> None:
    assert dictionary_name("dict_5x5_100") == dictionary_name("5X5_100") == "5X5_100"
    assert dictionaries()["4X4_50"] == cv2.aruco.DICT_4X4_50
    with pytest.raises(ValueError, match="did you mean 5X5_100"):
        dictionary_name("5X5_101")
    with pytest.raises(UserError, match=r"has 117 markers and 4X4_50 only 50"):
        Charuco(17, 12, SQUARE_MM, "4X4_50")
