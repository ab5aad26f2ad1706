"""The C core as a shared library, once per run."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_bridge import host_firmware
from firmware_bridge.host_firmware import HostFirmware
from firmware_bridge.serial_controller import SerialController
from tests.firmware_bridge.cores import MIXED, AnyCore, Bench, CCore, PythonCore, build_library
from tests.firmware_bridge.processes import RecordingPlant

BOOT = 0xB0071D42
Starter = Callable[[], HostFirmware]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C core as a shared library; skips where there is no compiler."""
    return build_library(tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="session")
def mixed_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C core of the board MIXED."""
    return build_library(tmp_path_factory.mktemp("mixed"), MIXED)


@pytest.fixture(params=["c", "python"])
def make_mixed(request: pytest.FixtureRequest) -> Callable[[int], AnyCore]:
    """Makes cores of the board MIXED that start at the given time, of either kind."""
    if request.param == "python":
        return lambda now_us: PythonCore(BOOT, now_us, MIXED)
    library: ctypes.CDLL = request.getfixturevalue("mixed_library")
    return lambda now_us: CCore(library, BOOT, now_us, MIXED)


@pytest.fixture(params=["c", "python"])
def make_core(request: pytest.FixtureRequest) -> Callable[[int], AnyCore]:
    """Makes cores that start at the given time, of either kind."""
    if request.param == "python":
        return lambda now_us: PythonCore(BOOT, now_us)
    library: ctypes.CDLL = request.getfixturevalue("library")
    return lambda now_us: CCore(library, BOOT, now_us)


@pytest.fixture
def bench(make_core: Callable[[int], AnyCore]) -> Bench:
    return Bench(make_core(0), BOOT)


@pytest.fixture(scope="session")
def firmware_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The compiled firmware goes into a folder of the test run, not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=["c", "python"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which firmware runs as a process."""
    if request.param == "c" and shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    return str(request.param)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[RecordingPlant]:
    plant = RecordingPlant(tmp_path / "plant")
    yield plant
    plant.close()


@pytest.fixture
def start(firmware_cache: None, kind: str, plant: RecordingPlant, tmp_path: Path) -> Iterator[Starter]:
    """Starts firmware processes of the kind under test on the link tmp_path/port."""
    running: list[HostFirmware] = []

    def start_it() -> HostFirmware:
        firmware = host_firmware.start(plant=plant.path, link=tmp_path / "port", prefer=kind)
        running.append(firmware)
        assert firmware.kind == kind
        return firmware

    yield start_it
    for firmware in running:
        firmware.close()


@pytest.fixture
def controller(start: Starter, tmp_path: Path) -> Iterator[SerialController]:
    """A connected controller with a firmware of either kind and a recording plant behind it."""
    start()
    controller = SerialController(str(tmp_path / "port"), lease_s=0.5)  # the test machine may be busy
    controller.connect()
    yield controller
    controller.close()
