"""SOURCE strings: what each means, and one sentence for everything that cannot be opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.cameras import CameraError, open_camera, parse_source
from edge.cameras.source import Kind, opencv_has_gstreamer, pictures_in
from edge.clock import FakeClock

CSI = "nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! appsink drop=true"


def refusal(text: str) -> str:
    with pytest.raises(CameraError) as caught:
        parse_source(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_a_folder_and_a_world(film: Path) -> None:
    file = parse_source(str(film))
    assert (file.kind, file.target, file.live) == (Kind.FILE, str(film), False)
    assert parse_source(f"file://{film}") == file
    (film.parent / "a.PNG").write_bytes(b"x")
    folder = parse_source(f"{film.parent}/../{film.parent.name}")
    assert (folder.kind, folder.target, folder.live) == (Kind.FOLDER, str(film.parent), False)
    world = parse_source(f"world:{film.parent}/w.ring")
    assert (world.kind, world.target, world.live) == (Kind.WORLD, f"{film.parent}/w.ring", True)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("rtsp://admin:se:cr%40t@10.0.0.7:554/stream1?token=x", "rtsp://10.0.0.7:554/stream1"),
        ("RTSP://Camera.local/x", "rtsp://camera.local/x"),
        ("https://example.org/mjpg", "https://example.org/mjpg"),
    ],
)
def test_an_address_keeps_its_password_out_of_its_label(text: str, label: str) -> None:
    source = parse_source(text)
    assert (source.kind, source.target, source.label, source.live) == (Kind.URL, text, label, True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the camera source is empty"),
        ("film\0.mp4", "has a null character"),
        ("ftp://example.org/x.mp4", "begins with rtsp://"),
        ("rtsp:///stream", "names no host"),
        ("rtsp://user:hidden@[bad/stream", "malformed"),
        ("http://user:hidden@host:99999/", "malformed"),
        ("/dev/video987", "there is no camera at /dev/video987: there is"),
        ("~nobody0/film.mp4", "there is no file"),
        ("987", "there is no camera at /dev/video987"),
    ],
)
def test_what_cannot_be_is_refused_at_once(text: str, says: str) -> None:
    message = refusal(text)
    assert says in message and "hidden" not in message


def test_a_missing_file_is_answered_with_what_is_there(tmp_path: Path) -> None:
    assert "is empty" in refusal(f"{tmp_path}/film.mp4")
    assert f"only {tmp_path} does" in refusal(f"{tmp_path}/a/b/film.mp4")
    for number in (10, 2, 1):
        (tmp_path / f"part{number}.mkv").write_bytes(b"x")
    assert "holds part1.mkv, part2.mkv, part10.mkv" in refusal(f"{tmp_path}/zzz.mp4")
    assert "did you mean part10.mkv" in refusal(f"{tmp_path}/part_10.mkv")


def test_a_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "is empty: copy it again" in refusal(f"{tmp_path}/empty.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "neither a file nor a folder" in refusal(f"{tmp_path}/pipe.mp4")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refusal(f"{tmp_path}/loop")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (tmp_path / "secret.mp4").chmod(0)
    assert "check its permissions" in refusal(f"{tmp_path}/secret.mp4")


def test_a_folder_without_pictures_is_refused_and_pictures_are_counted_as_people_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert "holds no pictures" in refusal(str(tmp_path))
    for name in ("10_cam.jpg", "9_cam.jpg", "1_cam.JPG", "b2.png", "b11.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub.jpg").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == [
        "1_cam.JPG",
        "9_cam.jpg",
        "10_cam.jpg",
        "b2.png",
        "b11.png",
    ]


def test_a_pipeline_needs_gstreamer_in_opencv_and_an_appsink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.cameras.source.opencv_has_gstreamer", lambda: False)
    for text in (CSI, f"gst:{CSI}"):
        assert "without GStreamer" in refusal(text) and "--system-site-packages" in refusal(text)
    monkeypatch.setattr("edge.cameras.source.opencv_has_gstreamer", lambda: True)
    source = parse_source(f"gst: {CSI}")
    assert (source.kind, source.target) == (Kind.PIPELINE, CSI)
    assert "has no appsink" in refusal("videotestsrc ! fakesink")
    hidden = parse_source("rtspsrc location=rtsp://me:hidden@host/x ! decodebin ! appsink")
    assert "hidden" not in hidden.label and "hidden" in hidden.target


@pytest.mark.parametrize(
    ("information", "has"),
    [
        ("  Video I/O:\n    GStreamer:                   YES (1.20.3)\n    v4l/v4l2:  YES", True),
        ("    GStreamer:                   NO\n", False),
        ("    FFMPEG: YES\n", False),
    ],
)
def test_gstreamer_is_found_in_the_build_information(information: str, has: bool) -> None:
    assert opencv_has_gstreamer(information) is has


def test_options_that_do_not_fit_the_source_are_refused(film: Path) -> None:
    clock = FakeClock()
    with pytest.raises(CameraError, match="is live and has no speed max"):
        open_camera("rtsp://host/x", clock=clock, speed="max")
    with pytest.raises(CameraError, match="is live and has no loop"):
        open_camera("rtsp://host/x", clock=clock, loop=True)
    with pytest.raises(CameraError, match="fps is for folders"):
        open_camera(str(film), clock=clock, fps=5.0)
    (film.parent / "1.png").touch()
    for fps in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(CameraError, match="above 0 and at most 1000"):
            open_camera(str(film.parent), clock=clock, fps=fps)


@given(st.text(max_size=60))
@example("0\n/")
def test_any_text_is_a_source_or_a_one_line_refusal(text: str) -> None:
    try:
        parse_source(text)
    except CameraError as error:
        assert "\n" not in str(error).replace(text.strip(), "")
