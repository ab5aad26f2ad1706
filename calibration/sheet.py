"""One picture that shows a calibration: where corners were seen, a view as it is, and the same view straight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from calibration.board import Corners, Grey
from calibration.coverage import Coverage
from edge.errors import UserError
from edge.intrinsics import Intrinsics
from edge.messages import Pixels
from edge.scaling import Scaler

SUFFIXES = (".png", ".jpg", ".jpeg")
PANEL_WIDTH = 480
GAP = 8
INK, PAPER, LINE = (40, 40, 40), (255, 255, 255), (200, 200, 200)
GOOD, BAD = np.array([170.0, 120.0, 20.0]), np.array([30.0, 30.0, 220.0])


def draw_sheet(views: Mapping[str, Corners], example: Grey, intrinsics: Intrinsics, coverage: Coverage) -> Pixels:
    """uint8 (H, W, 3) BGR, three panels side by side: corners from blue to red by the error of their view, with the count
    per ninth; a view; the same straightened."""
    size = (PANEL_WIDTH, round(PANEL_WIDTH * intrinsics.height / intrinsics.width))
    colour: Pixels = np.repeat(example[..., None], 3, axis=2)
    seen = _corners_seen(views, intrinsics, coverage, size)
    gap: Pixels = np.full((size[1], GAP, 3), 255, np.uint8)
    return np.hstack([seen, gap, Scaler(size).scaled(colour), gap, Scaler(size, intrinsics).scaled(colour)])


def save_sheet(path: Path, sheet: Pixels) -> None:
    """As PNG or JPEG, by the name's ending, see SUFFIXES. Raises UserError."""
    _, data = cv2.imencode(path.suffix, sheet)
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another place with --picture") from None


def _corners_seen(views: Mapping[str, Corners], intrinsics: Intrinsics, coverage: Coverage, size: tuple[int, int]) -> Pixels:
    panel: Pixels = np.full((size[1], size[0], 3), 250, np.uint8)
    for third in (1, 2):
        x, y = third * size[0] // 3, third * size[1] // 3
        cv2.line(panel, (x, 0), (x, size[1]), LINE, 1)
        cv2.line(panel, (0, y), (size[0], y), LINE, 1)
    errors = intrinsics.views_px | intrinsics.left_out_px
    top = max(errors.values())
    for name, view in views.items():
        share = errors[name] / top if top else 0.0
        bgr = tuple(float(each) for each in GOOD + (BAD - GOOD) * share)
        for x, y in (view.pixels + 0.5) * (size[0] / intrinsics.width):
            cv2.circle(panel, (round(float(x)), round(float(y))), 2, bgr, -1, cv2.LINE_AA)
    for row, column in np.ndindex(3, 3):
        corner = (column * size[0] // 3 + 6, row * size[1] // 3 + 18)
        text = str(coverage.corners[row, column])
        cv2.putText(panel, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, PAPER, 3, cv2.LINE_AA)
        cv2.putText(panel, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    cv2.rectangle(panel, (0, 0), (size[0] - 1, size[1] - 1), LINE, 1)
    return panel
