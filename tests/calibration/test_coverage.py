"""What the views cover: which ninths and which way the board is turned, and what is asked for in words."""

from __future__ import annotations

import pytest

from calibration.coverage import TILTS, coverage, rough_lens, tilt
from tests.calibration.shown_board import HEIGHT, LENS, POSES, WIDTH, Pose, true_corners


@pytest.mark.parametrize(
    ("turn", "nearer"),
    [
        ((0.0, 0.5, 0.0), "right edge nearer"),
        ((0.0, -0.5, 0.0), "left edge nearer"),
        ((0.5, 0.0, 0.0), "upper edge nearer"),
        ((-0.5, 0.0, 0.0), "lower edge nearer"),
        ((0.1, 0.0, 0.0), None),
        ((0.0, 0.0, 1.5), None),
    ],
)
@pytest.mark.parametrize("lens", [LENS, rough_lens(WIDTH, HEIGHT)], ids=["known", "guessed"])
def test_the_nearer_edge_is_named(turn: tuple[float, float, float], nearer: str | None, lens) -> None:
    pose = Pose((0.0, 0.0, 400.0), turn)
    seen = coverage([true_corners(8, 6, pose)], lens)
    assert seen.tilts == {name: int(name == nearer) for name in TILTS}


def test_which_edge_is_nearer_is_so_by_the_distances() -> None:
    """The rotation by hand: a positive turn about the axis that points down brings the right edge nearer."""
    pose = Pose((0.0, 0.0, 400.0), (0.0, 0.5, 0.0))
    corners = true_corners(8, 6, pose).pixels.reshape(6, 8, 2)
    left, right = (corners[-1, side, 1] - corners[0, side, 1] for side in (0, -1))
    assert right > left
    assert tilt(true_corners(8, 6, pose), LENS)[TILTS.index("right edge nearer")] == pytest.approx(28.6, abs=1.0)


def test_what_is_missing_is_said_in_words() -> None:
    left_top = true_corners(8, 6, Pose((-90.0, -70.0, 450.0), (0.0, 0.5, 0.0)))
    wanted = coverage([left_top] * 3, LENS).wanted
    assert len(wanted) == 2
    assert "lower right" in wanted[0] and "upper left" not in wanted[0]
    assert "left edge nearer, upper edge nearer and lower edge nearer" in wanted[1]
    full = coverage([true_corners(8, 6, pose) for pose in POSES], LENS)
    assert full.wanted == [] and full.corners.sum() == 48 * len(POSES)
