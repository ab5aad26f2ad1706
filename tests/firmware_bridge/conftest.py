from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from tests.firmware_bridge.cores import AnyCore, Bench, CCore, PythonCore, build_library

BOOT = 0xB0071D42


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C core as a shared library; skips where there is no compiler."""
    return build_library(tmp_path_factory.mktemp("core"))


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
