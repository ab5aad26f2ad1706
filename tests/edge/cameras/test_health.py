"""Camera health on a fake clock: every fault within its second at every rate, every threshold from both sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.cameras.health import (
    BLACK_LEVEL,
    BLACK_SPREAD,
    FROZEN_COPIES,
    FROZEN_S,
    LATE_INTERVALS,
    LATE_S,
    NO_FRAMES_INTERVALS,
    NO_FRAMES_S,
    WHITE_LEVEL,
    CameraHealth,
)
from edge.clock import NS_PER_MS, NS_PER_S, FakeClock
from edge.messages import CameraFault, Pixels
from tests.edge.cameras.pictures import noisy, scene

RATES = (2.0, 5.0, 10.0, 30.0, 60.0)
Faults = tuple[CameraFault, ...]
Maker = Callable[[np.random.Generator], Pixels]

HEALTHY = [noisy(scene(), np.random.default_rng(number)) for number in range(16)]


class Watched:
    """A camera of a certain rate before a health check that is also looked at between pictures, every 50 ms."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.health = CameraHealth()
        self.clock = FakeClock(start_ns=7 * NS_PER_S)
        self.said: list[tuple[float, Faults]] = []
        self._started_ns = self.clock.now_ns()
        self._due_ns = self.clock.now_ns()
        self.last = HEALTHY[0]
        self._healthy = 0

    @property
    def now_s(self) -> float:
        return (self.clock.now_ns() - self._started_ns) / NS_PER_S

    def frame(self, pixels: Pixels, age_s: float = 0.0, size: tuple[int, int] | None = None) -> Faults:
        self.look_until(self._due_ns)
        self.last = pixels
        captured_ns = self.clock.now_ns() - round(age_s * NS_PER_S)
        faults = self.health.frame(pixels, captured_ns, self.clock.now_ns(), size)
        self.said.append((self.now_s, faults))
        self._due_ns += round(NS_PER_S / self.rate)
        return faults

    def look_until(self, when_ns: int) -> None:
        while self.clock.now_ns() + 50 * NS_PER_MS < when_ns:
            self.clock.advance_ns(50 * NS_PER_MS)
            self.said.append((self.now_s, self.health.silence(self.clock.now_ns())))
        self.clock.sleep_until_ns(when_ns)

    def run(self, seconds: float, make: Maker | None = None, age_s: float = 0.0) -> list[tuple[float, Faults]]:
        """What was said in these seconds. Pictures of ``make``, or of a healthy scene."""
        rng = np.random.default_rng(9)
        begin = len(self.said)
        end_ns = self.clock.now_ns() + round(seconds * NS_PER_S)
        while self._due_ns <= end_ns:
            self._healthy += 1
            self.frame(make(rng) if make else HEALTHY[self._healthy % len(HEALTHY)], age_s)
        return self.said[begin:]

    def silence(self, seconds: float) -> list[tuple[float, Faults]]:
        begin = len(self.said)
        self.look_until(self.clock.now_ns() + round(seconds * NS_PER_S))
        self._due_ns = self.clock.now_ns()
        return self.said[begin:]


def uniform(colour: tuple[int, int, int], sigma: float) -> Maker:
    return lambda rng: noisy(np.full((120, 160, 3), colour, np.uint8), rng, sigma)


def soft(colour: tuple[int, int, int]) -> Maker:
    """A finger: light that falls off to the rim."""
    y, x = np.mgrid[-1:1:120j, -1:1:160j]
    light = (1.0 - 0.35 * (x * x + y * y))[..., None] * np.array(colour)
    return lambda rng: noisy(light.astype(np.uint8), rng, 4.0)


