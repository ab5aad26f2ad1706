"""The file of a camera's intrinsics: what is written is read, nothing half-written is, and bad files are named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UserError
from edge.intrinsics import Intrinsics, IntrinsicsError, Uncertainty

GOPRO = Intrinsics(
    width=1280,
    height=960,
    fx=560.227,
    fy=561.283,
    cx=651.156,
    cy=498.969,
    distortion=(-0.23276, 0.06164, -4e-5, 5e-5, -0.00754),
    rms_px=0.5233,
    board="chessboard 8x6, squares of 25 mm",
    made_from="calibration_wide",
    opencv="5.0.0",
    uncertainty_px=Uncertainty(fx=0.5, fy=0.5, cx=0.4, cy=0.4),
    views_px={"GOPR0032.jpg": 0.51, "GOPR0033.jpg": 0.5},
    left_out_px={},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "camera.toml"
    GOPRO.save(path)
    assert Intrinsics.load(path) == GOPRO
    assert [each.name for each in path.parent.iterdir()] == ["camera.toml"]


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=12), st.floats(0, 1e9), max_size=4))
def test_any_name_survives(tmp_path_factory: pytest.TempPathFactory, text: str, views: dict[str, float]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    odd = msgspec.structs.replace(GOPRO, made_from=text, views_px=views)
    odd.save(path)
    assert Intrinsics.load(path) == odd


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "camera.toml").mkdir()
    with pytest.raises(IntrinsicsError, match=r"camera\.toml cannot be written .*--out"):
        GOPRO.save(tmp_path / "camera.toml")
    assert [each.name for each in tmp_path.iterdir()] == ["camera.toml"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("fx = 560.227", "", "needs the key 'fx'"),
        ("fx = 560.227", "fx = 560.227\nfz = 1.0", "unknown key 'fz'"),
        ("fx = 560.227", "fx = -560.227", "fx must be a number > 0"),
        ("fx = 560.227", 'fx = "wide"', "fx must be a number, not text"),
        ("fx = 560.227", "fx = nan", "fx"),
        ("fx = 560.227", "fx = inf", "fx is inf and must be a finite number"),
        ("cx = 651.156", "cx = 1281.0", r"cx is 1281 and must lie in the picture \(0 to 1280\)"),
        ("-0.00754]", "nan]", r"distortion\[4\] is nan"),
        (", -0.00754]", "]", "distortion must be"),
        ("width = 1280", "width = 0", "width must be"),
        ("format = 1", "format = 2", "format cannot be"),
        ('model = "brown-conrady"', 'model = "fisheye"', "model cannot be 'fisheye'"),
        ("fx = 0.5", "fz = 0.5", r"\[uncertainty_px\] needs the key 'fx'|\[uncertainty_px\] has the unknown key 'fz'"),
        ('"GOPR0032.jpg" = 0.51', '"GOPR0032.jpg" = "good"', r"views_px\.GOPR0032\.jpg must be a number, not text"),
        ("fx = 560.227", "fx = = 560", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = GOPRO.toml()
    assert old in text
    path = tmp_path / "camera.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=says) as caught:
        Intrinsics.load(path)
    assert str(caught.value).count("\n") == 0 and "camera.toml" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_no_such_file_no_text_and_nothing_in_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "camera.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"camera\.toml"):
        Intrinsics.load(path)


def test_a_scaled_lens_sees_the_same_rays() -> None:
    lens = GOPRO.lens
    half = lens.scaled(640, 480)
    inverse, inverse_half = np.linalg.inv(lens.matrix), np.linalg.inv(half.matrix)
    # The centre of a small pixel is the corner that four large ones share.
    large, small = np.array([2 * 7 + 0.5, 2 * 3 + 0.5, 1.0]), np.array([7.0, 3.0, 1.0])
    np.testing.assert_allclose(inverse @ large, inverse_half @ small, atol=1e-12)
    assert lens.fits(640, 480) and lens.fits(1366, 1024) and not lens.fits(1280, 720)


def test_the_fingerprint_is_that_of_the_lens_alone() -> None:
    again = msgspec.structs.replace(GOPRO, made_from="elsewhere", rms_px=0.4)
    other = msgspec.structs.replace(GOPRO, fx=560.228)
    assert GOPRO.lens.fingerprint == again.lens.fingerprint != other.lens.fingerprint
