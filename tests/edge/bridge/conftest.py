"""A compiled firmware on a pseudo-terminal, and the bridge commands as the command line calls them."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator

import pytest

from edge.bridge.cli import register
from firmware_bridge import host_firmware
from firmware_bridge.host_firmware import HostFirmware

Command = Callable[..., int]


@pytest.fixture(scope="session")
def firmware_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The compiled firmware goes into a folder of the test run, not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def firmware(firmware_cache: None) -> Iterator[HostFirmware]:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    running = host_firmware.start()
    assert running.kind == "c"
    yield running
    running.close()


@pytest.fixture
def arm(firmware_cache: None) -> Iterator[HostFirmware]:
    """One whose axes are joints."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    running = host_firmware.start(board="arm")
    yield running
    running.close()


@pytest.fixture
def command() -> Command:
    """``command("info", port)`` is ``latentloop bridge info PORT``, with the exceptions that the command line would print."""
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())

    def call(*words: str) -> int:
        args = parser.parse_args(["bridge", *words])
        code: int = args.run(args)
        return code

    return call