CONTENT_FAULTS: list[tuple[str, CameraFault, Maker]] = [
    ("zeros", CameraFault.BLACK, lambda _: np.zeros((120, 160, 3), np.uint8)),
    ("video black", CameraFault.BLACK, lambda _: np.full((120, 160, 3), 16, np.uint8)),
    ("all white", CameraFault.WHITE, lambda _: np.full((120, 160, 3), 255, np.uint8)),
    ("dark cap", CameraFault.COVERED, uniform((9, 8, 10), 4.0)),
    ("very dark cap", CameraFault.COVERED, uniform((3, 3, 3), 3.0)),
    ("skin", CameraFault.COVERED, uniform((22, 18, 95), 6.0)),
    ("soft skin", CameraFault.COVERED, soft((30, 25, 120))),
    ("grey tape", CameraFault.COVERED, uniform((120, 118, 121), 5.0)),
    ("blue without noise", CameraFault.COVERED, uniform((160, 40, 20), 0.0)),
]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("name", "fault", "make"), CONTENT_FAULTS, ids=[row[0] for row in CONTENT_FAULTS])
def test_what_the_picture_shows_is_named_and_cleared_within_a_second(
    name: str, fault: CameraFault, make: Maker, rate: float
) -> None:
    named_and_cleared(Watched(rate), fault, lambda camera: camera.run(3.0, make))


@pytest.mark.parametrize("rate", RATES)
def test_a_frozen_picture_is_named_and_cleared_within_a_second(rate: float) -> None:
    named_and_cleared(Watched(rate), CameraFault.FROZEN, lambda camera: camera.run(3.0, lambda _: camera.last.copy()))


def named_and_cleared(
    camera: Watched, fault: CameraFault, suffer: Callable[[Watched], list[tuple[float, Faults]]]
) -> None:
    assert {faults for _, faults in camera.run(4.0)} == {()}
    cause_s = camera.now_s
    bad = suffer(camera)
    named_s = next(at_s for at_s, faults in bad if faults and faults[0] is fault)
    assert named_s - cause_s <= 1.0 + 1e-6
    assert {faults[0] for _, faults in bad if faults} == {fault}
    cured_s = camera.now_s
    after = camera.run(3.0)
    clear_s = max([at_s for at_s, faults in after if faults], default=cured_s)
    assert clear_s - cured_s < 1.0
    assert after[-1][1] == ()


@pytest.mark.parametrize("rate", RATES)
def test_silence_and_lateness_are_named_and_cleared_within_a_second(rate: float) -> None:
    camera = Watched(rate)
    camera.run(4.0)
    cause_s = camera.said[-1][0]
    silent = camera.silence(3.0)
    named_s = next(at_s for at_s, faults in silent if CameraFault.NO_FRAMES in faults)
    assert named_s - cause_s <= 1.0 + 1e-6
    assert camera.run(0.0)[-1][1] == ()

    camera = Watched(rate)
    camera.run(4.0)
    cause_s = camera.now_s
    late = camera.run(2.0, age_s=1.0)
    assert next(at_s for at_s, faults in late if faults == (CameraFault.LATE,)) - cause_s <= 1.0
    cured_s = camera.now_s
    after = camera.run(2.0)
    assert max((at_s for at_s, faults in after if faults), default=cured_s) - cured_s < 1.0


@pytest.mark.parametrize("rate", RATES)
def test_a_new_size_is_named_at_once_and_until_the_first_is_back(rate: float) -> None:
    camera = Watched(rate)
    camera.run(2.0)
    assert camera.frame(HEALTHY[0], size=(240, 320)) == (CameraFault.RESIZED,)
    assert camera.frame(HEALTHY[1], size=(240, 320)) == (CameraFault.RESIZED,)
    assert camera.frame(HEALTHY[2], size=(120, 160)) == ()


MS = NS_PER_MS
SILENCES = [  # (rate, silence in ms, named)
    (30.0, NO_FRAMES_S * 1000 - 1, False),
    (30.0, NO_FRAMES_S * 1000 + 1, True),
    (2.0, NO_FRAMES_INTERVALS * 500 - 1, False),
    (2.0, NO_FRAMES_INTERVALS * 500 + 1, True),
    (0.5, NO_FRAMES_INTERVALS * 2000 - 1, False),
    (0.5, NO_FRAMES_INTERVALS * 2000 + 1, True),
]


@pytest.mark.parametrize(("rate", "silent_ms", "named"), SILENCES)
def test_the_limit_of_silence(rate: float, silent_ms: float, named: bool) -> None:
    health = CameraHealth()
    for number in range(6):
        at_ns = round(number * NS_PER_S / rate)
        health.frame(HEALTHY[number], at_ns, at_ns)
    assert (health.silence(at_ns + round(silent_ms * MS)) == (CameraFault.NO_FRAMES,)) is named


