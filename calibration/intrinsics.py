"""From views of a board to the intrinsics of the camera: solve, leave out the views whose error stands out, solve again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import Corners
from calibration.coverage import Coverage, coverage
from edge.errors import UserError
from edge.intrinsics import Intrinsics, Uncertainty

FEWEST_VIEWS = 8
FEWEST_ADVICE = 20
STANDS_OUT = 2.0
"""Times the median error of the views."""
STANDS_OUT_PX = 0.2
"""And above it by at least so much: where all corners are sharp, twice almost nothing is still almost nothing."""
LEFT_OUT_SHARE = 0.25
"""If more than this share of the views would have to go, it is not the views."""
UNCERTAIN_SHARE = 0.02
"""A focal length known no better than this is refused."""


class TooFewViews(UserError):
    """Nothing can be solved yet; the message says how many views there are and what to add."""


@dataclass(frozen=True, slots=True)
class Solution:
    """intrinsics: what was measured. coverage: by the views used."""

    intrinsics: Intrinsics
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class _Fit:
    rms: float
    matrix: np.ndarray
    distortion: np.ndarray
    deviations: np.ndarray
    errors: dict[str, float]


def solve(
    views: Mapping[str, Corners],
    size: tuple[int, int],
    *,
    board: str,
    made_from: str,
    progress: Callable[[str], None] = lambda line: None,
) -> Solution:
    """Intrinsics from the views, by name. size: width and height of the pictures. Takes about 2 ms per view and round.
    Raises TooFewViews or UserError."""
    if len(views) < FEWEST_VIEWS:
        count = "1 usable view" if len(views) == 1 else f"{len(views)} usable views"
        raise TooFewViews(
            f"there are only {count} of the board in {made_from}: at least {FEWEST_VIEWS} are needed and {FEWEST_ADVICE} are good, "
            f"so add {FEWEST_ADVICE - len(views)}, turned to all sides and all over the picture"
        )
    used = dict(views)
    left_out: dict[str, float] = {}
    while True:
        progress(f"solving with {len(used)} views")
        fit = _fit(used, size)
        worst = max(fit.errors, key=lambda name: fit.errors[name])
        median = float(np.median(list(fit.errors.values())))
        if fit.errors[worst] <= max(STANDS_OUT * median, median + STANDS_OUT_PX):
            break
        left_out[worst] = round(fit.errors[worst], 4)
        del used[worst]
        if len(left_out) > LEFT_OUT_SHARE * len(views) or len(used) < FEWEST_VIEWS:
            raise UserError(
                f"the views in {made_from} contradict each other, {', '.join(left_out)} most of all: use a flat board, hold it "
                "still, keep focus and zoom fixed, and take the pictures again"
            )
    return _checked(fit, used, left_out, size, board, made_from)


def _fit(views: Mapping[str, Corners], size: tuple[int, int]) -> _Fit:
    try:
        rms, matrix, distortion, _, _, deviations, _, errors = cv2.calibrateCameraExtended(
            [view.places for view in views.values()], [view.pixels for view in views.values()], size, None, None  # type: ignore[call-overload]
        )  # fmt: skip
    except cv2.error as error:
        why = " ".join(str(error).split())[-120:]
        raise UserError(f"these views have no solution ({why}): turn the board, and do not only move it") from None
    named = dict(zip(views, (float(each) for each in np.ravel(errors)), strict=True))
    return _Fit(float(rms), np.asarray(matrix), np.ravel(distortion)[:5], np.ravel(deviations), named)


def _checked(
    fit: _Fit, used: Mapping[str, Corners], left_out: dict[str, float], size: tuple[int, int], board: str, made_from: str
) -> Solution:
    numbers = [fit.rms, *np.ravel(fit.matrix), *fit.distortion]
    focal, centre = (fit.matrix[0, 0], fit.matrix[1, 1]), (fit.matrix[0, 2], fit.matrix[1, 2])
    sound = bool(np.isfinite(numbers).all()) and min(focal) > 0 and 0 <= centre[0] <= size[0] and 0 <= centre[1] <= size[1]
    doubt = max(fit.deviations[0] / focal[0], fit.deviations[1] / focal[1]) if sound else np.inf
    if not doubt <= UNCERTAIN_SHARE:
        known = f"only known to {100 * doubt:.0f} %" if sound else "not known at all"
        raise UserError(
            f"from these {len(used)} views the focal length is {known}: add views with the board turned by 20 to 45 degrees to "
            "each side, large in the picture and up to its rim"
        )
    k1, k2, p1, p2, k3 = (round(float(each), 8) for each in fit.distortion)
    fx, fy, cx, cy = (round(float(each), 4) for each in (*focal, *centre))
    intrinsics = Intrinsics(
        width=size[0],
        height=size[1],
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        distortion=(k1, k2, p1, p2, k3),
        rms_px=round(fit.rms, 4),
        board=board,
        made_from=made_from,
        opencv=cv2.__version__,
        uncertainty_px=Uncertainty(**dict(zip(("fx", "fy", "cx", "cy"), np.round(fit.deviations[:4], 4).tolist(), strict=True))),
        views_px={name: round(error, 4) for name, error in fit.errors.items()},
        left_out_px=left_out,
    )
    return Solution(intrinsics, coverage(list(used.values()), intrinsics.lens))
