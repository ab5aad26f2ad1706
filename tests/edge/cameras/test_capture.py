"""The capture process for real: it is killed, stopped, fed rubbish, and the camera goes on or says why not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Literal

import cv2
import numpy as np
import pytest

from edge.cameras import Camera, CameraError, CameraStatus, open_camera, parse_source
from edge.cameras.capture_feed import CaptureFeed
from edge.cameras.restarts import RestartPolicy
from edge.cameras.ring_camera import RingCamera
from edge.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from edge.messages import CameraFault, Frame, Pixels
from tests.conftest import ROOT
from tests.edge.cameras.pictures import noisy, number_of, numbered, scene, write_avi

CLOCK = MonotonicClock()
PATIENCE_S = 60.0  # only against hanging: this machine may be busy
ANY_AGE_NS = 3600 * NS_PER_S
HASTY = RestartPolicy(first_s=0.01, longest_s=0.05, hang_s=0.6)


@contextmanager
def playing(source: Path | str, speed: Literal["real", "max"] = "real", loop: bool = False) -> Iterator[Camera]:
    camera = open_camera(str(source), clock=CLOCK, speed=speed, loop=loop, start_timeout_s=PATIENCE_S)
    camera.start()
    try:
        yield camera
    finally:
        camera.close()


@contextmanager
def hasty(source: Path | str, loop: bool = True, lossless: bool = False) -> Iterator[tuple[RingCamera, CaptureFeed]]:
    """Under a restart policy for the impatient."""
    found = parse_source(str(source))
    feed = CaptureFeed(found, clock=CLOCK, lossless=lossless, loop=loop, fps=10.0, policy=HASTY)
    camera = RingCamera(feed, found.label, clock=CLOCK, start_timeout_s=PATIENCE_S, recorded=lossless)
    camera.start()
    try:
        yield camera, feed
    finally:
        camera.close()


def until(camera: Camera, done: Callable[[CameraStatus], bool], seen: list[Frame] | None = None) -> CameraStatus:
    """Take pictures until the status says so."""
    deadline = time.monotonic() + PATIENCE_S
    while not done(status := camera.status()):
        assert time.monotonic() < deadline, status
        camera.wait(0.05)
        frame = camera.latest(ANY_AGE_NS)
        if frame is not None and seen is not None:
            seen.append(frame)
    return status


def played(camera: Camera) -> list[Frame]:
    seen: list[Frame] = []
    until(camera, lambda status: status.ended or status.failed, seen)
    return seen


def process_is_gone(pid: int) -> bool:
    """Not there, or dead and only not buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- playing ------------------------------------------------------------------------------------------------------


def test_at_full_speed_every_picture_comes_once_with_its_time_in_the_recording(tmp_path: Path) -> None:
    film = write_avi(tmp_path / "n.avi", numbered(100), fps=25.0)
    with playing(film, speed="max") as camera:
        frames = played(camera)
        status = camera.status()
    assert [frame.sequence for frame in frames] == list(range(100))
    assert [number_of(frame.pixels) for frame in frames] == list(range(100))
    assert [frame.captured_ns for frame in frames] == [number * 40 * NS_PER_MS for number in range(100)]
    assert (status.frames, status.dropped, status.restarts, status.ended) == (100, 0, 0, True)
    assert camera.fingerprint == str(film)


def test_in_real_time_a_picture_carries_the_time_it_was_due(tmp_path: Path) -> None:
    film = write_avi(tmp_path / "n.avi", numbered(30), fps=20.0)
    with playing(film) as camera:
        assert camera.fingerprint == f"{film} 64x48"
        frames = played(camera)
    first = frames[0]
    assert all(number_of(frame.pixels) == frame.sequence for frame in frames)
    for frame in frames:
        assert frame.captured_ns - first.captured_ns == (frame.sequence - first.sequence) * 50 * NS_PER_MS
    assert frames[-1].sequence == 29


