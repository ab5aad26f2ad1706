"""A simulated world behind the camera: another writer's ring, on a fake clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.cameras import Camera, CameraError, FrameRing, open_camera
from edge.clock import NS_PER_MS, NS_PER_S, FakeClock
from edge.messages import CameraFault
from tests.edge.cameras.pictures import noisy, scene

MAX_AGE_NS = 500 * NS_PER_MS


class World:
    """Writes a noisy scene at 10 Hz of the fake clock."""

    def __init__(self, path: Path, clock: FakeClock, height: int = 120, width: int = 160) -> None:
        self.ring = FrameRing.create(path, height, width)
        self.clock = clock
        self.sequence = -1
        self.rng = np.random.default_rng(3)

    def write(self, size: tuple[int, int] = (120, 160)) -> None:
        self.sequence += 1
        self.ring.write(noisy(scene(*size), self.rng), self.clock.now_ns(), self.sequence)

    def run(self, camera: Camera, frames: int) -> None:
        for _ in range(frames):
            self.clock.advance_ns(100 * NS_PER_MS)
            self.write()
            frame = camera.latest(MAX_AGE_NS)
            assert frame is not None and frame.sequence == self.sequence and frame.faults == ()


def opened(path: Path) -> tuple[World, Camera, FakeClock]:
    clock = FakeClock(start_ns=NS_PER_S)
    world = World(path, clock)
    world.write()
    camera = open_camera(f"world:{path}", clock=clock)
    camera.start()
    return world, camera, clock


def test_pictures_pass_once_and_the_newest_counts(ring_path: Path) -> None:
    world, camera, clock = opened(ring_path)
    assert camera.fingerprint == f"world:{ring_path} 160x120"
    world.run(camera, 5)
    assert camera.latest(MAX_AGE_NS) is None
    for _ in range(4):
        clock.advance_ns(100 * NS_PER_MS)
        world.write()
    frame = camera.latest(MAX_AGE_NS)
    assert frame is not None and frame.sequence == world.sequence and frame.captured_ns == clock.now_ns()
    status = camera.status()
    assert (status.frames, status.dropped, status.faults, status.ended, status.failed) == (6, 3, (), False, False)
    camera.close()
    camera.close()
    assert camera.latest(MAX_AGE_NS) is None and ring_path.exists()


@pytest.mark.parametrize(("age_ms", "given"), [(500, True), (501, False)])
def test_a_picture_older_than_asked_for_is_not_given_but_judged(ring_path: Path, age_ms: int, given: bool) -> None:
    world, camera, clock = opened(ring_path)
    world.run(camera, 5)
    clock.advance_ns(100 * NS_PER_MS)
    world.write()
    clock.advance_ns(age_ms * NS_PER_MS)
    assert (camera.latest(MAX_AGE_NS) is not None) is given
    assert camera.status().faults == (CameraFault.LATE,)


def test_a_world_that_stops_is_named_and_one_that_comes_back_clears_it(ring_path: Path) -> None:
    world, camera, clock = opened(ring_path)
    world.run(camera, 5)
    clock.advance_ns(800 * NS_PER_MS)
    assert camera.latest(MAX_AGE_NS) is None and camera.status().faults == ()
    clock.advance_ns(NS_PER_MS)
    assert camera.latest(MAX_AGE_NS) is None and camera.status().faults == (CameraFault.NO_FRAMES,)
    world.run(camera, 1)
    assert camera.status().faults == ()
    ring_path.unlink()
    clock.advance_ns(NS_PER_S)
    assert camera.latest(MAX_AGE_NS) is None and camera.status().faults == (CameraFault.NO_FRAMES,)
    again = World(ring_path, clock)
    again.run(camera, 3)
    assert camera.status().faults == () and camera.status().restarts == 1


def test_rubbish_in_place_of_a_restarted_world_is_said_and_survived(ring_path: Path) -> None:
    world, camera, _ = opened(ring_path)
    world.run(camera, 2)
    other = ring_path.with_name("other")
    other.write_bytes(b"no ring")
    other.replace(ring_path)
    assert camera.latest(MAX_AGE_NS) is None
    assert "no frame ring" in camera.status().detail
    World(ring_path, world.clock).run(camera, 2)


def test_another_size_is_scaled_and_named(ring_path: Path) -> None:
    world, camera, clock = opened(ring_path)
    world.run(camera, 3)
    clock.advance_ns(100 * NS_PER_MS)
    world.write((240, 320))
    frame = camera.latest(MAX_AGE_NS)
    assert frame is not None and frame.pixels.shape == (120, 160, 3) and frame.faults == (CameraFault.RESIZED,)
    world.run(camera, 1)


def test_wait_returns_with_the_picture_or_the_timeout(ring_path: Path) -> None:
    world, camera, clock = opened(ring_path)
    before_ns = clock.now_ns()
    camera.wait(1.0)
    assert clock.now_ns() == before_ns and camera.latest(MAX_AGE_NS) is not None
    camera.wait(1.0)
    assert clock.now_ns() == before_ns + NS_PER_S
    world.write()
    camera.wait(1.0)
    assert clock.now_ns() == before_ns + NS_PER_S


def test_no_world_and_a_world_that_never_writes_are_refused(ring_path: Path) -> None:
    clock = FakeClock()
    with pytest.raises(CameraError, match="there is no frame ring at"):
        open_camera(f"world:{ring_path}", clock=clock).start()
    FrameRing.create(ring_path, 4, 4)
    with pytest.raises(CameraError, match="gave no picture within 3 s"):
        open_camera(f"world:{ring_path}", clock=clock, start_timeout_s=3.0).start()
    assert clock.now_ns() >= 3 * NS_PER_S
