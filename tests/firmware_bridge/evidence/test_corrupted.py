"""No corrupted frame is accepted, and a decoder that accepts some is found out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from firmware_bridge.evidence.corrupted import measure
from firmware_bridge.host_firmware import FIRMWARE

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


def test_no_corrupted_frame_is_accepted() -> None:
    figure = measure(100_000)
    assert all(figure.sent.values())
    assert figure.accepted == dict.fromkeys(figure.sent, 0)
    assert figure.whole > 5_000 and figure.refused == 0
    assert figure.good


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("if (crc != (uint32_t)fb_get(body + size, FB_CRC_BYTES)) return FB_DECODE_BAD_CRC;", ""),
        ("if (crc != (uint32_t)fb_get(body + size, FB_CRC_BYTES))", "if ((uint16_t)crc != fb_get(body + size, 2))"),
        ("if (too_long) return FB_DECODE_OVERRUN;", "if (length > 20) return FB_DECODE_OVERRUN;"),
    ],
    ids=["no checksum", "half a checksum", "long frames refused"],
)
def test_a_careless_decoder_is_found_out(line: str, instead: str, tmp_path: Path) -> None:
    shutil.copytree(FIRMWARE, tmp_path / "firmware")
    frame = tmp_path / "firmware" / "frame.c"
    source = frame.read_text()
    assert source.count(line) == 1
    frame.write_text(source.replace(line, instead))
    assert not measure(300_000, firmware=tmp_path / "firmware").good