def test_who_looks_seldom_gets_the_newest_picture_and_a_count_of_the_others(tmp_path: Path) -> None:
    film = write_avi(tmp_path / "n.avi", numbered(60), fps=30.0)
    with playing(film) as camera:
        first = camera.latest(ANY_AGE_NS)
        time.sleep(0.8)
        second = camera.latest(ANY_AGE_NS)
        status = camera.status()
    assert first is not None and second is not None
    assert second.sequence - first.sequence > 10 and number_of(second.pixels) == second.sequence
    assert status.dropped == second.sequence - first.sequence - 1


@pytest.mark.parametrize("speed", ["real", "max"])
def test_a_looped_file_goes_on_in_time_and_number(tmp_path: Path, speed: Literal["real", "max"]) -> None:
    film = write_avi(tmp_path / "n.avi", numbered(10), fps=20.0)
    seen: list[Frame] = []
    with playing(film, speed=speed, loop=True) as camera:
        until(camera, lambda _: bool(seen) and seen[-1].sequence >= 25, seen)
        assert not camera.status().ended
    assert all(number_of(frame.pixels) == frame.sequence % 10 for frame in seen)
    for before, after in pairwise(seen):
        assert after.captured_ns - before.captured_ns == (after.sequence - before.sequence) * 50 * NS_PER_MS


def test_presentation_times_of_a_recording_with_a_varying_rate(shared_data: Path) -> None:
    film = shared_data / "intel_sample_videos" / "bolt-multi-size-detection.gif"
    capture, expected = cv2.VideoCapture(str(film)), []
    while capture.grab():
        expected.append(round(capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS))
    with playing(film, speed="max") as camera:
        times = [frame.captured_ns for frame in played(camera)]
    assert times == expected
    assert {after - before for before, after in pairwise(times)} == {60 * NS_PER_MS, 70 * NS_PER_MS}


def test_a_folder_plays_in_natural_order_and_skips_what_is_damaged(tmp_path: Path) -> None:
    for number, picture in enumerate(numbered(12)):
        cv2.imwrite(str(tmp_path / f"{number}_cam.png"), picture)
    (tmp_path / "7_cam.png").write_bytes(b"\x89PNG broken")
    cv2.imwrite(str(tmp_path / "12_cam.png"), cv2.cvtColor(numbered(13)[12], cv2.COLOR_BGR2GRAY))
    camera = open_camera(str(tmp_path), clock=CLOCK, speed="max", fps=4.0, start_timeout_s=PATIENCE_S)
    camera.start()
    frames = played(camera)
    camera.close()
    assert [number_of(frame.pixels) for frame in frames] == [*range(7), *range(8, 13)]
    assert [frame.captured_ns for frame in frames] == [frame.sequence * NS_PER_S // 4 for frame in frames]
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}


def test_a_covered_stretch_of_a_recording_is_named_in_its_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    skin = np.full((120, 160, 3), (22, 18, 95), np.uint8)
    parts: list[Pixels] = [scene()] * 40 + [skin] * 20 + [scene()] * 20
    film = write_avi(tmp_path / "c.avi", [noisy(part, rng) for part in parts], fps=20.0)
    with playing(film, speed="max") as camera:
        frames = played(camera)
    covered = [frame.sequence for frame in frames if frame.faults == (CameraFault.COVERED,)]
    assert 40 < covered[0] <= 50 and covered[-1] < 70 and covered == list(range(covered[0], covered[-1] + 1))
    assert {frame.faults for frame in frames} == {(), (CameraFault.COVERED,)}


# -- dying, hanging, giving up ------------------------------------------------------------------------------------


def test_a_killed_capture_process_is_replaced_and_the_recording_goes_on_where_it_was(film: Path) -> None:
    seen: list[Frame] = []
    with hasty(film) as (camera, feed):
        for restarts in (1, 2):
            count = len(seen)
            until(camera, lambda _, count=count: len(seen) >= count + 3, seen)  # type: ignore[misc]
            victim = feed.child_pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
            status = until(camera, lambda status, restarts=restarts: status.restarts == restarts, seen)  # type: ignore[misc]
            assert "SIGKILL" in status.detail and "after picture" in status.detail
            killed_at = seen[-1]
            until(camera, lambda _, killed_at=killed_at: seen[-1] is not killed_at, seen)  # type: ignore[misc]
            assert 0 < seen[-1].sequence - killed_at.sequence < 20
            assert seen[-1].captured_ns > killed_at.captured_ns
        assert not camera.status().failed


