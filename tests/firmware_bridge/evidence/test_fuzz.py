"""libFuzzer finds nothing in the core, and finds what was planted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from firmware_bridge.evidence.fuzz import MISSING, available, search
from firmware_bridge.host_firmware import FIRMWARE


@pytest.fixture(autouse=True)
def fuzzer() -> None:
    if not available():
        if os.environ.get("LATENTLOOP_REQUIRE_DATA") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)


def test_it_finds_nothing() -> None:
    assert search(3) is None


def test_it_finds_a_write_behind_an_array(tmp_path: Path) -> None:
    shutil.copytree(FIRMWARE, tmp_path / "firmware")
    frame = tmp_path / "firmware" / "frame.c"
    line = "if (decoder->length < FB_MAX_ENCODED)"
    assert frame.read_text().count(line) == 1
    frame.write_text(frame.read_text().replace(line, "if (decoder->length <= FB_MAX_ENCODED)"))
    found = search(30, firmware=tmp_path / "firmware")
    assert found is not None and "out of bounds" in found
