"""Footage for calibration: at the model's step, in two halves that share no frame, or refused with the reason."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.bundle import Picture
from edge.cameras.camera import CameraError
from edge.scaling import Scaler
from export.frames import FramesError, check_source, read_footage, read_steps

PICTURE = Picture(12, 16)


@pytest.fixture
def numbered(tmp_path):
    """60 grey pictures of 24 x 32, each as bright as its number times 4."""
    for index in range(60):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((24, 32, 3), 4 * index, np.uint8))
    return tmp_path


def numbers(pictures):
    return pictures[:, :, 0, 0, 0].astype(int) // 4


def test_pictures_of_a_folder_are_one_step_apart(numbered):
    footage = read_footage(str(numbered), PICTURE, 0.1, 5, 100)
    assert footage.calibration.shape[1:] == (5, 12, 16, 3) and footage.calibration.dtype == np.uint8
    for half in (footage.calibration, footage.verification):
        assert (np.diff(numbers(half), axis=1) == 1).all()
    assert len(footage.calibration) > 60 / 2 / 5  # runs overlap, to make more of a short recording


def test_no_frame_is_both_calibrated_and_verified_on(numbered):
    footage = read_footage(str(numbered), PICTURE, 0.1, 5, 100)
    assert numbers(footage.calibration).max() < numbers(footage.verification).min()
    assert numbers(footage.calibration).min() == 0 and numbers(footage.verification).max() >= 57


def test_a_long_recording_is_thinned_evenly(numbered):
    footage = read_footage(str(numbered), PICTURE, 0.1, 5, 2)
    for half in (footage.calibration, footage.verification):
        first, last = numbers(half)[:, 0]
        assert last - first >= 15


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_recording_that_is_just_long_enough_is_so_however_few_runs_are_wanted(numbered, limit):
    footage = read_footage(str(numbered), PICTURE, 0.1, 24, limit)
    assert len(footage.calibration) >= 1 and len(footage.verification) >= 1


def test_frames_of_a_video_are_taken_at_the_models_step(shared_data):
    video = shared_data / "intel_sample_videos" / "car-detection.mp4"  # 377 frames at 12.5 per second
    footage = read_footage(str(video), PICTURE, 0.24, 4, 100)
    capture, scaler = cv2.VideoCapture(str(video)), Scaler((PICTURE.width, PICTURE.height))
    frames = [scaler.scaled(capture.read()[1]) for _ in range(10)]
    assert len({frame.tobytes() for frame in frames}) == 10
    for step, picture in enumerate(footage.calibration[0]):
        assert [index for index, frame in enumerate(frames) if (frame == picture).all()] == [3 * step]


def test_too_little_footage_is_refused_with_what_is_needed(numbered):
    with pytest.raises(FramesError, match=r"has 60 pictures over 5.9 s and its halves must each hold 40"):
        read_footage(str(numbered), PICTURE, 0.1, 40, 100)


def test_an_empty_folder_and_a_live_camera_without_seconds_are_refused(tmp_path):
    with pytest.raises(CameraError):
        read_footage(str(tmp_path), PICTURE, 0.1, 5, 100)
    with pytest.raises(FramesError, match=r"is live: say how long to film it, such as --seconds 60"):
        read_footage("rtsp://camera/stream", PICTURE, 0.1, 5, 100)


def test_a_recording_has_its_own_length(numbered):
    with pytest.raises(FramesError, match=r"is a recording, and --seconds is for live cameras: leave it out"):
        read_footage(str(numbered), PICTURE, 0.1, 5, 100, seconds=60.0)


@pytest.mark.parametrize(("name", "content"), [("drive.mcap", b"anything"), ("drive.bag", b"\x89MCAP0\r\n and records")])
def test_an_mcap_recording_is_told_apart_from_a_broken_video(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FramesError, match=rf"{name} is an MCAP recording, and its pictures cannot be read yet: save"):
        check_source(str(tmp_path / name))
    with pytest.raises(FramesError, match="is an MCAP recording"):
        read_steps(str(tmp_path / name), PICTURE, 0.1)
