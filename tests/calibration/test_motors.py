"""Motors with known faults are measured in injected time, against the real firmware core; doubt stops them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from calibration.axis import AxisUnderTest
from calibration.axis_found import Found
from calibration.motion import Doubt, Mover
from edge.clock import FakeClock
from edge.config import AxisConfig
from edge.motors import CalibratedMotors
from edge.worlds.wheels import Wheel
from firmware_bridge.messages import Fault, State
from tests.calibration.injected_motors import BOOT, InjectedMotors
from tests.firmware_bridge.cores import CCore, build_library

TOP = 20.0
PERFECT = Wheel()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C core as a shared library; skips where there is no compiler."""
    return build_library(tmp_path_factory.mktemp("core"))


def motors(library: ctypes.CDLL, wheel: Wheel, other: Wheel = PERFECT, seed: int = 3) -> InjectedMotors:
    """Left as given, linked and reporting."""
    made = InjectedMotors(CCore(library, BOOT, 0), FakeClock(), (wheel, other), seed)
    made.run(20)
    return made


def measure(
    made: InjectedMotors, asked: Callable[[str], bool] | None = None, top: float = TOP, said: list[str] | None = None
) -> Found:
    """The left axis."""
    mover = Mover(made, made.clock, (top, top), 100_000_000)
    progress = (lambda line: None) if said is None else said.append
    return AxisUnderTest(mover, 0, "left", top, 400.0, asked, progress).measure()


# -- what is planted is found ------------------------------------------------------------------------------------------

DEAD_BAND, FRICTION, GAIN, DELAY_MS, SPEED, SLEW = 0.12, 0.05, 0.01, 3.0, 0.02, 0.05
"""Tolerances: rad/s, rad/s, share, ms, share, share."""