def test_a_camera_that_never_gave_a_picture_is_silent_from_the_first_look() -> None:
    health = CameraHealth()
    assert health.silence(5 * NS_PER_S) == ()
    assert health.silence(6 * NS_PER_S) == (CameraFault.NO_FRAMES,)


AGES = [  # (rate, age in ms, named)
    (30.0, LATE_S * 1000 - 1, False),
    (30.0, LATE_S * 1000 + 1, True),
    (2.0, LATE_INTERVALS * 500 - 1, False),
    (2.0, LATE_INTERVALS * 500 + 1, True),
]


@pytest.mark.parametrize(("rate", "age_ms", "named"), AGES)
def test_the_limit_of_lateness(rate: float, age_ms: float, named: bool) -> None:
    health = CameraHealth()
    for number in range(6):
        at_ns = round(number * NS_PER_S / rate)
        health.frame(HEALTHY[number], at_ns, at_ns)
    captured_ns = round(6 * NS_PER_S / rate)
    assert (health.frame(HEALTHY[7], captured_ns, captured_ns + round(age_ms * MS)) == (CameraFault.LATE,)) is named


COPIES = [  # (rate, exact copies in a row, named)
    (10.0, 5, False),
    (10.0, 6, True),
    (60.0, 35, False),
    (60.0, 36, True),
    (2.0, 1, False),
    (2.0, 2, True),
    (1.0, FROZEN_COPIES - 1, False),
    (1.0, FROZEN_COPIES, True),
]


@pytest.mark.parametrize(("rate", "copies", "named"), COPIES)
def test_the_limit_of_stillness(rate: float, copies: int, named: bool) -> None:
    assert round(FROZEN_S * 10) == 6
    health = CameraHealth()
    faults: Faults = ()
    for number in range(copies + 1):
        at_ns = round(number * NS_PER_S / rate)
        faults = health.frame(HEALTHY[0].copy(), at_ns, at_ns)
    assert (faults == (CameraFault.FROZEN,)) is named


def test_one_changed_pixel_between_the_samples_is_a_living_camera() -> None:
    health = CameraHealth()
    picture = np.ascontiguousarray(np.kron(HEALTHY[0], np.ones((4, 4, 1), np.uint8)))
    for number in range(60):
        picture = picture.copy()
        picture[3, 3, 1] = number
        assert health.frame(picture, number * 33 * MS, number * 33 * MS) == ()


BLANKS = [  # (lowest value, highest value, fault after a second)
    (0, BLACK_SPREAD, (CameraFault.BLACK,)),
    (BLACK_LEVEL - BLACK_SPREAD, BLACK_LEVEL, (CameraFault.BLACK,)),
    (BLACK_LEVEL - BLACK_SPREAD + 1, BLACK_LEVEL + 1, ()),
    (0, BLACK_SPREAD + 1, ()),
    (WHITE_LEVEL, 255, (CameraFault.WHITE,)),
    (WHITE_LEVEL - 6, WHITE_LEVEL - 1, ()),
]


@pytest.mark.parametrize(("low", "high", "expected"), BLANKS)
def test_the_limits_of_black_and_white(low: int, high: int, expected: Faults) -> None:
    """Chequered so hard that it is no cover either: half of the picture is flat, half jumps."""
    health = CameraHealth()
    picture = np.full((120, 160, 3), low, np.uint8)
    picture[40:44, ::8] = high
    said: Faults = ()
    for number in range(31):
        living = picture.copy()
        living[0, number % 8] = high if number % 2 else low
        said = health.frame(living, number * 33 * MS, number * 33 * MS)
    if not expected:
        assert CameraFault.BLACK not in said and CameraFault.WHITE not in said
    else:
        assert said == expected


def test_a_single_flash_or_dropout_is_no_fault() -> None:
    camera = Watched(30.0)
    camera.run(2.0)
    for value in (0, 255):
        assert camera.frame(np.full((120, 160, 3), value, np.uint8)) == ()
        assert {faults for _, faults in camera.run(1.0)} == {()}


