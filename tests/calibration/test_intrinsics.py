"""Solving: the known camera comes out, bad views are left out and named, and what cannot be known is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.board import Corners
from calibration.intrinsics import TooFewViews, solve
from edge.errors import UserError
from tests.calibration.shown_board import HEIGHT, LENS, POSES, WIDTH, Pose, true_corners


def seen(pose: Pose, seed: int, noise: float = 0.1) -> Corners:
    corners = true_corners(8, 6, pose)
    return replace(corners, pixels=corners.pixels + np.random.default_rng(seed).normal(0, noise, (48, 2)).astype(np.float32))


VIEWS = {f"{place}.png": seen(pose, place) for place, pose in enumerate(POSES)}


def solved(views: dict[str, Corners]):
    return solve(views, (WIDTH, HEIGHT), board="a board", made_from="here")


def test_the_known_camera_comes_out_within_its_uncertainty() -> None:
    found = solved(VIEWS).intrinsics
    wanted = (LENS.matrix[0, 0], LENS.matrix[1, 1], LENS.matrix[0, 2], LENS.matrix[1, 2])
    spread = found.uncertainty_px
    for value, true, deviation in zip(
        (found.fx, found.fy, found.cx, found.cy), wanted, (spread.fx, spread.fy, spread.cx, spread.cy), strict=True
    ):
        assert abs(value - true) < 4 * deviation < 4.0
    assert found.distortion[0] == pytest.approx(-0.25, abs=0.01)
    assert found.rms_px == pytest.approx(0.1 * np.sqrt(2), rel=0.1)
    assert list(found.views_px) == list(VIEWS) and found.left_out_px == {}


def test_views_that_stand_out_are_left_out_and_named() -> None:
    bad = dict(VIEWS)
    rng = np.random.default_rng(1)
    for name in ("3.png", "9.png"):
        bad[name] = replace(bad[name], pixels=bad[name].pixels + rng.normal(0, 3.0, (48, 2)).astype(np.float32))
    found = solved(bad).intrinsics
    assert set(found.left_out_px) == {"3.png", "9.png"} and min(found.left_out_px.values()) > 2.0
    assert set(found.views_px) == set(VIEWS) - {"3.png", "9.png"}
    assert found.fx == pytest.approx(solved({n: v for n, v in VIEWS.items() if n in found.views_px}).intrinsics.fx)
    assert abs(found.fx - LENS.matrix[0, 0]) < 2.0


def test_too_few_views_say_how_many_to_add() -> None:
    with pytest.raises(TooFewViews, match=r"only 3 usable views .* in here: at least 8 .* so add 17"):
        solved(dict(list(VIEWS.items())[:3]))


def test_views_that_contradict_each_other_are_refused() -> None:
    rng = np.random.default_rng(2)
    views = dict(VIEWS)
    for place, name in enumerate(list(views)[:7]):
        shift = rng.normal(0, 4.0 * 2**place, (48, 2)).astype(np.float32)
        views[name] = replace(views[name], pixels=views[name].pixels + shift)
    with pytest.raises(UserError, match="contradict each other"):
        solved(views)


def test_boards_seen_only_head_on_are_refused() -> None:
    views = {
        f"{place}": seen(Pose((20.0 * (place % 3 - 1), 15.0 * (place // 3 - 1), 600.0), (0.0, 0.0, 0.1 * place)), place, 0.3)
        for place in range(9)
    }
    with pytest.raises(UserError, match=r"focal length is .* turned by 20 to 45 degrees"):
        solved(views)
