"""No random sequence of faults moves what may not move; planted bugs do, and are seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from firmware_bridge.evidence.build import BOARDS
from firmware_bridge.evidence.sequences import measure
from firmware_bridge.host_firmware import FIRMWARE

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")

PLANTED = [
    ("core.c", "if (c->lease_fresh && fb_passed(now_us, c->lease_expire_us)) {", "if (false) {"),
    ("core.c", "return (int32_t)(now_us - deadline_us) >= 0;", "return now_us >= deadline_us;"),
    ("core.c", "c->commanded[i] && fb_passed(now_us, c->valid_until_us[i])", "false"),
    ("core.c", "c->drive[i] = FB_DRIVE_OFF;\n        c->speed[i] = 0;", "c->drive[i] = FB_DRIVE_OFF;"),
    ("handlers.c", "if (!c->lease_fresh) return FB_CODE_NO_LEASE;", ""),
    ("handlers.c", "if (m.challenge != c->challenge) return FB_CODE_WRONG_CHALLENGE;", ""),
    ("handlers.c", "if (m.expire_us - c->now_us > cap_us) {", "if (false) {"),
    ("link.c", "frame->session != c->session;", "false;"),
    ("settings.c", "m->max_acceleration > fb_compiled_acceleration[m->axis]", "false"),
    ("frame.c", "if (decoder->length < FB_MAX_ENCODED)", "if (decoder->length <= FB_MAX_ENCODED)"),
]


@pytest.mark.parametrize("board", list(BOARDS))
def test_nothing_moves_that_may_not(board: str) -> None:
    figure = measure(1_000, seed=7, board=board)
    assert figure.broken is None
    assert figure.sequences == 1_000
    assert figure.moved > 100 and figure.stopped > 100  # or else the properties held for nothing


@pytest.mark.parametrize("bug", range(len(PLANTED)))
def test_a_planted_bug_is_seen(bug: int, tmp_path: Path) -> None:
    file, line, instead = PLANTED[bug]
    shutil.copytree(FIRMWARE, tmp_path / "firmware")
    source = (tmp_path / "firmware" / file).read_text()
    assert source.count(line) == 1
    (tmp_path / "firmware" / file).write_text(source.replace(line, instead))
    assert measure(20_000, firmware=tmp_path / "firmware").broken is not None
