"""Bad input to an export over a bundle that exists: one line that names the file and the remedy, and the old bundle stays.

What a checkpoint of LeWorldModel can have wrong (keys, truncation, numbers) is in sources/test_lewm.py, a full disk in
test_stages.py and test_package.py.
"""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest

from edge.bundle import load
from edge.cli import main
from tests.export.sources.pair import write_pair, write_pictures


def truncate(folder):
    whole = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(whole[: len(whole) // 2])


def change(name, edit):
    def spoil(folder):
        model = onnx.load(str(folder / name))
        edit(model)
        onnx.save(model, str(folder / name))

    return spoil


def not_a_number(model):
    values = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    values.flat[0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, model.graph.initializer[0].name))


def other_size(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 17


def foreign_operator(model):
    model.graph.node[-1].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))


def no_such_operator(model):
    model.graph.node[-1].op_type = "AddTwice"


def unknown_key(folder):
    text = (folder / "signature.toml").read_text()
    (folder / "signature.toml").write_text(f"colour_blind = true\n{text}")


def empty_folder(folder):
    for picture in (folder / "frames").iterdir():
        picture.unlink()


def undecodable_pictures(folder):
    for picture in (folder / "frames").iterdir():
        picture.write_bytes(b"\x89PNG and nothing behind it")


def few_pictures(folder):
    for picture in sorted((folder / "frames").iterdir())[3:]:
        picture.unlink()


BAD = {
    "truncated checkpoint": (truncate, "encoder.onnx", "copy or export it again"),
    "weights that are not numbers": (change("predictor.onnx", not_a_number), "predictor.onnx", "export an unbroken checkpoint"),
    "unknown key": (unknown_key, "signature.toml", "docs/export.md"),
    "wrong input size": (change("encoder.onnx", other_size), "encoder.onnx", "export"),
    "operator of another domain": (change("predictor.onnx", foreign_operator), "predictor.onnx", "plain ONNX operators"),
    "operator that nobody has": (change("predictor.onnx", no_such_operator), "predictor.onnx", "export it again"),
    "empty calibration folder": (empty_folder, "frames", "give another"),
    "pictures that cannot be decoded": (undecodable_pictures, "frames", "give"),
    "too few pictures": (few_pictures, "frames", "give longer footage"),
}


@pytest.mark.parametrize("case", BAD)
def test_it_is_named_with_file_and_remedy_and_the_old_bundle_stays(tmp_path, capsys, case):
    spoil, file, remedy = BAD[case]
    path = write_pair(tmp_path)
    frames = write_pictures(tmp_path / "frames", 40, (32, 48))
    arguments = ["export", "onnx", str(path), "--frames", str(frames), "--out", str(tmp_path / "bundle")]
    assert main(arguments) == 0
    before = load(tmp_path / "bundle").sha256
    spoil(tmp_path)
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    last = said.strip().splitlines()[-1]
    assert last.startswith("latentloop: ") and file in last and remedy in last and "Traceback" not in said
    assert load(tmp_path / "bundle").sha256 == before


def test_pictures_of_other_sizes_are_scaled_as_the_runtime_scales_them(tmp_path):
    path = write_pair(tmp_path)
    frames = write_pictures(tmp_path / "frames", 40, (32, 48))
    for index in range(0, 40, 2):
        picture = cv2.imread(str(frames / f"{index}.png"))
        cv2.imwrite(str(frames / f"{index}.png"), cv2.resize(picture, (200, 90)))
    assert main(["export", "onnx", str(path), "--frames", str(frames), "--out", str(tmp_path / "bundle")]) == 0