PLANTED = {
    "perfect": PERFECT,
    "reversed, weak, stiff, late": Wheel(
        reversed=True, gain=0.8, dead_band=1.6, friction=1.3, delay_ms=30, max_speed=14.0, noise_mrad=0.5
    ),
    "little torque": Wheel(gain=0.95, dead_band=0.9, friction=0.7, delay_ms=15, max_acceleration=90.0, noise_mrad=0.5),
    "sticks": Wheel(gain=0.6, dead_band=3.0, friction=2.0, delay_ms=60, noise_mrad=1.0),
    "strong and slow": Wheel(gain=1.2, dead_band=0.5, friction=0.5, delay_ms=100, max_speed=9.0, max_acceleration=50.0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(library: ctypes.CDLL, name: str) -> None:
    wheel = PLANTED[name]
    made = motors(library, wheel)
    found = measure(made)
    config = found.config("now")
    assert config.reversed is wheel.reversed
    for way in (config.forward, config.backward):
        assert way.dead_band == pytest.approx(wheel.dead_band, abs=DEAD_BAND)
        assert way.friction == pytest.approx(wheel.friction, abs=FRICTION)
        assert way.gain == pytest.approx(wheel.gain, rel=GAIN)
        reachable = min(wheel.max_speed, wheel.gain * (TOP - wheel.friction))
        assert way.max_speed == pytest.approx(reachable, rel=SPEED)
    assert config.latency_ms == pytest.approx(wheel.delay_ms, abs=DELAY_MS)
    assert config.time_constant_ms == pytest.approx(50.0, rel=0.05)
    if wheel.max_acceleration < 1000.0:
        assert config.max_slew == pytest.approx(wheel.max_acceleration, rel=SLEW)
    else:
        assert config.max_slew is None
    assert found.noise_rad == pytest.approx(1e-3 * wheel.noise_mrad, abs=3e-4)
    made.run(2000)
    assert made.state is State.LINKED and made.most_commanded <= TOP
    assert max(map(abs, made.speeds)) < 0.01


def test_small_movements_come_first(library: ctypes.CDLL) -> None:
    said: list[str] = []
    made = motors(library, PERFECT)
    seen: list[float] = []

    def progress(line: str) -> None:
        said.append(line)
        seen.append(made.most_commanded)

    mover = Mover(made, made.clock, (TOP, TOP), 100_000_000)
    AxisUnderTest(mover, 0, "left", TOP, 400.0, None, progress).measure()
    climb = next(place for place, line in enumerate(said) if "at a command of" in line)
    assert seen[climb] <= 0.31 * TOP and seen[-1] == TOP
    assert seen == sorted(seen)


def test_nothing_above_the_limit_of_the_caller_is_commanded(library: ctypes.CDLL) -> None:
    made = motors(library, PERFECT)
    found = measure(made, top=5.0)
    assert made.most_commanded <= 5.0 and made.fastest <= 5.01
    assert found.config("").forward.max_speed == pytest.approx(5.0, rel=SPEED)


@pytest.mark.parametrize(
    ("wheel", "forward", "reversed_", "encoder_reversed"),
    [
        (Wheel(), True, False, False),
        (Wheel(reversed=True), False, True, False),
        (Wheel(encoder_reversed=True), True, False, True),
        (Wheel(reversed=True, encoder_reversed=True), False, True, True),
    ],
    ids=["all well", "motor", "encoder", "both"],
)
def test_a_person_tells_motor_from_encoder(
    library: ctypes.CDLL, wheel: Wheel, forward: bool, reversed_: bool, encoder_reversed: bool
) -> None:
    made = motors(library, wheel)

    def looks(axis: str) -> bool:
        made.run(500)
        assert made.state is State.LINKED, "nothing is armed while a person is asked"
        return forward

    found = measure(made, looks)
    assert (found.reversed, found.encoder_reversed) == (reversed_, encoder_reversed)


# -- doubt -------------------------------------------------------------------------------------------------------------


def _at(ms: int, what: Callable[[InjectedMotors], object]) -> Callable[[InjectedMotors], object]:
    def plant(made: InjectedMotors) -> None:
        made.at[ms] = lambda: what(made)

    return plant


def _unplug(made: InjectedMotors) -> None:
    made.plugged = False


DOUBTS: dict[str, tuple[Wheel, Callable[[InjectedMotors], object], str]] = {
    "no motor": (Wheel(gain=0.0), lambda m: None, "left did not turn .* check motor power"),
    "stuck": (Wheel(dead_band=15.0), lambda m: None, "left did not turn"),
    "over-current": (PERFECT, _at(4000, lambda m: m.fail(Fault.OVER_CURRENT)), "fault .over current.: mend it"),
    "emergency stop": (PERFECT, _at(4000, lambda m: m.estop()), "emergency stop was pressed"),
    "unplugged": (PERFECT, _at(4000, _unplug), "cannot be armed, it is offline: check cable and power"),
    "swapped motors": (PERFECT, lambda m: m.swap(), "right turned while left was told to: .* swapped"),
    "turned by hand": (PERFECT, _at(300, lambda m: m.push(3.0)), "left did not turn|does not come to rest|turned the other way"),
    "full speed at once": (Wheel(max_speed=1.0), lambda m: None, "left has reached its full speed .* gear ratio"),
    "one way only": (PERFECT, lambda m: m.one_way(), "counts the same way for both directions|did not turn"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_doubt_stops_the_motors_and_names_the_axis_and_the_remedy(library: ctypes.CDLL, name: str) -> None:
    wheel, plant, says = DOUBTS[name]
    made = motors(library, wheel)
    plant(made)
    with pytest.raises(Doubt, match=says) as caught:
        measure(made)
    assert "\n" not in str(caught.value)
    made.run(1000)
    assert made.state in (State.LINKED, State.SAFE, State.FAULT, State.ESTOP)
    assert made.outputs == (0, 0)


@pytest.mark.parametrize("movement", ["small step", "dead band up, 2", "command of", "large steps"])
def test_an_encoder_that_fails_is_noticed_before_anything_larger_is_commanded(library: ctypes.CDLL, movement: str) -> None:
    made = motors(library, PERFECT)
    said: list[str] = []

    def progress(line: str) -> None:
        if movement in line:
            made.lose_encoder()
        if movement in line or said:
            said.append(line)

    mover = Mover(made, made.clock, (TOP, TOP), 100_000_000)
    with pytest.raises(Doubt, match="left turned the other way than before on the same command, or not at all"):
        AxisUnderTest(mover, 0, "left", TOP, 400.0, None, progress).measure()
    assert len(said) == 1, "the movement in which it failed was the last"
    made.run(500)
    assert (made.state, made.outputs) == (State.LINKED, (0, 0))


def test_ctrl_c_stops_the_motors(library: ctypes.CDLL) -> None:
    made = motors(library, PERFECT)

    def press() -> None:
        raise KeyboardInterrupt

    made.at[5000] = press
    with pytest.raises(KeyboardInterrupt):
        measure(made)
    made.run(500)
    assert (made.state, made.outputs) == (State.LINKED, (0, 0))


def _stalls(made: InjectedMotors, first_ms: int, every_ms: int, ms: int) -> None:
    """The host stands still for so long, again and again."""

    def stall() -> None:
        made.stall(ms)
        _stalls(made, made.clock.now_ns() // 1_000_000 + every_ms, every_ms, ms)

    made.at[first_ms] = stall


STALLS: dict[str, tuple[str, int, int, int]] = {
    "of 150 ms, often": ("little torque", 600, 2300, 150),
    "of 150 ms, at other moments": ("reversed, weak, stiff, late", 2100, 2300, 150),
    "of a second": ("reversed, weak, stiff, late", 1100, 3100, 1000),
    "of five seconds": ("little torque", 1600, 4300, 5000),
}
"""The wheel; the first, the time between them and how long each is, ms. A movement that was held up and is made again while the
wheel still coasts looks like a motor that answers at once, or never twice alike: none of these may end so."""


@pytest.mark.parametrize("case", STALLS)
def test_movements_that_the_host_stalled_in_are_repeated_and_not_judged(library: ctypes.CDLL, case: str) -> None:
    name, first_ms, every_ms, ms = STALLS[case]
    wheel = PLANTED[name]
    made = motors(library, wheel)
    _stalls(made, first_ms, every_ms, ms)
    config = measure(made).config("")
    assert made.armings > 5
    assert config.latency_ms == pytest.approx(wheel.delay_ms, abs=DELAY_MS)
    for way in (config.forward, config.backward):
        assert way.dead_band == pytest.approx(wheel.dead_band, abs=DEAD_BAND)
        assert way.gain == pytest.approx(wheel.gain, rel=GAIN)
    assert config.max_slew == (None if wheel.max_acceleration > 1000.0 else pytest.approx(wheel.max_acceleration, rel=SLEW))


@pytest.mark.parametrize("ms", [70, 1000, 10_000])
def test_a_stall_while_arming_is_no_lost_firmware(library: ctypes.CDLL, ms: int) -> None:
    made = motors(library, PERFECT)
    made.at[25] = lambda: made.stall(ms)
    mover = Mover(made, made.clock, (TOP, TOP), 100_000_000)
    with mover.armed():
        assert made.state is State.ACTIVE
    made.run(500)
    assert (made.state, made.outputs) == (State.LINKED, (0, 0))


def test_a_machine_that_never_gets_to_it_is_told_so_and_the_motors_stop(library: ctypes.CDLL) -> None:
    made = motors(library, PERFECT)
    _stalls(made, 3000, 100, 80)
    with pytest.raises(Doubt, match=r"^the calibration was held up 8 times in a row \(.*\): end other programs on this machine$"):
        measure(made)
    assert made.armings < 16
    made.run(1000)
    assert made.state in (State.LINKED, State.SAFE) and made.outputs == (0, 0)


# -- and used ----------------------------------------------------------------------------------------------------------

CROOKED = (PLANTED["reversed, weak, stiff, late"], PLANTED["little torque"])


def _driven(made: InjectedMotors, axes: dict[str, AxisConfig], wanted: tuple[float, float]) -> tuple[float, float]:
    """The wheel speeds a second after a runtime began to command these."""
    runtime = CalibratedMotors(made, axes)
    runtime.heartbeat(made.clock.now_ns() + 10**10, True)
    runtime.arm()
    for _ in range(10):
        runtime.heartbeat(made.clock.now_ns() + 10**10, True)
        runtime.send(wanted, made.clock.now_ns() + 200_000_000)
        made.run(100)
    speeds = (made.speeds[0], made.speeds[1])
    runtime.disarm()
    made.run(1000)
    return speeds


@pytest.mark.parametrize("wanted", [(8.0, 8.0), (-5.0, 5.0), (1.0, 1.0), (0.4, -0.4), (12.0, 3.0), (0.0, 0.0)])
def test_a_crooked_rover_drives_wrongly_before_and_right_after(
    library: ctypes.CDLL, calibrated: dict[str, AxisConfig], wanted: tuple[float, float]
) -> None:
    before = _driven(motors(library, *CROOKED), {}, wanted)
    after = _driven(motors(library, *CROOKED), calibrated, wanted)
    assert after == pytest.approx(wanted, abs=0.15)
    assert wanted == (0.0, 0.0) or before != pytest.approx(wanted, abs=0.3)


@pytest.fixture(scope="module")
def calibrated(library: ctypes.CDLL) -> dict[str, AxisConfig]:
    """Both axes of the crooked rover, measured."""
    left = measure(motors(library, *CROOKED)).config("")
    right = measure(motors(library, CROOKED[1])).config("")
    return {"left": left, "right": right}