def test_a_hanging_capture_process_is_named_killed_and_replaced(film: Path) -> None:
    seen: list[Frame] = []
    with hasty(film) as (camera, feed):
        until(camera, lambda _: len(seen) >= 3, seen)
        victim = feed.child_pid
        assert victim is not None
        os.kill(victim, signal.SIGSTOP)
        status = until(camera, lambda status: status.restarts == 1, seen)
        assert "took more than 0.6 s to give the next picture" in status.detail
        assert process_is_gone(victim)
        count = len(seen)
        until(camera, lambda _: len(seen) > count, seen)
        until(camera, lambda status: CameraFault.NO_FRAMES not in status.faults, seen)


def test_silence_is_named_while_the_capture_process_hangs(film: Path) -> None:
    with playing(film, loop=True) as camera:
        assert isinstance(camera, RingCamera) and isinstance(camera.feed, CaptureFeed)
        pid = camera.feed.child_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            until(camera, lambda status: status.faults[:1] == (CameraFault.NO_FRAMES,))
        finally:
            os.kill(pid, signal.SIGCONT)
        until(camera, lambda status: status.faults == ())
        assert camera.status().restarts == 0


def test_a_recording_that_kills_its_decoder_at_one_place_is_given_up(film: Path) -> None:
    with hasty(film, loop=False, lossless=True) as (camera, feed):
        pids: set[int] = set()
        while not feed.failed:  # the reader takes nothing, so no process gets further than the ring is deep
            pid = feed.child_pid
            if pid is not None and pid not in pids:
                pids.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
        assert len(pids) == 3
        seen: list[Frame] = []
        status = until(camera, lambda status: status.failed, seen)
        assert "given up after 3 attempts at the same place" in status.detail and "SIGKILL" in status.detail
        assert status.faults == (CameraFault.NO_FRAMES,) and not status.ended
        assert [frame.sequence for frame in seen] == list(range(len(seen)))
        camera.wait(PATIENCE_S)  # returns at once


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_recording_plays_what_it_can_or_is_refused_in_one_sentence(film: Path, seed: int) -> None:
    data, dice = bytearray(film.read_bytes()), random.Random(seed)
    if seed % 2:
        del data[dice.randrange(len(data)) :]
    for _ in range(200):
        data[dice.randrange(len(data) if seed > 3 else 4000) % len(data)] = dice.randrange(256)
    film.write_bytes(data)
    try:
        with playing(film, speed="max") as camera:
            frames = played(camera)
            assert frames and all(frame.pixels.dtype == np.uint8 and frame.pixels.shape[2] == 3 for frame in frames)
    except CameraError as error:
        assert "\n" not in str(error) and str(film) in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no video at all\n" * 200, "is not a video"), (b"RIFF\x00\x00\x00\x00AVI LIST", "is not a video")],
)
def test_what_is_no_video_is_refused_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.avi"
    path.write_bytes(content)
    camera = open_camera(str(path), clock=CLOCK, start_timeout_s=PATIENCE_S)
    with pytest.raises(CameraError, match=says) as refusal:
        camera.start()
    assert "\n" not in str(refusal.value)


def test_a_folder_of_damaged_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(CameraError, match="holds no picture that can be decoded"):
        open_camera(str(tmp_path), clock=CLOCK, start_timeout_s=PATIENCE_S).start()


def test_av1_is_decoded_by_pyav_or_refused_with_both_remedies(shared_data: Path) -> None:
    film = shared_data / "lerobot_g1" / "videos" / "episode_000001.mp4"
    try:
        import av  # noqa: F401
    except ImportError:
        with pytest.raises(CameraError, match=r"is AV1.*latentloop\[video\].*ffmpeg -i"):
            open_camera(str(film), clock=CLOCK, start_timeout_s=PATIENCE_S).start()
    else:
        with playing(film, speed="max") as camera:
            frames = played(camera)
        assert len(frames) == 393 and frames[1].captured_ns == 33_333_333


