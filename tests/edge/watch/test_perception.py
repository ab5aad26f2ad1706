"""Perception at the model's own pace: which frames are looked at, and when the belief begins anew."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bundle import Bundle
from edge.clock import NS_PER_S, FakeClock
from edge.encoder import FrameEncoder
from edge.engines import load_engine
from edge.messages import Frame
from edge.perception import Perception
from edge.scaling import Scaler
from tests.edge.test_intrinsics import GOPRO
from tests.edge.watch.conftest import frames


@pytest.mark.parametrize(("fps", "expected"), [(10.0, 20), (12.5, 20), (25.0, 20), (30.0, 20), (5.0, 10)])
def test_looks_at_the_models_pace_whatever_the_cameras_is(bundle: Bundle, fps: float, expected: int) -> None:
    perception = Perception(bundle, FakeClock())
    pixels = frames(0, 1)[0].pixels
    seen = [perception.see(Frame(pixels, round(i / fps * NS_PER_S), i)) for i in range(round(2 * fps))]
    assert abs(sum(belief is not None for belief in seen) - expected) <= 1


def test_begins_anew_after_a_gap(bundle: Bundle) -> None:
    perception = Perception(bundle, FakeClock())
    warm = [perception.see(frame) for frame in frames(0, 8)][-1]
    assert warm is not None and warm.predicted is not None
    cold = perception.see(frames(100, 101)[0])
    assert cold is not None and cold.predicted is None


def test_time_running_backwards_is_a_new_start(bundle: Bundle) -> None:
    perception = Perception(bundle, FakeClock())
    for frame in frames(50, 58):
        perception.see(frame)
    again = perception.see(frames(0, 1)[0])
    assert again is not None and again.predicted is None


def test_with_intrinsics_the_model_sees_straight_pictures(bundle: Bundle) -> None:
    """The same ones that it sees in a robot."""
    perception = Perception(bundle, FakeClock(), intrinsics=GOPRO)
    encoder = FrameEncoder(load_engine(bundle, "encoder"), bundle, FakeClock(), GOPRO)
    frame = frames(0, 1)[0]
    straight, bent = perception.see(frame), Perception(bundle, FakeClock()).see(frame)
    assert straight is not None and bent is not None
    np.testing.assert_array_equal(straight.latent, encoder.encode(frame).tokens)
    assert np.linalg.norm(straight.latent - bent.latent) > 0.1 * np.linalg.norm(bent.latent)
    small = Scaler(encoder.size, GOPRO).scaled(frame.pixels)
    right = np.concatenate([small[:, :1].repeat(4, axis=1), small[:, :-4]], axis=1)  # the first shift: a quarter of a patch
    np.testing.assert_array_equal(perception.shifted(frame.pixels), encoder.tokens(right[None]))


def test_runs_in_integers(bundle: Bundle) -> None:
    assert {info.precision for info in Perception(bundle, FakeClock()).engines.values()} == {"int8"}
