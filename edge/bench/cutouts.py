"""Foreign objects for the watch benchmark: what moves in one recording, cut out to be pasted into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.messages import Floats, Pixels

_DIFFERENT = 30
_SMALLEST, _LARGEST = 0.01, 0.2  # of the picture's area
_LEAST_CONTRAST = 30.0


@dataclass(frozen=True, slots=True)
class Cutout:
    """colours: uint8 (h, w, 3) BGR. alpha: float32 (h, w) in [0, 1]."""

    colours: Pixels
    alpha: Floats

    def scaled(self, height: int) -> Cutout:
        """The same object ``height`` pixels tall."""
        size = (max(1, round(self.colours.shape[1] * height / self.colours.shape[0])), height)
        shrink = cv2.INTER_AREA if height < self.colours.shape[0] else cv2.INTER_LINEAR
        alpha = cv2.resize(self.alpha, size, interpolation=shrink).reshape(height, size[0])
        colours = np.asarray(cv2.resize(self.colours, size, interpolation=shrink), np.uint8)
        return Cutout(colours, np.asarray(alpha, np.float32))

    def paste_into(self, picture: Pixels, left: int, top: int) -> Pixels:
        """A copy of the picture with the object at this place; what lies outside is cut off."""
        out: Pixels = picture.copy()
        height, width = self.alpha.shape
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(picture.shape[0], top + height), min(picture.shape[1], left + width)
        if y0 < y1 and x0 < x1:
            here = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            under = out[y0:y1, x0:x1].astype(np.float32)
            mixed = under + self.alpha[here][..., None] * (self.colours[here] - under)
            out[y0:y1, x0:x1] = mixed.astype(np.uint8)
        return out


def moving_objects(frames: Sequence[Pixels], background: Pixels, most: int = 60) -> list[Cutout]:
    """The largest thing that differs from the empty scene, in ``most`` frames spread over a recording.

    Frames give nothing in which no single thing of a sensible size differs, or it has hardly any contrast of its own (the
    bare place where something of the background was taken away).
    """
    found = []
    for spot in np.linspace(0, len(frames) - 1, min(len(frames), most)).astype(int):
        cutout = _largest_difference(frames[spot], background)
        if cutout is not None:
            found.append(cutout)
    return found


def _largest_difference(frame: Pixels, background: Pixels) -> Cutout | None:
    different = (cv2.absdiff(frame, background).max(axis=2) > _DIFFERENT).astype(np.uint8)
    round_brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    different = cv2.morphologyEx(cv2.morphologyEx(different, cv2.MORPH_OPEN, round_brush), cv2.MORPH_CLOSE, round_brush)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(different)
    if count < 2:
        return None
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y, w, h, area = (int(value) for value in stats[best])
    height, width = frame.shape[:2]
    if not _SMALLEST <= area / (height * width) <= _LARGEST or w >= width - 2 or h >= height - 2:
        return None
    mask = (labels[y : y + h, x : x + w] == best).astype(np.float32)
    if float(cv2.cvtColor(frame[y : y + h, x : x + w], cv2.COLOR_BGR2GRAY)[mask > 0].std()) < _LEAST_CONTRAST:
        return None
    alpha = cv2.GaussianBlur(mask, (0, 0), 1.0).reshape(h, w).astype(np.float32)
    return Cutout(frame[y : y + h, x : x + w].copy(), alpha)
