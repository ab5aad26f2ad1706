"""What is held in front of a camera to calibrate it, and where its corners are in a picture: chessboard or ChArUco."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError

Grey = NDArray[np.uint8]
Points = NDArray[np.float32]
Numbers = NDArray[np.int64]

DETECT_SIDE = 1600
"""A chessboard is searched for in a picture whose longer side is at most this, then refined at full size."""
WINDOW_SHARE = 0.3
WINDOW_PX = (2, 11)
"""Half the window of the corner refinement: a share of the distance to the next corner, within these. A window that reaches
the next corner moves the result by pixels: a fixed 11 takes the error on the reference folder from 0.52 to 0.82 pixels."""
CHARUCO_WINDOW_SHARE = 0.12
"""The same where markers begin a tenth of a square away."""
FEWEST_CORNERS = 8
CROOKED_SHARE = 1.0
"""Corners farther from the best plane view than this share of a square are not this board's. In the reference folder, 120
degrees across, the lens bends a board by up to half a square."""
LOOK_CLOSER = 6
"""In so many pictures what else they show is searched for when no board was found."""


@dataclass(frozen=True, slots=True)
class Corners:
    """The inner corners found in one picture. numbers: int64 (N,), which ones, counted row by row from 0. places: float32
    (N, 3), where they are on the board, mm. pixels: float32 (N, 2), where they are in the picture, pixel centres at whole
    numbers."""

    numbers: Numbers
    places: Points
    pixels: Points


class Board(Protocol):
    """columns, rows: inner corners. label: for people."""

    columns: int
    rows: int

    @property
    def label(self) -> str: ...

    def find(self, grey: Grey) -> Corners | None:
        """The board in a uint8 (H, W) picture, or None."""

    def why_not(self, pictures: Sequence[tuple[str, Grey]]) -> str:
        """Why none of these named pictures shows it, and what to do: the end of a sentence."""


class Chessboard:
    """columns, rows: inner corners. Found only where it is seen whole."""

    def __init__(self, columns: int, rows: int, square_mm: float) -> None:
        self.columns, self.rows = columns, rows
        self._square_mm = square_mm
        self._places = _grid(columns, rows, square_mm)

    @property
    def label(self) -> str:
        return f"chessboard {self.columns}x{self.rows}, squares of {self._square_mm:g} mm"

    def find(self, grey: Grey) -> Corners | None:
        height, width = grey.shape
        small, scale = grey, 1.0
        if max(height, width) > DETECT_SIDE:
            scale = max(height, width) / DETECT_SIDE
            small = np.asarray(
                cv2.resize(grey, (round(width / scale), round(height / scale)), interpolation=cv2.INTER_AREA), np.uint8
            )
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
        found, corners = cv2.findChessboardCorners(small, (self.columns, self.rows), None, flags)
        if not found:
            return None
        pixels = np.asarray(corners, np.float32).reshape(-1, 2)
        if scale != 1.0:  # once more at the small size, so that the full size begins within its window
            pixels = self._refined(small, pixels)
            pixels = np.asarray((pixels + 0.5) * (width / small.shape[1], height / small.shape[0]) - 0.5, np.float32)
        return Corners(np.arange(len(pixels)), self._places, self._refined(grey, pixels))

    def why_not(self, pictures: Sequence[tuple[str, Grey]]) -> str:
        for name, grey in _spread(pictures):
            found, _, meta = cv2.findChessboardCornersSBWithMeta(grey, (3, 3), cv2.CALIB_CB_LARGER)
            rows, columns = (meta.shape[0], meta.shape[1]) if found and meta is not None else (0, 0)
            if found and sorted((rows, columns)) != sorted((self.rows, self.columns)):
                big, small = max(rows, columns), min(rows, columns)
                return f"{name} shows one of {big}x{small}: give --board {big}x{small}, counting inner corners"
        return "check that --board counts inner corners and not squares, and that the board is in the picture with its white rim"

    def _refined(self, grey: Grey, pixels: Points) -> Points:
        lattice = pixels.reshape(self.rows, self.columns, 2)
        return _refined(grey, pixels, WINDOW_SHARE * _nearest(lattice))


class Charuco:
    """A chessboard with ArUco markers in its white squares: found also where only a part of it is seen, so it reaches the rim
    of the picture. columns, rows: inner corners. dictionary: of OpenCV's markers, see :func:`dictionaries`. Boards printed
    by OpenCV before 4.6 begin with a white square: both are understood."""

    MARKER_SHARE = 0.75
    """Marker side by square side. It only guides the search: corners are found where squares meet."""

    def __init__(self, columns: int, rows: int, square_mm: float, dictionary: str) -> None:
        self.columns, self.rows = columns, rows
        self._square_mm = square_mm
        self._name = dictionary
        self._markers = cv2.aruco.getPredefinedDictionary(dictionaries()[dictionary])
        squares = (columns + 1, rows + 1)
        held, needed = len(self._markers.bytesList), squares[0] * squares[1] // 2
        if needed > held:
            raise UserError(
                f"a board of {columns}x{rows} inner corners has {needed} markers and {dictionary} only {held}: "
                "give a larger dictionary or a smaller board"
            )
        self._detectors = []
        for legacy in (False, True):
            board = cv2.aruco.CharucoBoard(squares, square_mm, self.MARKER_SHARE * square_mm, self._markers)
            board.setLegacyPattern(legacy)
            self._detectors.append(cv2.aruco.CharucoDetector(board))
        self._places = _grid(columns, rows, square_mm)

    @property
    def label(self) -> str:
        return f"ChArUco board {self.columns}x{self.rows} of {self._name}, squares of {self._square_mm:g} mm"

    def find(self, grey: Grey) -> Corners | None:
        for detector in self._detectors:
            corners, numbers, _, _ = detector.detectBoard(grey)
            if corners is None or numbers is None or len(numbers) < FEWEST_CORNERS:
                continue
            which = np.asarray(numbers, np.int64).ravel()
            pixels = np.asarray(corners, np.float32).reshape(-1, 2)
            lattice = np.full((self.rows, self.columns, 2), np.nan, np.float32)
            lattice.reshape(-1, 2)[which] = pixels
            # Again, and by ourselves: OpenCV 4 has these corners half a pixel too far right and down.
            found = Corners(which, self._places[which], _refined(grey, pixels, CHARUCO_WINDOW_SHARE * _nearest(lattice)))
            if self._is_plane(found):
                if detector is not self._detectors[0]:  # this is how it was printed: ask first
                    self._detectors.reverse()
                return found
        return None

    def why_not(self, pictures: Sequence[tuple[str, Grey]]) -> str:
        for name, grey in _spread(pictures):
            name_seen, numbers = _most_markers(grey)
            if len(numbers) >= 4:
                if numbers.max() < len(self._markers.bytesList) and _family(name_seen) == _family(self._name):
                    return f"{name} shows {len(numbers)} of its markers in another layout: check --board (it counts inner corners)"
                return f"{name} shows {len(numbers)} markers of {name_seen}: give --charuco {name_seen}"
        return "no marker of any dictionary is seen either, so check focus, light and distance"

    def _is_plane(self, found: Corners) -> bool:
        """Not all in one line, and where a flat board could show them."""
        rows, columns = np.divmod(found.numbers, self.columns)
        if len(np.unique(rows)) < 2 or len(np.unique(columns)) < 2:
            return False
        plane, _ = cv2.findHomography(found.pixels, found.places[:, :2], 0)
        if plane is None:
            return False
        back = cv2.perspectiveTransform(found.pixels[:, None], plane).reshape(-1, 2)
        return bool(np.linalg.norm(back - found.places[:, :2], axis=1).max() < CROOKED_SHARE * self._square_mm)


def _nearest(lattice: Points) -> float:
    """The smallest distance between neighbours in float32 (rows, columns, 2), of which some may be NaN; 0 if there are none."""
    steps = [np.linalg.norm(np.diff(lattice, axis=axis), axis=2).ravel() for axis in (0, 1)]
    known = np.concatenate(steps)
    known = known[np.isfinite(known)]
    return float(known.min()) if len(known) else 0.0


def _refined(grey: Grey, pixels: Points, half_window: float) -> Points:
    """Corners moved to where the edges meet. half_window: pixels, brought within WINDOW_PX."""
    half = int(np.clip(half_window, *WINDOW_PX))
    enough = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 30, 0.001)
    refined = cv2.cornerSubPix(grey, pixels.reshape(-1, 1, 2).copy(), (half, half), (-1, -1), enough)
    return np.asarray(refined, np.float32).reshape(-1, 2)


def dictionaries() -> dict[str, int]:
    """OpenCV's predefined marker dictionaries by name ("4X4_50", ..., "APRILTAG_36H11"), smallest of a family first."""
    prefix = "DICT_"
    names = {name[len(prefix) :].upper(): name for name in dir(cv2.aruco) if name.startswith(prefix)}
    numbers = {short: int(getattr(cv2.aruco, name)) for short, name in names.items()}
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def dictionary_name(text: str) -> str:
    """The dictionary that a person means. Raises ValueError with a sentence."""
    name = text.upper().removeprefix("DICT_")
    known = dictionaries()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        raise ValueError(f"{text!r} is no marker dictionary: " + (f"did you mean {close[0]}?" if close else ", ".join(known)))
    return name


