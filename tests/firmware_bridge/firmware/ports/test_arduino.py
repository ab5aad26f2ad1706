"""The Arduino port compiles for every chip, and does what it should on a board made of numbers: never on a real one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_bridge.board import BOARDS
from firmware_bridge.codes import Code, State, StopCause
from firmware_bridge.controller import BridgeError
from firmware_bridge.messages import SetNow
from firmware_bridge.sketch import assemble
from tests.conftest import unmet
from tests.firmware_bridge.cores import Bench

STUB = Path(__file__).parent / "arduino_stub"
PORT_FILES = ("axes.cpp", "chip.cpp", "servos.cpp", "wheels.cpp")
CHIPS = ("RP2040", "ESP32", "STM32")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
STOP, PWM, FORWARD, BACKWARD, A, B = 15, 2, 3, 4, 10, 11
"""The rover's pins on an RP2040: the stop button and the left wheel."""
TURN_US = 250


def tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        unmet(f"{name} is missing: apt-get install {package}")
    return path


def compiled(command: list[str], source: Path, to: Path) -> Path:
    language = ["-x", "c++"] if source.suffix == ".ino" else []
    done = subprocess.run([*command, *language, "-c", str(source), "-o", str(to)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return to


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("chip", CHIPS)
def test_it_compiles_for_a_chip(chip: str, board: str, tmp_path: Path) -> None:
    folder = assemble(tmp_path, board)
    command = [tool("c++", "g++"), "-std=gnu++17", *WARNINGS, f"-DARDUINO_ARCH_{chip}", "-I", str(STUB), "-I", str(folder)]
    for name in (*PORT_FILES, "latentloop.ino"):
        compiled(command, folder / name, tmp_path / "out.o")


@pytest.mark.parametrize(("processor", "board"), [("atmega328p", "rover"), ("atmega2560", "rover"), ("atmega2560", "arm")])
def test_it_compiles_for_an_avr(processor: str, board: str, tmp_path: Path) -> None:
    compiler = tool("avr-g++", "gcc-avr avr-libc")
    folder = assemble(tmp_path, board)
    flags = [f"-mmcu={processor}", "-Os", *WARNINGS, "-I", str(STUB), "-I", str(folder)]
    for name in (*PORT_FILES, "latentloop.ino"):
        compiled([compiler, "-std=gnu++11", *flags], folder / name, tmp_path / "out.o")
    for source in sorted(folder.glob("*.c")):
        compiled([tool("avr-gcc", "gcc-avr"), "-std=gnu99", *flags], source, tmp_path / "out.o")


def test_a_sketch_is_not_written_over(tmp_path: Path) -> None:
    pins = assemble(tmp_path, "rover") / "pins.h"
    pins.write_text("mine")
    with pytest.raises(BridgeError, match="is there already"):
        assemble(tmp_path, "arm")
    assert pins.read_text() == "mine"
    with pytest.raises(BridgeError, match="there is no board tank: take one of rover, arm"):
        assemble(tmp_path / "other", "tank")


# -- on a board made of numbers ----------------------------------------------------------------------------------


class Machine:
    """The sketch on an RP2040 whose pins, line and time are in the test's hands; a core as :class:`Bench` wants it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.machine_time.restype = ctypes.c_uint32
        self.library = library
        library.machine_start()

    def tick(self, now_us: int) -> None:
        self.library.machine_run(1000 // TURN_US, TURN_US)

    def receive(self, data: bytes, now_us: int) -> None:
        self.library.machine_receive(data, len(data))
        self.library.machine_run(-(-len(data) // 64), 0)
        self.library.machine_run(3000 // TURN_US, TURN_US)  # the line takes 64 bytes a tick

    def take(self) -> bytes:
        out = ctypes.create_string_buffer(4096)
        length: int = self.library.machine_take(out)
        return out.raw[:length]

    def wheel(self) -> tuple[int, int, int]:
        """Levels of the two direction pins, duty of the left wheel."""
        level = self.library.machine_level
        return level(FORWARD), level(BACKWARD), self.library.machine_duty(PWM)


class ArduinoBench(Bench):
    """The time is the machine's, and the state what it reports."""

    core: Machine  # type: ignore[assignment]

    def __init__(self, library: ctypes.CDLL, board: str) -> None:
        super().__init__(Machine(library), 0xB0071D42)  # type: ignore[arg-type]
        self.limits_crc = BOARDS[board].limits_crc

    def _listen(self) -> None:
        super()._listen()
        self.now_us = self.core.library.machine_time()

    @property
    def state(self) -> State:
        return State(self.report().state)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    built = {}
    for board in BOARDS:
        folder = assemble(tmp_path_factory.mktemp(board), board)
        flags = ["-O1", "-fPIC", *WARNINGS, "-DARDUINO_ARCH_RP2040", "-I", str(STUB), "-I", str(folder)]
        parts = [compiled([tool("cc", "gcc"), "-std=c99", *flags], c, c.with_suffix(".o")) for c in folder.glob("*.c")]
        for source in (*(folder / name for name in PORT_FILES), folder / "latentloop.ino", STUB / "machine.cpp"):
            parts.append(compiled([tool("c++", "g++"), "-std=gnu++17", *flags], source, folder / f"{source.name}.o"))
        built[board] = folder / "sketch.so"
        subprocess.run(["c++", "-shared", *map(str, parts), "-o", str(built[board])], check=True, timeout=300)
    return built


def fresh(libraries: dict[str, Path], board: str, folder: Path) -> ArduinoBench:
    """A machine that has just been switched on, with its stop button not pressed."""
    return ArduinoBench(ctypes.CDLL(str(shutil.copy(libraries[board], folder / "machine.so"))), board)


@pytest.fixture
def rover(libraries: dict[str, Path], tmp_path: Path) -> ArduinoBench:
    return fresh(libraries, "rover", tmp_path)


def test_a_wheel_turns_and_is_measured(rover: ArduinoBench) -> None:
    edges = 0

    def turn() -> None:
        nonlocal edges
        edges += 1
        rover.core.library.machine_edge(A, B, edges % 2, 1 - edges % 2)

    assert rover.core.wheel() == (0, 0, 0)
    rover.activate()
    assert rover.set_now(5000, -5000) is Code.OK
    rover.run(60, turn)
    forward, backward, duty = rover.core.wheel()
    assert (forward, backward) == (1, 0)
    assert 255 * 5000 // 20000 <= duty <= 80  # and a little more: it is slower than it should be
    report = rover.report()
    assert abs(report.velocity[0] - round(1000 / 1320 * 6283.185)) <= 600  # an edge more or less in 10 ms
    assert abs(report.position[0] - edges * 6283.185 / 1320) <= 10
    assert rover.set_now(-5000, 5000) is Code.OK
    rover.run(60)
    assert rover.core.wheel()[:2] == (0, 1)


def test_without_a_lease_the_wheel_is_braked(rover: ArduinoBench) -> None:
    rover.activate(100)
    assert rover.set_now(5000, 5000) is Code.OK
    rover.run(150)
    assert rover.state is State.SAFE
    assert rover.cause() is StopCause.LEASE_EXPIRED
    assert rover.core.wheel() == (1, 1, 255)


def test_a_stop_cuts_before_the_next_tick(rover: ArduinoBench) -> None:
    rover.activate()
    assert rover.set_now(5000, 5000) is Code.OK
    rover.run(30)
    assert rover.core.wheel()[2] > 0
    stop = bytes.fromhex("000310060106 01D50FAEF400")
    rover.core.library.machine_receive(stop, len(stop))
    rover.core.library.machine_run(1, 0)
    assert rover.core.wheel() == (0, 0, 0)
    assert rover.state is State.ESTOP


def test_the_stop_button_and_its_torn_wire(rover: ArduinoBench) -> None:
    rover.activate()
    assert rover.set_now(5000, 5000) is Code.OK
    rover.run(30)
    rover.core.library.machine_set(STOP, 1)
    rover.run(1)
    assert rover.core.wheel() == (0, 0, 0)
    assert rover.state is State.ESTOP
    assert rover.clear() is Code.OK
    assert rover.state is State.ESTOP  # as long as it is pressed
    rover.core.library.machine_set(STOP, 0)
    rover.run(1)
    assert rover.clear() is Code.OK
    assert rover.state is State.IDLE


def test_the_watchdog_is_fed_once_a_tick(rover: ArduinoBench) -> None:
    library = rover.core.library
    assert library.machine_watchdog_ms() == 50
    before = library.machine_fed()
    library.machine_run(3, 0)
    assert library.machine_fed() == before  # no time, no control step
    library.machine_run(40, TURN_US)
    assert library.machine_fed() == before + 10


def test_supply_and_current_are_measured(rover: ArduinoBench) -> None:
    rover.hello()
    rover.core.library.machine_analog(28, 600)
    rover.core.library.machine_analog(26, 120)
    rover.run(20)
    report = rover.report()
    assert (report.supply_mv, report.current[0]) == (12_000, 1_200)


def test_a_servo_gets_pulses_only_while_it_is_on(libraries: dict[str, Path], tmp_path: Path) -> None:
    arm = fresh(libraries, "arm", tmp_path)
    pulse = arm.core.library.machine_pulse
    assert pulse(2) == 0
    arm.activate()
    arm.run(5)
    assert [pulse(pin) for pin in range(2, 8)] == [1500] * 6
    target = SetNow(2, 1, (1000, 0, 0, 0, 0, 0), arm.after(450))
    assert arm.ask(target) is Code.OK
    arm.run(440)
    assert abs(pulse(2) - (1500 + 637)) <= 1  # the last mrad takes its time
    assert pulse(3) == 1500
    arm.estop()
    assert [pulse(pin) for pin in range(2, 8)] == [0] * 6
