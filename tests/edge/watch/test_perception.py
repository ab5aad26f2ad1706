"""Perception at the model's own pace: which frames are looked at, and when the belief begins anew."""

from __future__ import annotations

import pytest

from edge.bundle import Bundle
from edge.clock import NS_PER_S, FakeClock
from edge.messages import Frame
from edge.perception import Perception
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


def test_runs_in_integers(bundle: Bundle) -> None:
    assert {info.precision for info in Perception(bundle, FakeClock()).engines.values()} == {"int8"}
