"""The C core stays small enough for the smallest boards."""

from __future__ import annotations

import os

import pytest

from firmware_bridge.board import ROVER
from firmware_bridge.size import compiler, measure


def test_the_core_fits_a_cortex_m0() -> None:
    clang = compiler()
    if clang is None:
        if os.environ.get("LATENTLOOP_REQUIRE_DATA") == "1":
            pytest.fail("clang-14 is missing: apt-get install clang-14")
        pytest.skip("no clang on this machine: apt-get install clang-14")
    size = measure(ROVER, clang)
    assert 4096 < size.flash <= 8192
    assert 512 < size.ram <= 1024