LIGHT = [("dusk", 0.5, 0.0, 2.0), ("night", 0.15, 0.0, 3.0), ("sun", 1.7, 0.0, 2.0), ("haze", 0.5, 80.0, 2.0)]


@pytest.mark.parametrize("sudden", [True, False], ids=["sudden", "slow"])
@pytest.mark.parametrize(("name", "gain", "offset", "sigma"), LIGHT, ids=[row[0] for row in LIGHT])
def test_more_or_less_light_is_no_cover(name: str, gain: float, offset: float, sigma: float, sudden: bool) -> None:
    camera = Watched(10.0)
    camera.run(3.0)
    for step in range(60):
        share = 1.0 if sudden else (step + 1) / 60
        light = np.clip(scene() * (1 + (gain - 1) * share) + offset * share, 0, 255).astype(np.uint8)
        assert camera.frame(noisy(light, np.random.default_rng(step), sigma)) == ()


def test_a_lens_cap_at_power_on_is_named_before_anything_was_learnt() -> None:
    camera = Watched(10.0)
    assert camera.run(2.0, uniform((9, 8, 10), 4.0))[-1][1] == (CameraFault.COVERED,)
    assert camera.run(2.0)[-1][1] == ()


def test_a_camera_that_always_looks_at_something_plain_is_not_covered() -> None:
    camera = Watched(10.0)
    assert {faults for _, faults in camera.run(5.0, uniform((128, 128, 128), 4.0))} == {()}


def test_a_bright_cover_with_a_gradient_of_its_own() -> None:
    """Light and structure are there; it is the usual pattern that is gone."""
    camera = Watched(10.0)
    camera.run(3.0)
    assert camera.run(1.0, soft((120, 120, 120)))[-1][1] == (CameraFault.COVERED,)


def test_a_dim_glow_that_leaks_in_from_one_side() -> None:
    """As much structure as usual, and it may even resemble the usual pattern; but all detail and half the light are gone."""
    camera = Watched(10.0)
    camera.run(3.0)
    glow = np.ascontiguousarray(np.broadcast_to(np.linspace(110, 0, 120).astype(np.uint8)[:, None, None], (120, 160, 3)))
    assert camera.run(1.0, lambda rng: noisy(glow, rng, 2.0))[-1][1] == (CameraFault.COVERED,)


def test_a_camera_out_of_focus_for_ever_is_not_covered_when_it_looks_at_a_wall() -> None:
    camera = Watched(10.0)
    ramp = np.ascontiguousarray(np.broadcast_to(np.linspace(60, 200, 160).astype(np.uint8)[:, None], (120, 160, 3)))
    camera.run(3.0, lambda rng: noisy(ramp, rng, 4.0))
    assert {faults for _, faults in camera.run(2.0, uniform((128, 128, 128), 4.0))} == {()}


def test_a_long_cover_is_not_learnt_as_usual() -> None:
    camera = Watched(5.0)
    camera.run(5.0)
    cover = uniform((22, 18, 95), 6.0)
    assert camera.run(120.0, cover)[-1][1] == (CameraFault.COVERED,)


def test_worst_first() -> None:
    camera = Watched(10.0)
    camera.run(3.0)
    for _ in range(10):
        faults = camera.frame(HEALTHY[0], age_s=1.0, size=(240, 320))
    assert faults == (CameraFault.FROZEN, CameraFault.LATE, CameraFault.RESIZED)
    camera.silence(1.5)
    assert camera.health.faults[0] is CameraFault.NO_FRAMES


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([(1, 1), (2, 3), (48, 64), (119, 161), (7, 500)]),
            st.integers(-(10**9), 10**9),
            st.integers(0, 255),
        ),
        max_size=20,
    )
)
def test_no_picture_and_no_time_breaks_it(steps: list[tuple[tuple[int, int], int, int]]) -> None:
    health = CameraHealth()
    now_ns = 0
    for size, captured_ns, value in steps:
        now_ns += 10**8
        picture = np.full((*size, 3), value, np.uint8)
        assert set(health.frame(picture, captured_ns, now_ns)) <= set(CameraFault)
        health.silence(now_ns)
