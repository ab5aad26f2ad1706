"""Real footage: nothing is wrong with it in full, and a cover laid over it is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras import open_camera
from edge.cameras.health import CameraHealth
from edge.clock import NS_PER_MS, MonotonicClock
from edge.messages import CameraFault
from tests.edge.cameras.pictures import noisy

FILMS = [("bottle-detection.mp4", 1189), ("car-detection.mp4", 377), ("one-by-one-person-detection.mp4", 1394)]
COVERS = [((8, 8, 8), 4.0), ((14, 12, 15), 6.0), ((22, 18, 95), 6.0)]
STEP_NS = 100 * NS_PER_MS


@pytest.mark.parametrize(("name", "count"), FILMS)
def test_normal_footage_names_no_fault(shared_data: Path, name: str, count: int) -> None:
    film = shared_data / "intel_sample_videos" / name
    camera = open_camera(str(film), clock=MonotonicClock(), speed="max", start_timeout_s=60.0)
    camera.start()
    faulty, taken = [], 0
    while not (status := camera.status()).ended:
        assert not status.failed, status.detail
        camera.wait(1.0)
        frame = camera.latest(0)
        if frame is not None:
            taken += 1
            if frame.faults:
                faulty.append((frame.sequence, frame.faults))
    camera.close()
    assert (taken, faulty) == (count, [])


@pytest.mark.parametrize("name", [row[0] for row in FILMS])
def test_a_cover_over_real_footage_is_named_and_cleared_within_a_second(shared_data: Path, name: str) -> None:
    capture = cv2.VideoCapture(str(shared_data / "intel_sample_videos" / name))
    pictures = [np.asarray(capture.read()[1], np.uint8) for _ in range(30)]
    health, rng, now_ns = CameraHealth(), np.random.default_rng(6), 0
    for colour, sigma in COVERS:
        for picture in pictures:
            now_ns += STEP_NS
            faults = health.frame(picture, now_ns, now_ns)
        assert faults == ()
        for _ in range(10):
            now_ns += STEP_NS
            faults = health.frame(noisy(np.full(pictures[0].shape, colour, np.uint8), rng, sigma), now_ns, now_ns)
        assert faults == (CameraFault.COVERED,)
        for picture in pictures[:10]:
            now_ns += STEP_NS
            faults = health.frame(picture, now_ns, now_ns)
        assert faults == ()
