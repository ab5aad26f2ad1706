"""The C core stays small enough for the smallest boards."""

from __future__ import annotations

import shutil

from firmware_bridge.board import ROVER
from firmware_bridge.size import AVR_COMPILER, AVRS, compiler, measure
from tests.conftest import unmet


def test_the_core_fits_a_cortex_m0() -> None:
    clang = compiler()
    if clang is None:
        unmet("there is no clang on this machine: apt-get install clang-14")
    size = measure(ROVER, clang)
    assert 4096 < size.flash <= 8192
    assert 512 < size.ram <= 1024


def test_the_core_leaves_an_avr_some_memory() -> None:
    avr = shutil.which(AVR_COMPILER)
    if avr is None:
        unmet("avr-gcc is missing: apt-get install gcc-avr avr-libc")
    size = measure(ROVER, avr, AVRS[0])  # 32768 bytes of flash, 2048 of RAM
    assert 8192 < size.flash <= 20_000
    assert 1024 < size.ram <= 1600
