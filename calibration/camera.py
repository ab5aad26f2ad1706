"""``calibrate camera``: the intrinsics of a camera from pictures of a chessboard or ChArUco board."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np

from calibration.board import Board, Charuco, Chessboard, dictionary_name
from calibration.coverage import Coverage
from calibration.intrinsics import Solution, solve
from calibration.progress import terminal_line
from calibration.sheet import SUFFIXES, draw_sheet, save_sheet
from calibration.views import Views, from_folder, source_views
from edge.cameras.opening import open_camera
from edge.cameras.source import Kind, Source, parse_source
from edge.clock import MonotonicClock
from edge.errors import UserError
from edge.intrinsics import Intrinsics
from edge.undistortion import filled_matrix

WORST_NAMED = 3

_EXAMPLES = """examples:
  latentloop calibrate camera pictures/ --board 8x6 --out camera.toml
  latentloop calibrate camera /dev/video0 --board 9x6 --square-mm 24.5 --out camera.toml
  latentloop calibrate camera board.mp4 --board 10x7 --charuco 5X5_100 --out camera.toml

Then, in the robot file:
  [camera]
  source = "/dev/video0"
  intrinsics = "camera.toml"

--board counts inner corners, where four squares meet: one less than squares in each direction, for ChArUco boards too.
Show 20 views or more: the board flat on something stiff, all over the picture up to its rim, near and far, and turned by
20 to 45 degrees to each of its four sides. Focus and zoom must not change, then or later. A live camera says what is still
wanted and ends by itself; Ctrl-C takes what there is. exit codes: 0 all well, 2 bad input.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``calibrate camera``."""
    parser = subparsers.add_parser(
        "camera",
        help="measure focal length, centre and distortion of a camera",
        description="Measure the intrinsics of a camera, so that the model sees straight pictures.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="folder of pictures, video file, device or address")
    parser.add_argument("--board", required=True, type=_board, metavar="WxH", help="inner corners of the board, such as 8x6")
    parser.add_argument("--square-mm", type=_millimetres, default=25.0, help="side of a square (default: %(default)g)")
    parser.add_argument("--charuco", type=_dictionary, metavar="DICT", help="ChArUco board with these markers, such as 5X5_100")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to keep it, such as camera.toml")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw what was seen and a straightened view (.png, .jpg)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Gather views, solve, save and report. Raises UserError."""
    cv2.setNumThreads(1)
    columns, rows = args.board
    board: Board
    if args.charuco is None:
        board = Chessboard(columns, rows, args.square_mm)
    else:
        board = Charuco(columns, rows, args.square_mm, args.charuco)
    source = parse_source(args.source)
    _check_writable(args.out)
    if args.picture is not None:
        _check_writable(args.picture)
        if args.picture.suffix.lower() not in SUFFIXES:
            raise UserError(f"{args.picture} is no kind of picture that can be written: let --picture end in .png or .jpg")
    progress = terminal_line()
    views = gather(source, args.source, board, progress)
    if not views.found:
        raise UserError(
            f"no {board.label.partition(',')[0]} is in any of the {views.looked} pictures of {source.label}: "
            + board.why_not(views.blind)
        )
    solution = solve(views.found, views.size, board=board.label, made_from=source.label, progress=progress)
    progress("")
    filled_matrix(solution.intrinsics.lens)  # what the runtime would refuse is not kept
    solution.intrinsics.save(args.out)
    if Intrinsics.load(args.out) != solution.intrinsics:
        raise UserError(f"{args.out} does not hold what was written to it: check the disk")
    if args.picture is not None and views.example is not None:
        save_sheet(args.picture, draw_sheet(views.found, views.example, solution.intrinsics, solution.coverage))
    print(_as_json(views, solution, args.out) if args.json else _report(views, solution, args.out))
    return 0


def gather(source: Source, text: str, board: Board, progress: Callable[[str], None]) -> Views:
    """The views of a source. Raises UserError."""
    if source.kind is Kind.FOLDER:
        return from_folder(Path(source.target), board, progress)
    speed: Literal["real", "max"] = "real" if source.live else "max"
    return source_views(source, lambda: open_camera(text, clock=MonotonicClock(), speed=speed), board, progress)