def _grid(columns: int, rows: int, square_mm: float) -> Points:
    across, down = np.meshgrid(np.arange(columns), np.arange(rows))
    return np.asarray(np.stack([across, down, np.zeros_like(down)], axis=-1).reshape(-1, 3) * square_mm, np.float32)


def _family(dictionary: str) -> str:
    """Dictionaries of one family begin with the same markers: 4X4_50 is the beginning of 4X4_1000."""
    return dictionary.rpartition("_")[0] if re.fullmatch(r"(.)X\1_\d+", dictionary) else dictionary


def _most_markers(grey: Grey) -> tuple[str, Numbers]:
    """The smallest dictionary that explains most of what is seen, and the numbers of its markers."""
    best, numbers = "", np.empty(0, np.int64)
    families: dict[str, list[str]] = {}
    for name in dictionaries():
        families.setdefault(_family(name), []).append(name)
    for members in families.values():
        detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(dictionaries()[members[-1]]))
        _, seen, _ = detector.detectMarkers(grey)
        found = np.empty(0, np.int64) if seen is None else np.unique(np.asarray(seen, np.int64))
        if len(found) > len(numbers):
            sizes = {name: len(cv2.aruco.getPredefinedDictionary(dictionaries()[name]).bytesList) for name in members}
            best, numbers = next(name for name in members if sizes[name] > found.max()), found
    return best, numbers


def _spread(pictures: Sequence[tuple[str, Grey]]) -> Sequence[tuple[str, Grey]]:
    return pictures[:: max(1, -(-len(pictures) // LOOK_CLOSER))]
