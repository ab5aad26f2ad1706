"""``--intrinsics``: calibration and verification see the pictures that the device will see, without the lens."""

from __future__ import annotations

import json

import cv2
import msgspec
import numpy as np
import pytest

from calibration.activations import ScaleTable
from edge.bundle import Picture, load
from edge.cli import main
from edge.intrinsics import IntrinsicsError
from edge.scaling import Scaler
from export.frames import read_footage, read_steps
from tests.edge.test_intrinsics import GOPRO
from tests.export.sources.pair import write_pair, write_pictures

PICTURE = Picture(16, 24)
WIDE = msgspec.structs.replace(GOPRO, made_from="a wide lens")
LENS = f"straightened by lens {WIDE.lens.fingerprint}"


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("frames"), 40, (48, 64))


@pytest.fixture
def camera(tmp_path):
    WIDE.save(tmp_path / "camera.toml")
    return tmp_path / "camera.toml"


def test_footage_is_what_the_runtime_makes_of_the_cameras_pictures(frames):
    first = cv2.imread(str(frames / "0.png"))
    straight, bent = (Scaler((PICTURE.width, PICTURE.height), each).scaled(first) for each in (WIDE, None))
    assert np.abs(straight.astype(int) - bent).mean() > 5
    footage = read_footage(str(frames), PICTURE, 0.1, 4, 4, intrinsics=WIDE)
    assert (footage.calibration[0, 0] == straight).all() and footage.label.endswith(LENS)
    assert (read_steps(str(frames), PICTURE, 0.1, WIDE)[0][0] == straight).all()


def test_every_command_takes_it_and_says_so(tmp_path, frames, camera, capsys):
    path, out = write_pair(tmp_path), tmp_path / "bundle"
    common = ["--frames", str(frames), "--intrinsics", str(camera)]
    assert main(["export", "onnx", str(path), *common, "--out", str(out), "--fp32"]) == 0
    made = load(out).manifest.int8
    assert made["verified_on"].endswith(LENS)
    table = ScaleTable.load(out / "calibration" / "encoder.scales.json")
    assert table.made_from.endswith(LENS)
    capsys.readouterr()
    assert main(["calibrate", "activations", str(path), *common, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["encoder"]
    assert found["reused"] and found["table"]["made_from"] == table.made_from  # the very pictures of the export
    assert main(["export", "verify", str(out), *common]) == 0
    assert LENS in capsys.readouterr().out


def test_a_lens_of_another_camera_is_refused_and_a_missing_file_before_any_work(tmp_path, frames, camera, capsys):
    square = msgspec.structs.replace(WIDE, width=960, cx=480.0)
    with pytest.raises(IntrinsicsError, match="pictures of 64x48 do not fit the camera's intrinsics, measured at 960x960"):
        read_footage(str(frames), PICTURE, 0.1, 4, 4, intrinsics=square)
    camera.unlink()
    arguments = ["--frames", str(frames), "--intrinsics", str(camera), "--out", str(tmp_path / "bundle")]
    assert main(["export", "onnx", str(tmp_path / "nothing.toml"), *arguments]) == 2
    assert "camera.toml cannot be read (No such file or directory)" in capsys.readouterr().err