def _report(views: Views, solution: Solution, out: Path) -> str:
    found, sd = solution.intrinsics, solution.intrinsics.uncertainty_px
    worst = sorted(found.views_px, key=lambda name: -found.views_px[name])[:WORST_NAMED]
    across, kept = _angles(found)
    lines = [
        f"{len(views.found)} views of the board in {views.looked} pictures of {found.width}x{found.height}"
        + (f", {views.near_duplicates} near-duplicates passed over" if views.near_duplicates else ""),
        f"fx {found.fx:.2f} ± {sd.fx:.2f}  fy {found.fy:.2f} ± {sd.fy:.2f}  cx {found.cx:.2f} ± {sd.cx:.2f}  "
        f"cy {found.cy:.2f} ± {sd.cy:.2f} px",
        f"{across:.0f} degrees across, of which the straight picture that is filled everywhere keeps {kept:.0f}",
        "distortion k1 k2 p1 p2 k3: " + " ".join(f"{each:.5f}" for each in found.distortion),
        f"error {found.rms_px:.4f} px RMS over {len(found.views_px)} views; largest: "
        + ", ".join(f"{name} {found.views_px[name]:.2f}" for name in worst),
    ]
    if found.left_out_px:
        named = ", ".join(f"{name} ({error:.2f} px)" for name, error in found.left_out_px.items())
        lines.append(f"left out, because their error stands out: {named}")
    if views.without and len(views.without) <= 10 and views.near_duplicates == 0:
        lines.append(f"no whole board in: {', '.join(views.without)}")
    lines += _coverage_lines(solution.coverage)
    lines.append(f"kept in {out}; name it in the robot file: intrinsics = \"{out.name}\" under [camera]")
    return "\n".join(lines)


def _coverage_lines(coverage: Coverage) -> list[str]:
    lines = ["corners in each ninth of the picture, and views per tilt:"]
    tilts = [f"{count:5d}  {name}" for name, count in coverage.tilts.items()]
    for row in range(4):
        ninths = " ".join(f"{count:5d}" for count in coverage.corners[row]) if row < 3 else " " * 17
        lines.append(f"  {ninths}   {tilts[row]}")
    wanted = "; ".join(coverage.wanted)
    lines.append(f"still wanted: {wanted}" if wanted else "all of the picture and all tilts are covered")
    return lines


def _as_json(views: Views, solution: Solution, out: Path) -> str:
    coverage = solution.coverage
    return json.dumps(
        {
            **msgspec.to_builtins(solution.intrinsics),
            "pictures": views.looked,
            "boards": len(views.found),
            "without_board": views.without,
            "near_duplicates": views.near_duplicates,
            "coverage": {"corners": coverage.corners.tolist(), "tilts": coverage.tilts, "wanted": coverage.wanted},
            "file": str(out),
        }
    )


def _angles(found: Intrinsics) -> tuple[float, float]:
    """Degrees between the rays through the left and right rim, of the camera's picture and of the straight one."""
    lens, straight = found.lens, filled_matrix(found.lens)
    rim = np.array([[[-0.5, found.cy]], [[found.width - 0.5, found.cy]]])
    angles = []
    for matrix, distortion in ((lens.matrix, lens.distortion), (straight, np.zeros(5))):
        left, right = np.asarray(cv2.undistortPoints(rim, matrix, distortion)).reshape(2, 2)
        angles.append(float(np.degrees(np.arctan(right[0]) - np.arctan(left[0]))))
    return angles[0], angles[1]


def _check_writable(out: Path) -> None:
    """Before ten minutes are spent in front of a camera."""
    if out.is_dir():
        raise UserError(f"{out} is a folder: give the name of a file in it")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UserError(f"{out} cannot be written, because {folder} cannot: choose another place")


def _board(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,3})[xX](\d{1,3})", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no board: give inner corners across and down, such as 8x6")
    columns, rows = int(found[1]), int(found[2])
    if min(columns, rows) < 3 or max(columns, rows) > 50:
        raise argparse.ArgumentTypeError(f"a board of {columns}x{rows} cannot be used: 3x3 to 50x50 inner corners can")
    return columns, rows


def _dictionary(text: str) -> str:
    try:
        return dictionary_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _millimetres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 10_000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length in millimetres above 0 and up to 10000")
    return value
