"""A robot file with a calibration in it says of all else what it said, and the old file is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration.robot_file import Entry, check_writable, write_axes
from edge.config import AxisConfig, WayConfig, load_config
from edge.errors import UserError

PLAIN = """# My rover, do not touch.
name = "r"   # the name

bundle = "rover"
[camera]
source = "0"  # the front one
[bridge]
port = "/dev/ttyACM0"
"""
OLD = """
[axes.left] # measured long ago
reversed = false
[axes.left.forward]
max_speed = 1
[axes.left.backward]
max_speed = 1
"""
INLINE = "axes = {left = {forward = {max_speed = 1}, backward = {max_speed = 2}}}\n"
CONFIG = AxisConfig(
    reversed=True,
    max_slew=90.5,
    measured="today",
    forward=WayConfig(max_speed=3.0, gain=0.8, dead_band=1.6, friction=1.3),
    backward=WayConfig(max_speed=4.0),
)
ENTRY = Entry(CONFIG, {"reversed": "a positive command turns it backward", "forward.gain": "± 0.001"})


@pytest.mark.parametrize(
    "text",
    [PLAIN, PLAIN + OLD, PLAIN.replace("[bridge]", OLD + "[bridge]"), PLAIN + OLD + OLD.replace("left", "right")],
    ids=["none yet", "at the end", "in the middle", "beside another"],
)
def test_it_is_put_in_and_all_else_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(text)
    path.chmod(0o600)
    before = load_config(path)
    kept = write_axes(path, {"left": ENTRY}, "20260101T000000")
    after = load_config(path)
    assert after.axes["left"] == CONFIG
    assert {**after.axes, "left": None} == {**before.axes, "left": None}
    assert (after.camera, after.bridge, after.name) == (before.camera, before.bridge, before.name)
    assert kept.read_text() == text and kept.name == "robot.toml.20260101T000000.bak"
    assert path.stat().st_mode & 0o777 == 0o600
    new = path.read_text()
    for line in PLAIN.splitlines():
        assert line in new
    assert "gain = 0.8 # ± 0.001" in new
    size = len(new)
    again = write_axes(path, {"left": ENTRY}, "20260101T000000")
    assert len(path.read_text()) == size and again != kept and kept.read_text() == text


@pytest.mark.parametrize("text", [INLINE + PLAIN, "axes.left.forward.max_speed = 1\naxes.left.backward.max_speed = 1\n" + PLAIN])
def test_what_cannot_be_changed_safely_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"robot\.toml cannot be changed .*: write each axis there as a table of its own"):
        write_axes(path, {"left": ENTRY, "right": ENTRY}, "x")
    assert path.read_text() == text and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "real.toml", tmp_path / "robot.toml"
    path.write_text(PLAIN)
    link.symlink_to(path)
    write_axes(link, {"left": ENTRY}, "x")
    assert link.is_symlink() and load_config(path).axes == {"left": CONFIG}


def test_a_read_only_file_is_refused_before_anything_moves(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(PLAIN)
    check_writable(path)
    path.chmod(0o444)
    with pytest.raises(UserError, match=r"robot\.toml is read-only"):
        check_writable(path)
