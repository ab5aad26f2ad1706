"""Views of a board out of a folder of pictures, a video or a live camera, with word of how it goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from calibration.board import Board, Corners, Grey
from calibration.coverage import coverage, rough_lens
from edge.cameras.camera import Camera
from edge.cameras.source import Source, pictures_in
from edge.clock import NS_PER_S
from edge.errors import UserError

LOOK_EVERY_NS = NS_PER_S // 5
"""Of a video or a live camera: nobody moves a board far in this time."""
NEW_SHARE = 0.04
"""A view counts as new if its corners have moved by this share of the picture's width, on average, from every other view."""
ENOUGH_VIEWS = 30
"""A live camera is asked until it has so many and all is covered."""
MOST_VIEWS = 100
"""Of a video or a live camera; more would take minutes to solve and add nothing."""
LIVE_LIMIT_S = 600.0
PATIENCE_S = 60.0
KEPT_BLIND = 8
"""Pictures without a board that are kept, to say why."""


@dataclass(slots=True)
class Views:
    """What has been gathered. found: by name, in order. size: width and height, (0, 0) before the first picture. looked:
    pictures searched. without: names of those without the board. near_duplicates: boards too near to one already seen.
    blind: some pictures without the board. example: the picture whose board is largest. most_area: of that board, square
    pixels."""

    found: dict[str, Corners] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    looked: int = 0
    without: list[str] = field(default_factory=list)
    near_duplicates: int = 0
    blind: list[tuple[str, Grey]] = field(default_factory=list)
    example: Grey | None = None
    most_area: float = 0.0


Progress = Callable[[str], None]


def from_folder(folder: Path, board: Board, progress: Progress) -> Views:
    """Every picture of the folder. Raises UserError for one that cannot be read or has another size than the first."""
    views = Views()
    paths = pictures_in(folder)
    for place, path in enumerate(paths, 1):
        grey = _read(path)
        size = (grey.shape[1], grey.shape[0])
        if views.looked and size != views.size:
            raise UserError(
                f"{path} is {size[0]}x{size[1]} and {paths[0].name} is {views.size[0]}x{views.size[1]}: "
                "all pictures must come from one camera at one size, so take the others out"
            )
        views.size = size
        corners = _look(views, path.name, grey, board)
        if corners is not None:
            views.found[path.name] = corners
        seen = "board found" if corners is not None else "no board"
        progress(f"{place} of {len(paths)}, {path.name}: {seen}, {len(views.found)} views so far")
    return views


def from_video(camera: Camera, board: Board, progress: Progress) -> Views:
    """Views out of a recording, opened with speed "max" and started, that differ from each other."""
    views = Views()
    for at_s, grey in _pictures(camera):
        _add_if_new(views, f"{at_s:.1f} s", grey, board)
        progress(f"{at_s:.0f} s: {len(views.found)} views so far")
        if len(views.found) >= MOST_VIEWS:
            break
    return views


def from_live(camera: Camera, board: Board, progress: Progress, now_s: Callable[[], float] = time.monotonic) -> Views:
    """Views that differ from each other, until all is covered, ten minutes have passed or Ctrl-C. Says what is still
    wanted. camera: live and started."""
    views = Views()
    began_s = now_s()
    with contextlib.suppress(KeyboardInterrupt):  # the person has shown enough; what there is counts
        for at_s, grey in _pictures(camera):
            new = _add_if_new(views, f"{at_s:.1f} s", grey, board)
            wanted = coverage(list(views.found.values()), rough_lens(*views.size)).wanted
            if len(views.found) < ENOUGH_VIEWS:
                wanted.append(f"{ENOUGH_VIEWS - len(views.found)} more views")
            progress(f"views: {len(views.found)}{', one more' if new else ''}; still wanted: {'; '.join(wanted) or 'nothing'}")
            if not wanted or len(views.found) >= MOST_VIEWS or now_s() - began_s > LIVE_LIMIT_S:
                break
    return views


def is_new(corners: Corners, others: Iterable[Corners], width: int) -> bool:
    """Its corners have moved, on average, from those of every other view. A chessboard turned by half a turn looks the same."""
    for other in others:
        for numbers in (other.numbers, other.numbers.max() + other.numbers.min() - other.numbers):
            _, mine, its = np.intersect1d(corners.numbers, numbers, return_indices=True)
            if len(mine) < len(corners.numbers) // 2:
                continue
            if np.linalg.norm(corners.pixels[mine] - other.pixels[its], axis=1).mean() < NEW_SHARE * width:
                return False
    return True


def source_views(source: Source, open_camera: Callable[[], Camera], board: Board, progress: Progress) -> Views:
    """The views of any source but a folder. open_camera: opens it, not started. Raises UserError."""
    camera = open_camera()
    with contextlib.closing(camera):
        camera.start()
        return (from_live if source.live else from_video)(camera, board, progress)


def _add_if_new(views: Views, name: str, grey: Grey, board: Board) -> bool:
    views.size = (grey.shape[1], grey.shape[0])
    corners = _look(views, name, grey, board)
    if corners is None:
        return False
    if not is_new(corners, views.found.values(), views.size[0]):
        views.near_duplicates += 1
        return False
    views.found[name] = corners
    return True


def _look(views: Views, name: str, grey: Grey, board: Board) -> Corners | None:
    views.looked += 1
    corners = board.find(grey)
    if corners is None:
        views.without.append(name)
        if len(views.blind) < KEPT_BLIND:
            views.blind.append((name, grey))
    elif (area := float(np.prod(np.ptp(corners.pixels, axis=0)))) > views.most_area:
        views.example, views.most_area = grey, area
    return corners


def _pictures(camera: Camera) -> Iterator[tuple[float, Grey]]:
    """Healthy pictures, at most five a second, with their time since the first one."""
    first_ns: int | None = None
    next_ns = 0
    heard_s = time.monotonic()
    while True:
        camera.wait(0.1)
        frame = camera.latest(NS_PER_S)
        if frame is None:
            status = camera.status()
            if status.ended or status.failed:
                return
            if time.monotonic() - heard_s > PATIENCE_S:
                raise UserError(f"no picture came for {PATIENCE_S:.0f} s ({status.detail or 'no reason known'}): check the camera")
            continue
        heard_s = time.monotonic()
        first_ns = frame.captured_ns if first_ns is None else first_ns
        at_ns = frame.captured_ns - first_ns
        if at_ns >= next_ns and not frame.faults:
            next_ns = at_ns + LOOK_EVERY_NS
            yield at_ns / NS_PER_S, np.asarray(cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2GRAY), np.uint8)


def _read(path: Path) -> Grey:
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"the picture {path} cannot be read ({error.strerror}): check its permissions") from None
    # As the sensor saw it: a camera's stream has no orientation either.
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    grey = cv2.imdecode(data, flags) if data.size else None  # OpenCV raises on nothing at all
    if grey is None:
        raise UserError(f"the picture {path} cannot be decoded: copy it again, or take it out of the folder")
    return np.asarray(grey, np.uint8)
