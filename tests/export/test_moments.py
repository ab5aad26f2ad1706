"""Footage of a live camera: what a simulated one shows on a fake clock becomes a bundle, faults and gaps left out."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bundle import Picture, load
from edge.cameras import CameraError, FrameRing
from edge.cameras.camera import CameraStatus
from edge.cli import main
from edge.clock import NS_PER_MS, NS_PER_S, FakeClock
from edge.messages import CameraFault, Frame
from export import moments
from export.frames import FramesError, read_footage
from export.moments import moments_of
from tests.edge.cameras.pictures import noisy, scene
from tests.export.sources.pair import write_pair

BEAT_NS = 100 * NS_PER_MS


class World(FakeClock):
    """A camera at 10 Hz of a clock that it moves on whenever somebody waits for a picture. jitter_ms: how far, in turn, its
    time stamps lie from the beat."""

    def __init__(self, path, jitter_ms=(0,), stop_after=10**9):
        super().__init__(NS_PER_S)
        self.ring = FrameRing.create(path, 120, 160)
        self.rng = np.random.default_rng(3)
        self.jitter_ms, self.stop_after = jitter_ms, stop_after
        self.sequence = -1
        self.write()

    def write(self):
        self.sequence += 1
        if self.sequence < self.stop_after:
            late = self.jitter_ms[self.sequence % len(self.jitter_ms)] * NS_PER_MS
            picture = np.roll(scene(120, 160), 3 * self.sequence, axis=1)
            self.ring.write(noisy(picture, self.rng), self.now_ns() + late, self.sequence)

    def sleep_until_ns(self, when_ns):
        before = self.now_ns()
        super().sleep_until_ns(when_ns)
        if self.now_ns() // BEAT_NS > before // BEAT_NS:
            self.write()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A world that has begun, by the name of its ring."""

    def begun(**settings):
        path = tmp_path / "camera.ring"
        world = World(path, **settings)
        monkeypatch.setattr(moments, "MonotonicClock", lambda: world)
        return f"world:{path}"

    return begun


def test_a_live_camera_is_filmed_for_so_many_seconds_and_becomes_a_bundle(tmp_path, world, capsys):
    source, path = world(), write_pair(tmp_path)
    asked = ["export", "onnx", str(path), "--frames", source, "--out", str(tmp_path / "bundle"), "--seconds", "12"]
    assert main(asked) == 0
    assert f"filming {source} for 12 s" in capsys.readouterr().err
    assert "first half of 12 s of camera.ring" in (tmp_path / "bundle/calibration/encoder.scales.json").read_text()
    assert load(tmp_path / "bundle").manifest.name == "pair"


def test_activation_ranges_and_verification_take_a_live_camera_too(tmp_path, world):
    source, path = world(), write_pair(tmp_path)
    filmed = ["--frames", source, "--seconds", "12"]
    assert main(["calibrate", "activations", str(path), *filmed]) == 0
    assert main(["export", "onnx", str(path), *filmed, "--out", str(tmp_path / "bundle")]) == 0
    assert main(["export", "verify", str(tmp_path / "bundle"), *filmed]) == 0


def test_time_stamps_that_tremble_are_still_one_step_apart(world):
    seen: list[tuple[int, int]] = []
    source = world(jitter_ms=(0, -12, 9, -5))
    footage = read_footage(source, Picture(12, 16), 0.2, 4, 8, lambda done, total: seen.append((done, total)), seconds=12.0)
    assert footage.calibration.shape[1:] == (4, 12, 16, 3) and len(footage.calibration) == len(footage.verification) == 8
    assert seen[0] == (0, 12) and 11 <= seen[-1][0] <= 12
    changes = np.abs(np.diff(footage.calibration.astype(int), axis=1)).mean(axis=(2, 3, 4))
    assert changes.max() < 3 * changes.min()  # no picture twice, none left out


