"""The thread that has the newest picture ready before the tick asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from edge.cameras.camera import CameraError, CameraStatus
from edge.cameras.retina import Retina
from edge.clock import NS_PER_MS, FakeClock
from edge.intrinsics import IntrinsicsError
from edge.messages import CameraFault, Frame
from edge.scaling import Scaler
from tests.edge.test_intrinsics import GOPRO
from tests.edge.until import until

MAX_AGE = 100 * NS_PER_MS
SIZE = (64, 48)


class FedCamera:
    """Gives the pictures that a test puts in, each once."""

    fingerprint = "fed 640x480"

    def __init__(self) -> None:
        self._waiting: list[Frame] = []
        self._fed = threading.Condition()
        self.faults: tuple[CameraFault, ...] = ()
        self.ended = False
        self.wrong: Exception | None = None
        self.closed = 0

    def feed(self, frame: Frame) -> None:
        with self._fed:
            self._waiting.append(frame)
            self._fed.notify()

    def start(self) -> None: ...

    def wait(self, timeout_s: float) -> None:
        with self._fed:
            self._fed.wait_for(lambda: bool(self._waiting), min(timeout_s, 0.005))

    def latest(self, max_age_ns: int) -> Frame | None:
        if self.wrong is not None:
            raise self.wrong
        with self._fed:
            return self._waiting.pop(0) if self._waiting else None

    def status(self) -> CameraStatus:
        return CameraStatus(self.faults, ended=self.ended)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def camera() -> FedCamera:
    return FedCamera()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(10 * MAX_AGE)


@pytest.fixture
def retina(camera: FedCamera, clock: FakeClock) -> Iterator[Retina]:
    retina = Retina(camera, SIZE, clock)
    retina.start()
    yield retina
    retina.close()


def frame(number: int, captured_ns: int) -> Frame:
    pixels = np.random.default_rng(number).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return Frame(pixels, captured_ns, number)


def test_the_newest_picture_is_handed_out_once_and_scaled(camera: FedCamera, retina: Retina, clock: FakeClock) -> None:
    fed = frame(1, clock.now_ns())
    camera.feed(fed)
    retina.wait(5.0)
    seen = retina.latest(MAX_AGE)
    assert seen is not None and seen.small is not None
    assert (seen.sequence, seen.captured_ns) == (1, fed.captured_ns)
    assert seen.pixels is fed.pixels
    np.testing.assert_array_equal(seen.small, Scaler(SIZE).scaled(fed.pixels))
    assert retina.latest(MAX_AGE) is None


def test_only_the_newest_counts_and_not_when_it_is_too_old(camera: FedCamera, retina: Retina, clock: FakeClock) -> None:
    for number in (1, 2, 3):
        camera.feed(frame(number, clock.now_ns()))
    until(lambda: retina._newest is not None and retina._newest.sequence == 3)
    clock.advance_ns(MAX_AGE + 1)
    assert retina.latest(MAX_AGE) is None
    assert retina.latest(10 * MAX_AGE) is None  # seen is seen


def test_health_is_watched_without_pictures(camera: FedCamera, retina: Retina) -> None:
    camera.faults = (CameraFault.NO_FRAMES,)
    until(lambda: retina.status().faults == (CameraFault.NO_FRAMES,))
    camera.faults = ()
    until(lambda: retina.status().faults == ())


def test_waiting_ends_when_the_source_has_ended(camera: FedCamera, retina: Retina) -> None:
    camera.ended = True
    retina.wait(30.0)
    assert retina.status().ended


def test_what_breaks_in_the_thread_is_heard_by_the_loop(camera: FedCamera, retina: Retina) -> None:
    camera.wrong = ValueError("no such colour")
    retina.wait(30.0)
    with pytest.raises(CameraError, match="no such colour"):
        retina.latest(MAX_AGE)


def test_closing_ends_the_thread_and_the_camera(camera: FedCamera, retina: Retina) -> None:
    retina.close()
    assert not any(thread.name == "retina" for thread in threading.enumerate())
    assert camera.closed == 1


def test_with_intrinsics_the_first_picture_is_straight_before_the_thread_runs(camera: FedCamera, clock: FakeClock) -> None:
    fed = frame(1, clock.now_ns())
    camera.feed(fed)
    retina = Retina(camera, SIZE, clock, GOPRO)
    retina.start()
    seen = retina.latest(MAX_AGE)
    retina.close()
    assert seen is not None and seen.small is not None
    np.testing.assert_array_equal(seen.small, Scaler(SIZE, GOPRO).scaled(fed.pixels))
    np.testing.assert_array_equal(seen.pixels, fed.pixels)
    assert retina.fingerprint == f"{camera.fingerprint} straightened {GOPRO.lens.fingerprint}"


def test_intrinsics_of_another_shape_are_refused_at_the_start(camera: FedCamera, clock: FakeClock) -> None:
    wide = msgspec.structs.replace(GOPRO, height=720)
    camera.feed(frame(1, clock.now_ns()))
    retina = Retina(camera, SIZE, clock, wide)
    with pytest.raises(IntrinsicsError, match=r"pictures of 640x480 do not fit .* 1280x720"):
        retina.start()
    retina.close()