# -- network ------------------------------------------------------------------------------------------------------


class Mjpeg:
    """A network camera that can be switched off and on again at the same port."""

    def __init__(self) -> None:
        self.off = Event()
        off = self.off
        rng = np.random.default_rng(2)
        pictures = [cv2.imencode(".jpg", noisy(scene(), rng))[1].tobytes() for _ in range(8)]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                while not off.is_set():
                    number += 1
                    jpeg = pictures[number % 8]
                    try:
                        self.wfile.write(
                            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                        )
                        self.wfile.write(jpeg + b"\r\n")
                    except OSError:
                        return
                    time.sleep(0.03)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._handler = Handler
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.switch_on()

    def switch_on(self) -> None:
        self.off.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def switch_off(self) -> None:
        self.off.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def test_a_network_camera_that_goes_away_is_named_and_comes_back_by_itself() -> None:
    server = Mjpeg()
    seen: list[Frame] = []
    try:
        with hasty(f"http://127.0.0.1:{server.port}/video.mjpg", loop=False) as (camera, _):
            until(camera, lambda _: len(seen) >= 5, seen)
            assert seen[-1].pixels.shape == (120, 160, 3)
            assert CLOCK.now_ns() - seen[-1].captured_ns < PATIENCE_S * NS_PER_S
            server.switch_off()
            status = until(camera, lambda status: CameraFault.NO_FRAMES in status.faults, seen)
            status = until(camera, lambda status: status.restarts >= 1, seen)
            assert "127.0.0.1" in status.detail and not status.failed and not status.ended
            server.switch_on()
            until(camera, lambda status: CameraFault.NO_FRAMES not in status.faults, seen)
            sequences = [frame.sequence for frame in seen]
            assert sequences == sorted(set(sequences))
    finally:
        server.switch_off()


def test_a_network_camera_that_is_not_there_is_refused_after_the_start_timeout() -> None:
    camera = open_camera("rtsp://me:hidden@127.0.0.1:9/x", clock=CLOCK, start_timeout_s=2.0)
    with pytest.raises(CameraError, match=r"rtsp://127.0.0.1:9/x gave no picture within 2 s") as refusal:
        camera.start()
    assert "hidden" not in str(refusal.value)


# -- leaving nothing behind ---------------------------------------------------------------------------------------


def shared_memory_files() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("latentloop*")} if folder.is_dir() else set()


def test_close_leaves_no_process_no_file_and_no_descriptor(film: Path) -> None:
    before = len(os.listdir("/proc/self/fd")), shared_memory_files()
    with hasty(film) as (camera, feed):
        pid = feed.child_pid
        assert pid is not None and camera.latest(ANY_AGE_NS) is not None
        assert shared_memory_files() == before[1]  # it has no name even while it is in use
    assert process_is_gone(pid)
    camera.close()
    with pytest.raises(CameraError):
        open_camera(__file__, clock=CLOCK, start_timeout_s=PATIENCE_S).start()
    assert (len(os.listdir("/proc/self/fd")), shared_memory_files()) == before


PARENT = """
import sys, time
from edge.cameras import open_camera
from edge.clock import MonotonicClock
camera = open_camera(sys.argv[1], clock=MonotonicClock(), loop=True, start_timeout_s=60.0)
camera.start()
print(camera.feed.child_pid, flush=True)
time.sleep(600)
"""


def test_a_parent_that_is_killed_takes_its_capture_process_along(film: Path) -> None:
    before = shared_memory_files()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(film)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        child = int(parent.stdout.readline())
        assert not process_is_gone(child)
        os.kill(child, signal.SIGSTOP)  # as one that hangs in its decoder and would notice nothing by itself
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_for(lambda: process_is_gone(child))
    assert shared_memory_files() == before