def test_too_short_a_film_says_how_long_it_should_be(world):
    with pytest.raises(FramesError, match=r"camera.ring has 21 pictures over 2.0 s .* give --seconds 16$"):
        read_footage(world(), Picture(12, 16), 0.1, 40, 8, seconds=2.0)


class Shown:
    """A camera that shows what it was given, one picture or fault per beat of the clock, and then fails, or is silent."""

    fingerprint = "shown"

    def __init__(self, clock, faults, fails=True):
        self.clock, self.faults, self.fails, self.at = clock, faults, fails, -1

    def start(self):
        pass

    def wait(self, timeout_s):
        self.clock.advance_ns(BEAT_NS)
        self.at += 1

    def latest(self, max_age_ns):
        if self.at >= len(self.faults):
            return None
        faults = self.faults[self.at]
        return Frame(np.full((4, 4, 3), self.at % 256, np.uint8), self.clock.now_ns(), self.at, faults)

    def status(self):
        over = self.at >= len(self.faults)
        return CameraStatus(failed=over and self.fails, detail="the cable was pulled" if over else "")

    def close(self):
        pass


def test_pictures_at_fault_are_left_out_and_leave_a_hole():
    clock = FakeClock()
    camera = Shown(clock, [(), (), (CameraFault.COVERED,), (CameraFault.COVERED,), (), ()] + [()] * 5)
    found = [(moment.pixels()[0, 0, 0], moment.resumed) for moment in moments_of(camera, "yard", 0.55, clock)]
    assert found == [(0, False), (1, False), (4, True), (5, False)]


def test_no_run_of_frames_has_a_hole(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(moments, "MonotonicClock", lambda: clock)
    covered = [(CameraFault.COVERED,)] * 7
    monkeypatch.setattr(moments, "open_camera", lambda text, clock: Shown(clock, [()] * 13 + covered + [()] * 40))
    footage = read_footage("rtsp://me:secret@yard/stream", Picture(4, 4), 0.1, 5, 100, seconds=5.0)
    for half in (footage.calibration, footage.verification):
        assert (np.diff(half[:, :, 0, 0, 0].astype(int), axis=1) == 1).all()
    assert "secret" not in footage.label and "5 s of stream" in footage.label


@pytest.mark.parametrize(
    ("faults", "fails", "said"),
    [
        ([()] * 3, True, r"yard has stopped \(the cable was pulled\): check the camera"),
        ([()] * 3, False, r"yard gave no usable picture for 30 s \(the cable was pulled\)"),
        ([(CameraFault.BLACK,)] * 400, False, r"yard gave no usable picture for 30 s \(black\)"),
    ],
)
def test_a_camera_that_fails_is_named_with_the_reason(faults, fails, said):
    clock = FakeClock()
    with pytest.raises(CameraError, match=said):
        list(moments_of(Shown(clock, faults, fails), "yard", 100.0, clock))


def test_ctrl_c_while_filming_leaves_nothing_behind(tmp_path, world, monkeypatch, capsys):
    source, path = world(), write_pair(tmp_path)
    closed: list[bool] = []
    opened = moments.open_camera

    def watched(text, clock):
        camera = opened(text, clock=clock)
        close = camera.close
        monkeypatch.setattr(camera, "close", lambda: (closed.append(True), close()))
        return camera

    beats = iter(range(20))

    def interrupt(self, timeout_s):
        if next(beats, None) is None:
            raise KeyboardInterrupt
        self._clock.sleep_until_ns(self._clock.now_ns() + BEAT_NS)

    monkeypatch.setattr(moments, "open_camera", watched)
    monkeypatch.setattr("edge.cameras.ring_camera.RingCamera.wait", interrupt)
    asked = ["export", "onnx", str(path), "--frames", source, "--out", str(tmp_path / "bundle"), "--seconds", "60"]
    assert main(asked) == 130
    assert "interrupted: the same command goes on" in capsys.readouterr().err and closed and not (tmp_path / "bundle").exists()
