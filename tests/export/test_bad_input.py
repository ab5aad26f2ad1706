"""Bad input to ``latentloop export``, for every kind of source, over a bundle that exists: exit code 2, one line that names the
file and the remedy, nothing executed, and the old bundle stays as it was, byte for byte.

More that checkpoints can have wrong is in sources/, below the command.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import tempfile
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge.cli import main
from export.reference.lewm_random import CONFIG as LEWM
from export.reference.lewm_random import randomised
from export.reference.random_vit import write_random_vit
from export.sources.lewm import read_config
from tests.export.sources import vjepa_checkpoints as vjepa
from tests.export.sources.pair import write_pair, write_pictures
from tests.export.test_intrinsics_option import WIDE

EXPORTED = {
    "onnx": ("onnx", "signature.toml"),
    "lewm": ("lewm", ""),
    "dinov2": ("dinov2", ""),
    "vjepa2": ("vjepa2", ""),
    "official": ("vjepa2-official", "weights.pt"),
    "2-AC": ("vjepa2-official", "weights.pt"),
}
"""By model: the kind for the command, and which file of the folder it is given; none: the folder."""
LEFT = {"model", "frames", "camera.toml", "bundle", ".bundle.unfinished", "cache"}
"""What may be there after a failure: no draft of anything."""
WEIGHTS = {
    "onnx": "encoder.onnx",
    "lewm": "weights.pt",
    "dinov2": "model.safetensors",
    "vjepa2": "model.safetensors",
    "official": "weights.pt",
    "2-AC": "weights.pt",
}


def write_lewm(folder):
    """As narrow as the names allow, which say 'tiny': few patches, one layer of the predictor."""
    config = copy.deepcopy(LEWM)
    config["encoder"]["image_size"] = 28
    config["predictor"] |= {"depth": 1, "heads": 2, "mlp_dim": 64}
    config["projector"]["hidden_dim"] = config["pred_proj"]["hidden_dim"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(randomised(read_config(folder / "config.json")).state_dict(), folder / "weights.pt")
    (folder / "latentloop.toml").write_text("horizon = 2\ncandidates = 4\n")


def write_dinov2(folder):
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    write_random_vit({"model_type": "dinov2", "image_size": 28, **sizes}, folder)
    (folder / "latentloop.toml").write_text("picture = [28, 28]\n")


def write_vjepa2(folder):
    vjepa.write_hugging_face(folder)
    (folder / "latentloop.toml").write_text("frames = 4\n")


def write_official(folder):
    vjepa.write_official(folder / "weights.pt", {"encoder": vjepa.encoder_state(), "predictor": vjepa.masked_state()})
    (folder / "latentloop.toml").write_text("frames = 4\nsize = 48\n")


def write_acting(folder):
    vjepa.write_official(folder / "weights.pt", {"encoder": vjepa.encoder_state(), "predictor": vjepa.acting_state()})
    (folder / "latentloop.toml").write_text("size = 48\nhorizon = 2\ncandidates = 2\n")


WRITTEN = {
    "onnx": write_pair,
    "lewm": write_lewm,
    "dinov2": write_dinov2,
    "vjepa2": write_vjepa2,
    "official": write_official,
    "2-AC": write_acting,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A sound folder of every model, with pictures, beside a bundle that some export wrote before."""
    torch.set_num_threads(1)
    folders = {}
    for model, write in WRITTEN.items():
        folders[model] = tmp_path_factory.mktemp(model)
        write(folders[model])
    frames = write_pictures(tmp_path_factory.mktemp("pictures") / "frames", 60, (48, 64))
    bundle = tmp_path_factory.mktemp("out") / "bundle"
    signature = str(folders["onnx"] / "signature.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        assert main(["export", "onnx", signature, "--frames", str(frames), "--out", str(bundle)]) == 0
    return folders, frames, bundle


def edit(change):
    """change: of the tensors by name, in place."""

    def spoil(folder, model):
        path = folder / WEIGHTS[model]
        if path.suffix == ".safetensors":
            state = load_file(path)
            change(state)
            save_file(state, path)
            return
        saved = torch.load(path, weights_only=True)
        change(saved.get("encoder", saved))
        torch.save(saved, path)

    return spoil


def edit_onnx(name, change):
    def spoil(folder, model):
        graph = onnx.load(str(folder / name))
        change(graph)
        onnx.save(graph, str(folder / name))

    return spoil


def truncate(folder, model):
    path = folder / WEIGHTS[model]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def remove_weights(folder, model):
    (folder / WEIGHTS[model]).unlink()


def unknown_key(state):
    state["surplus.weight"] = torch.zeros(3)


def missing_key(state):
    del state[next(reversed(state))]


def not_a_number(state):
    next(value for value in state.values() if value.is_floating_point()).view(-1)[0] = float("nan")


def text(name, content):
    def spoil(folder, model):
        (folder / name).write_text(content)

    return spoil


def config(**changes):
    def spoil(folder, model):
        said = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            if isinstance(value, dict):
                said[key] |= value
            else:
                said[key] = value
        (folder / "config.json").write_text(json.dumps(said))

    return spoil


class Hostile:
    """Unpickled, it would make a folder."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def pickled_code(folder, model):
    torch.save({"encoder": Hostile(folder / "executed"), "predictor": {}}, folder / WEIGHTS[model])


def nan_in_onnx(model):
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


def control_flow(model):
    model.graph.node[-1].op_type = "If"


def unknown_key_in_signature(folder, model):
    written = (folder / "signature.toml").read_text()
    (folder / "signature.toml").write_text(f"colour_blind = true\n{written}")


def empty_folder(folder, model):
    for picture in (folder.parent / "frames").iterdir():
        picture.unlink()


def undecodable_pictures(folder, model):
    for picture in (folder.parent / "frames").iterdir():
        picture.write_bytes(b"\x89PNG and nothing behind it")


def few_pictures(folder, model):
    for picture in sorted((folder.parent / "frames").iterdir())[3:]:
        picture.unlink()


def other_lens(folder, model):
    msgspec.structs.replace(WIDE, width=960, cx=480.0).save(folder.parent / "camera.toml")


OF_ALL = {
    "truncated checkpoint": (truncate, "{weights}", "copy"),
    "no checkpoint": (remove_weights, "{weights}", ": "),
    "empty calibration folder": (empty_folder, "frames", "give another"),
}
AFTER_TRACING = {
    "pictures that cannot be decoded": (undecodable_pictures, "frames", "give"),
    "too few pictures": (few_pictures, "frames", "give longer footage"),
    "frames of another shape than the lens": (other_lens, "64x48", "set the camera to that shape"),
}
"""For single pictures and for clips; the others have the same way to their pictures and take seconds to trace."""
OF_TORCH = {
    "unknown key": (edit(unknown_key), "surplus.weight', which this model does not know", ": "),
    "missing key": (edit(missing_key), "{weights} lacks '", ": "),
    "weights that are not numbers": (edit(not_a_number), "{weights} has '", "take a checkpoint from before"),
    "unknown key in latentloop.toml": (text("latentloop.toml", "colour_blind = true"), "latentloop.toml", "docs/export.md"),
    "code in the file": (pickled_code, "{weights}", "copy it again, and if it is a pickled module save its state_dict()"),
}
OF_ONE = {
    "onnx": {
        "weights that are not numbers": (edit_onnx("predictor.onnx", nan_in_onnx), "predictor.onnx", "an unbroken checkpoint"),
        "unknown key": (unknown_key_in_signature, "signature.toml", "docs/export.md"),
        "wrong input size": (edit_onnx("encoder.onnx", other_size), "encoder.onnx", "export"),
        "operator of another domain": (edit_onnx("predictor.onnx", foreign_operator), "predictor.onnx", "plain ONNX operators"),
        "operator that nobody has": (edit_onnx("predictor.onnx", no_such_operator), "predictor.onnx", "export it again"),
        "control flow": (edit_onnx("predictor.onnx", control_flow), "predictor.onnx", "export"),
    },
    "lewm": {"wrong input size": (config(encoder={"image_size": 30}), "config.json has encoder.image_size 30", "take the file")},
    "dinov2": {"wrong input size": (text("latentloop.toml", "picture = [30, 28]"), "picture is 30x28", "multiples of the patch")},
    "vjepa2": {"wrong input size": (config(crop_size=50), "config.json", "50 pixels and patches of 16")},
    "official": {"wrong input size": (text("latentloop.toml", "size = 50"), "latentloop.toml", "50 pixels and patches of 16")},
    "2-AC": {"wrong input size": (text("latentloop.toml", "size = 50"), "latentloop.toml", "50 pixels and patches of 16")},
}
TABLES = {model: {**OF_ALL, **({} if model == "onnx" else OF_TORCH), **OF_ONE[model]} for model in EXPORTED}
for each in ("onnx", "dinov2", "vjepa2"):
    TABLES[each] |= AFTER_TRACING


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


TRACED: dict[str, Path] = {}
"""By model, graphs of the unspoilt one, so that each is traced once however many pictures are wrong."""


def arguments(models, model, place) -> list[str]:
    """A copy of the model, its pictures and the old bundle in ``place``, and the command for it."""
    folders, frames, bundle = models
    shutil.copytree(folders[model], place / "model")
    shutil.copytree(frames, place / "frames")
    shutil.copytree(bundle, place / "bundle")
    kind, file = EXPORTED[model]
    path = place / "model" / file if file else place / "model"
    return ["export", kind, str(path), "--frames", str(place / "frames"), "--out", str(place / "bundle")]


@pytest.mark.parametrize(("model", "case"), [(model, case) for model, table in TABLES.items() for case in table])
def test_it_is_named_with_file_and_remedy_and_the_old_bundle_stays(models, tmp_path, capsys, model, case):
    command = arguments(models, model, tmp_path)
    spoil, named, remedy = TABLES[model][case]
    spoil(tmp_path / "model", model)
    if (lens := tmp_path / "camera.toml").exists():
        command += ["--intrinsics", str(lens)]
    unfinished = tmp_path / ".bundle.unfinished"
    if case in AFTER_TRACING and model in TRACED:
        shutil.copytree(TRACED[model], unfinished)
    before = content(tmp_path / "bundle")
    assert main(command) == 2
    if case in AFTER_TRACING and unfinished.exists():
        TRACED[model] = unfinished
    said = capsys.readouterr().err
    last = said.strip().splitlines()[-1]
    assert last.startswith("latentloop: ") and "Traceback" not in said
    assert named.format(weights=WEIGHTS[model]) in last and remedy in last
    assert content(tmp_path / "bundle") == before
    assert not (tmp_path / "model" / "executed").exists()
    assert {each.name for each in tmp_path.iterdir()} <= LEFT


@pytest.mark.parametrize(
    ("model", "limit"), [("dinov2", 2000), ("onnx", 0), ("onnx", 500), ("onnx", 20_000), ("onnx", 40_000)]
)
def test_a_disk_that_is_full_halfway_leaves_the_old_bundle_and_says_so(models, tmp_path, capsys, model, limit):
    """Python ignores the signal, so that a file over the limit fails to be written as on a full disk."""
    command = arguments(models, model, tmp_path)
    before = content(tmp_path / "bundle")
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, was[1]))
    try:
        code = main(command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
    said = capsys.readouterr().err
    last = said.strip().splitlines()[-1]
    assert code == 2 and "Traceback" not in said
    assert last.startswith("latentloop: ") and "free space" in last
    assert str(tmp_path) in last or tempfile.gettempdir() in last
    assert content(tmp_path / "bundle") == before
    assert {each.name for each in tmp_path.iterdir()} <= LEFT


def test_pictures_of_other_sizes_are_scaled_as_the_runtime_scales_them(models, tmp_path):
    command = arguments(models, "onnx", tmp_path)
    for index in range(0, 60, 2):
        path = str(tmp_path / "frames" / f"{index}.png")
        cv2.imwrite(path, cv2.resize(cv2.imread(path), (200, 90)))
    assert main(command) == 0
