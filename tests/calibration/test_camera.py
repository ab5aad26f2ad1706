"""``calibrate camera`` as a command: the reference folder, folders and videos of rendered boards, and bad input."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.board import Chessboard
from calibration.views import from_live, from_video, is_new
from edge.cameras import FrameRing
from edge.cameras.camera import CameraStatus
from edge.cli import main
from edge.clock import NS_PER_S, MonotonicClock
from edge.intrinsics import Intrinsics
from edge.messages import CameraFault, Frame
from tests.calibration.shown_board import LENS, POSES, SQUARE_MM, Pose, charuco, chessboard, picture, true_corners
from tests.conftest import unmet

FLAT = chessboard(8, 6)


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture of each pose, and one without a board."""
    folder = tmp_path_factory.mktemp("boards")
    for place, pose in enumerate(POSES):
        cv2.imwrite(str(folder / f"{place}.png"), picture(FLAT, pose, place))
    cv2.imwrite(str(folder / "99.png"), np.full((480, 640), 90, np.uint8))
    return folder


def calibrate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command in this process."""
    try:
        code = main(["calibrate", "camera", *arguments])
    except SystemExit as error:  # argparse
        code = int(str(error.code))
    out, err = capsys.readouterr()
    return code, out, err


# -- what it measures --------------------------------------------------------------------------------------------


def test_the_reference_folder(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = shared_data / "calib_udacity" / "calibration_wide"
    if not source.is_dir():
        unmet(f"the reference folder is not there: put it in {source}")
    folder = tmp_path / "reference"
    folder.mkdir()
    for path in source.glob("GOPR*.jpg"):
        (folder / path.name).symlink_to(path)
    out = tmp_path / "camera.toml"
    code, text, _ = calibrate(capsys, str(folder), "--board", "8x6", "--out", str(out), "--json")
    report = json.loads(text)
    assert code == 0
    assert (report["pictures"], report["boards"], report["without_board"]) == (36, 35, ["GOPR0055.jpg"])
    found = Intrinsics.load(out)
    assert found.rms_px <= 0.53
    for value, reference in zip((found.fx, found.fy, found.cx, found.cy), (560.227, 561.283, 651.156, 498.969), strict=True):
        assert value == pytest.approx(reference, rel=0.005)
    assert np.allclose(found.distortion, (-0.23276, 0.06164, -4e-5, 5e-5, -0.00754), atol=0.001)
    assert max(found.views_px.values()) < 1.0 and len(found.views_px) == 35


def test_a_folder_gives_back_the_camera_it_was_rendered_with(
    boards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "camera.toml"
    sheet = tmp_path / "sheet.png"
    code, text, err = calibrate(capsys, str(boards), "--board", "8x6", "--out", str(out), "--picture", str(sheet))
    assert code == 0, err
    found = Intrinsics.load(out)
    np.testing.assert_allclose([found.fx, found.fy], [LENS.matrix[0, 0], LENS.matrix[1, 1]], rtol=0.002)
    np.testing.assert_allclose([found.cx, found.cy], [LENS.matrix[0, 2], LENS.matrix[1, 2]], atol=1.0)
    assert cv2.imread(str(sheet)).shape == (360, 3 * 480 + 16, 3)
    assert found.board == "chessboard 8x6, squares of 25 mm" and found.opencv == cv2.__version__
    assert "17 views of the board in 18 pictures of 640x480" in text
    assert "no whole board in: 99.png" in text and "all tilts are covered" in text and str(out) in text


def test_a_charuco_board_gives_the_same_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = charuco(8, 6, cv2.aruco.DICT_4X4_50)
    for place, pose in enumerate(POSES[:14]):
        cv2.imwrite(str(tmp_path / f"{place}.png"), picture(flat, pose, place))
    out = tmp_path / "camera.toml"
    code, text, err = calibrate(
        capsys, str(tmp_path), "--board", "8x6", "--charuco", "DICT_4X4_50", "--square-mm", "20", "--out", str(out), "--json"
    )
    assert code == 0, err
    report = json.loads(text)
    np.testing.assert_allclose([report["fx"], report["fy"]], [LENS.matrix[0, 0], LENS.matrix[1, 1]], rtol=0.004)
    assert report["board"] == "ChArUco board 8x6 of 4X4_50, squares of 20 mm"


def test_a_blurred_picture_is_named_and_left_out(boards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "boards"
    shutil.copytree(boards, folder)
    grey = cv2.imread(str(folder / "4.png"), cv2.IMREAD_GRAYSCALE)
    across, down = np.meshgrid(np.arange(640, dtype=np.float32), np.arange(480, dtype=np.float32))
    wave = (3.0 * np.sin(down / 25.0)).astype(np.float32)  # a rolling shutter while the board shakes
    cv2.imwrite(str(folder / "4.png"), cv2.remap(grey, across + wave, down, cv2.INTER_LINEAR))
    out = tmp_path / "camera.toml"
    code, text, err = calibrate(capsys, str(folder), "--board", "8x6", "--out", str(out))
    assert code == 0, err
    assert "left out, because their error stands out: 4.png" in text
    assert list(Intrinsics.load(out).left_out_px) == ["4.png"]


def test_a_video_is_looked_at_every_fifth_second_and_repeats_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "board.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (640, 480))
    if not writer.isOpened():
        unmet("this OpenCV cannot write MJPG: install one that can")
    for place, pose in enumerate(POSES[:12]):
        shown = cv2.cvtColor(picture(FLAT, pose, place), cv2.COLOR_GRAY2BGR)
        for _ in range(6):
            writer.write(shown)
    writer.release()
    out = tmp_path / "camera.toml"
    code, text, err = calibrate(capsys, str(film), "--board", "8x6", "--out", str(out), "--json")
    assert code == 0, err
    report = json.loads(text)
    assert report["boards"] == 12 and 30 <= report["pictures"] <= 42 and report["near_duplicates"] == report["pictures"] - 12
    assert report["fx"] == pytest.approx(LENS.matrix[0, 0], rel=0.01)
    assert next(iter(report["views_px"])) == "0.0 s"


# -- live --------------------------------------------------------------------------------------------------------


class ShownCamera:
    """A camera that shows one picture after the other, a second apart."""

    fingerprint = "shown"

    def __init__(self, pictures: list[np.ndarray], interrupted: bool = False) -> None:
        self._pictures = pictures
        self._interrupted = interrupted
        self._given = 0

    def start(self) -> None: ...

    def wait(self, timeout_s: float) -> None: ...

    def latest(self, max_age_ns: int) -> Frame | None:
        if self._given == len(self._pictures):
            if self._interrupted:
                raise KeyboardInterrupt
            return None
        self._given += 1
        pixels = cv2.cvtColor(self._pictures[self._given - 1], cv2.COLOR_GRAY2BGR)
        return Frame(np.asarray(pixels, np.uint8), self._given * NS_PER_S, self._given)

    def status(self) -> CameraStatus:
        return CameraStatus(ended=self._given == len(self._pictures))

    def close(self) -> None: ...


def test_live_says_what_is_wanted_and_ctrl_c_keeps_what_there_is() -> None:
    lines: list[str] = []
    shown = [picture(FLAT, POSES[4]), picture(FLAT, POSES[4], 1), picture(FLAT, POSES[0], 2)]
    views = from_live(ShownCamera(shown, interrupted=True), Chessboard(8, 6, SQUARE_MM), lines.append)
    assert (len(views.found), views.near_duplicates, views.looked) == (2, 1, 3)
    assert lines[0].startswith("views: 1, one more; still wanted: the board at the ")
    assert "28 more views" in lines[-1] and "lower right" in lines[-1]


def test_live_ends_by_itself_when_all_is_covered() -> None:
    board = Chessboard(8, 6, SQUARE_MM)
    nudged = [Pose((p.middle[0] * 0.6 + 25, p.middle[1] * 0.6, p.middle[2] + 120), p.turn) for p in POSES]
    far = [Pose((p.middle[0] * 0.3 - 25, p.middle[1] * 0.3 + 20, p.middle[2] + 30), p.turn) for p in POSES]
    shown = [picture(FLAT, pose) for pose in [*POSES, *nudged, *far]] + [picture(FLAT, POSES[0])] * 3
    lines: list[str] = []
    views = from_live(ShownCamera(shown), board, lines.append)
    assert len(views.found) == 30 and views.looked < len(shown)
    assert lines[-1].endswith("still wanted: nothing")


def test_a_live_camera_as_a_process_ended_by_ctrl_c(tmp_path: Path) -> None:
    """The real command on a real frame ring, into which this test writes a board that wanders."""
    ring = FrameRing.create(tmp_path / "ring", 480, 640)
    shown = [cv2.cvtColor(picture(FLAT, pose, place), cv2.COLOR_GRAY2BGR) for place, pose in enumerate(POSES)]
    out = tmp_path / "camera.toml"
    command = [sys.executable, "-m", "edge.cli", "calibrate", "camera", f"world:{tmp_path / 'ring'}"]
    clock, sequence = MonotonicClock(), 0
    with subprocess.Popen(
        [*command, "--board", "8x6", "--out", str(out), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            ring.write(np.asarray(shown[sequence % len(shown)], np.uint8), clock.now_ns(), sequence)
            sequence += 1
            if sequence == 4 * len(shown):
                process.send_signal(signal.SIGINT)
            assert sequence < 100 * len(shown), "it does not end"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.15)
        text, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    report = json.loads(text)
    assert 8 <= report["boards"] <= len(POSES) and report["near_duplicates"] > 0
    assert Intrinsics.load(out).fx == pytest.approx(LENS.matrix[0, 0], rel=0.01)


def test_frames_between_looks_are_passed_over_and_faulty_ones_too() -> None:
    class Fast(ShownCamera):
        """Twenty a second; those from half a second on have a fault."""

        def latest(self, max_age_ns: int) -> Frame | None:
            frame = super().latest(max_age_ns)
            if frame is None:
                return None
            faults = (CameraFault.COVERED,) if frame.sequence > 10 else ()
            return Frame(frame.pixels, frame.captured_ns // 20, frame.sequence, faults)

    views = from_video(Fast([np.full((480, 640), 90, np.uint8)] * 21), Chessboard(8, 6, SQUARE_MM), lambda line: None)
    assert views.without == ["0.0 s", "0.2 s", "0.4 s"]


def test_a_board_is_new_when_it_has_moved() -> None:
    first = true_corners(8, 6, POSES[4])
    near = true_corners(8, 6, Pose((8.0, 0.0, 400.0), POSES[4].turn))
    far = true_corners(8, 6, Pose((40.0, 0.0, 400.0), POSES[4].turn))
    turned = type(first)(first.numbers, first.places, first.pixels[::-1])
    assert [is_new(each, [first], 640) for each in (near, turned, far)] == [False, False, True]
    assert is_new(first, [], 640)


# -- bad input ---------------------------------------------------------------------------------------------------


def few(folder: Path) -> None:
    for path in sorted(folder.iterdir())[5:]:
        path.unlink()


def mixed(folder: Path) -> None:
    cv2.imwrite(str(folder / "5.png"), np.zeros((200, 300), np.uint8))


def broken(folder: Path) -> None:
    (folder / "3.png").write_bytes(b"this is no picture")


def empty(folder: Path) -> None:
    (folder / "3.png").write_bytes(b"")


def boardless(folder: Path) -> None:
    for path in folder.glob("?.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (few, [], "so add 1"),
        (mixed, [], "5.png is 300x200 and 0.png is 640x480"),
        (broken, [], "3.png cannot be decoded"),
        (empty, [], "3.png cannot be decoded"),
        (boardless, [], "no chessboard 8x6 is in any of the 1 pictures"),
        (None, ["--board", "9x6"], "0.png shows one of 8x6: give --board 8x6"),
        (None, ["--charuco", "5X5_100"], "no marker of any dictionary"),
        (None, ["--charuco", "9X9"], "'9X9' is no marker dictionary"),
        (None, ["--board", "8"], "inner corners across and down, such as 8x6"),
        (None, ["--board", "2x6"], "3x3 to 50x50"),
        (None, ["--square-mm", "-1"], "millimetres"),
        (None, ["--picture", "sheet.txt"], "let --picture end in .png or .jpg"),
        (None, ["--out", "."], "is a folder"),
        (None, ["--out", "/proc/nowhere/camera.toml"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_file(
    boards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil, options: list[str], says: str
) -> None:
    folder = tmp_path / "boards"
    shutil.copytree(boards, folder, ignore=shutil.ignore_patterns("1?.png"))
    if spoil is not None:
        spoil(folder)
    out = tmp_path / "camera.toml"
    code, _, err = calibrate(capsys, str(folder), "--board", "8x6", "--out", str(out), *options)
    assert code == 2 and says in err, err
    assert "Traceback" not in err and len(err.strip().splitlines()[-1]) > 20
    assert err.startswith("usage") or err.count("\n") == 1
    assert not out.exists()


def test_the_command_is_there_with_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "calibrate", "camera", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--charuco 5X5_100" in done.stdout and 'intrinsics = "camera.toml"' in done.stdout
