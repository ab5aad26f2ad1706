"""``calibrate activations``: tables to look at, which the export then finds."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from calibration.activations import ScaleTable
from edge.bundle import load
from edge.errors import UserError
from export import activations, commands
from export.footage import read_for, run_length
from export.frames import read_footage
from export.pipeline import calibrate, export_bundle
from export.quantize.pipeline import Calibration
from export.reference.random_vit import write_random_vit
from export.sources.bundle import open_bundle
from export.sources.onnx_pair import open_onnx_pair
from tests.export.sources.pair import write_pair, write_pictures
from tests.test_house import PROJECT


def command(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    activations.register(parser.add_subparsers())
    args = parser.parse_args(["activations", *map(str, arguments)])
    code: int = args.run(args)
    return code


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("frames"), 80, (32, 48))


def test_the_entry_point_names_the_command():
    assert PROJECT["project"]["entry-points"]["latentloop.calibrations"]["activations"] == "export.activations:register"


def test_tables_are_printed_saved_and_reused(tmp_path, frames, own_cache, capsys):
    path = write_pair(tmp_path, robot=True)
    assert command(path, "--frames", frames, "--out", tmp_path / "tables") == 0
    first = capsys.readouterr()
    assert "encoder: 2 Linears on 2 activations, method mse" in first.out and "kept in" in first.out
    saved = {part: ScaleTable.load(tmp_path / "tables" / f"{part}.scales.json") for part in ("encoder", "predictor", "rollout")}
    assert command(path, "--frames", frames, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    for part, table in saved.items():
        assert again[part]["reused"] and again[part]["file"].startswith(str(own_cache))
        assert again[part]["table"]["tensors"].keys() == table.tensors.keys()
        assert again[part]["scales"] == {name: tensor.scale for name, tensor in table.tensors.items()}


def test_an_out_folder_that_cannot_be_is_told_in_one_line(tmp_path, frames):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/tables cannot be written \(Not a directory\): check --out"):
        command(write_pair(tmp_path), "--frames", frames, "--out", tmp_path / "file" / "tables")


def test_the_export_finds_what_the_command_kept_and_makes_the_same_bundle(tmp_path, frames, own_cache):
    path = write_pair(tmp_path, robot=True)
    assert command(path, "--frames", frames) == 0
    kept = sorted(own_cache.glob("*"))
    source = open_onnx_pair(path)
    footage = read_for(source, str(frames))
    said: list[str] = []
    how = Calibration(smoothing=True, cache=activations.ScaleCache(own_cache))
    cached = export_bundle(source, footage, tmp_path / "one", how=how, say=said.append)
    assert sum("reused from" in line for line in said) == 3 and sorted(own_cache.glob("*")) == kept
    plain = export_bundle(source, footage, tmp_path / "other")
    for graph in ("encoder.onnx", "predictor.onnx", "rollout.onnx"):
        assert (tmp_path / "one" / graph).read_bytes() == (tmp_path / "other" / graph).read_bytes()
    assert cached.report == plain.report


def test_other_footage_is_measured(tmp_path, frames, own_cache):
    source = open_onnx_pair(write_pair(tmp_path))
    footage = read_footage(str(frames), source.picture, source.time.step_s, run_length(source), 8)
    how = Calibration(cache=activations.ScaleCache(own_cache))
    assert not calibrate(source, footage, how)["encoder"].reused and calibrate(source, footage, how)["encoder"].reused
    footage.calibration[0, 0, 0, 0] ^= np.uint8(1)
    assert not calibrate(source, footage, how)["encoder"].reused


def test_a_bundle_with_its_fp32_graphs_is_a_source(tmp_path, frames, capsys):
    source = open_onnx_pair(write_pair(tmp_path, robot=True))
    footage = read_footage(str(frames), source.picture, source.time.step_s, run_length(source), 8)
    export_bundle(source, footage, tmp_path / "bundle", with_fp32=True)
    assert command(tmp_path / "bundle", "--frames", frames) == 0
    found = open_bundle(tmp_path / "bundle")
    assert (found.plan_shape, found.actions, found.picture) == (source.plan_shape, source.actions, source.picture)
    export_bundle(source, footage, tmp_path / "bundle")
    assert load(tmp_path / "bundle").manifest.graphs.encoder.fp32 is None
    with pytest.raises(UserError, match="has no FP32 encoder to calibrate: export it with --fp32"):
        command(tmp_path / "bundle", "--frames", frames)


@pytest.mark.parametrize(
    ("path", "config", "opened"),
    [
        ("weights.pt", None, "_vjepa2_official"),
        ("model/signature.toml", None, "_onnx"),
        ("model", None, "_lewm"),  # which says that there is no config.json
        ("model", "{", "_lewm"),
        ("model", '{"_target_": "stable_worldmodel.wm.lewm.LeWM", "encoder": {"size": "tiny"}}', "_lewm"),
        ("model", '{"model_type": "vjepa2", "crop_size": 256}', "_vjepa2"),
        ("model", '{"model_type": "dinov2"}', "_vit"),
        ("model", '{"model_type": "llama"}', "_vit"),  # which names those that it knows
    ],
)
def test_every_kind_of_checkpoint_is_told_by_what_lies_there(tmp_path, monkeypatch, path, config, opened):
    asked = []
    for name in ("_lewm", "_vjepa2", "_vjepa2_official", "_vit", "_onnx"):
        monkeypatch.setattr(commands, name, lambda given, name=name: asked.append((name, given)))
    (tmp_path / "model").mkdir()
    if config is not None:
        (tmp_path / "model" / "config.json").write_text(config)
    commands.open_any(tmp_path / path)
    assert asked == [(opened, tmp_path / path)]


def test_the_activations_of_a_vision_encoder_are_measured_too(tmp_path, frames, capsys):
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    write_random_vit({"model_type": "dinov2", "image_size": 28, **sizes}, tmp_path / "model")
    (tmp_path / "model" / "latentloop.toml").write_text("picture = [28, 28]\n")
    assert command(tmp_path / "model", "--frames", frames) == 0
    assert "encoder: 4 Linears on 4 activations, method mse" in capsys.readouterr().out
