"""A large graph goes the whole way, with its weights in a file: here the limit is small and not the model."""

from __future__ import annotations

import resource
import shutil
import signal

import numpy as np
import onnx
import pytest
import torch

from edge.bundle import load
from edge.cli import main
from edge.errors import UserError
from export import external_weights
from export.external_weights import embed, engine_of, folder_of, intact, kept_in, loadable, size, values
from export.feeds import run
from export.footage import read_for
from export.layers import without_rounding
from export.onnx_graphs import to_onnx
from export.pipeline import export_bundle
from export.quantize.pipeline import SMOOTHED
from export.sources.onnx_pair import open_onnx_pair
from export.sources.vjepa2 import open_vjepa2
from export.stages import Stages, open_once
from tests.conftest import ROOT
from tests.export.sources import vjepa_checkpoints as made
from tests.export.sources.pair import write_pair, write_pictures

LIMIT = 1_400_000
"""Bytes; the encoder of the checkpoint has 1.8 MB in float32 and 1.2 MB in INT8, most of it its tokenizer."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = made.write_hugging_face(tmp_path_factory.mktemp("huge") / "hf")
    (folder / "latentloop.toml").write_text("frames = 4\ncontext = 2\n")
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("frames"), 36, (48, 48))


def test_the_bundle_of_a_model_with_its_weights_aside_is_that_of_the_same_model_without(checkpoint, frames, tmp_path, monkeypatch):
    below = open_vjepa2(checkpoint)
    footage = read_for(below, str(frames))
    expected = export_bundle(below, footage, tmp_path / "below", how=SMOOTHED, with_fp32=True).bundle
    monkeypatch.setattr(external_weights, "ASIDE", LIMIT)
    stages = Stages.beside(tmp_path / "above")
    above = open_once(stages, checkpoint, open_vjepa2)
    assert folder_of(above.graphs["encoder"]) == stages.folder and above.graphs["encoder"].ByteSize() < LIMIT / 2
    assert size(above.graphs["encoder"]) == pytest.approx(below.graphs["encoder"].ByteSize(), rel=0.05)
    found = export_bundle(above, footage, tmp_path / "above", how=SMOOTHED, stages=stages, with_fp32=True).bundle
    assert expected is not None and found is not None and not stages.begun
    for file in ("encoder.onnx", "predictor.onnx", "encoder.fp32.onnx"):
        one, other = (onnx.load(str(bundle.folder / file)) for bundle in (expected, found))
        assert list(one.graph.node) == list(other.graph.node) and folder_of(other) is None
        assert by_name(one) == by_name(other)
    assert found.manifest.int8 == expected.manifest.int8


def by_name(model):
    return {tensor.name: (values(tensor).dtype, values(tensor).tobytes()) for tensor in model.graph.initializer}


def test_a_resumed_stage_whose_weights_are_cut_off_or_changed_or_gone_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(external_weights, "LARGEST", LIMIT)
    stages, made_anew = Stages(tmp_path / "kept"), []
    torch.manual_seed(0)
    module = torch.nn.Linear(512, 1024)

    def make():
        made_anew.append(1)
        with kept_in(stages.folder):
            return to_onnx(module, {"x": torch.zeros(1, 512)}, ["y"])

    first, again = (stages.once("fp32", onnx.ModelProto, ["linear"], make) for _ in range(2))
    assert len(made_anew) == 1 and again == first
    (file,) = stages.folder.glob("*.weights")
    whole = file.read_bytes()
    for damage in (lambda: file.write_bytes(whole[:-1]), lambda: file.write_bytes(b"\1" + whole[1:]), file.unlink):
        damage()
        assert not intact(first)
        count = len(made_anew)
        assert stages.once("fp32", onnx.ModelProto, ["linear"], make) == first
        assert len(made_anew) == count + 1 and intact(first) and file.read_bytes() == whole


@pytest.fixture
def linear(tmp_path, monkeypatch):
    monkeypatch.setattr(external_weights, "LARGEST", LIMIT)
    torch.manual_seed(0)
    module = torch.nn.Linear(512, 1024)
    with kept_in(tmp_path / "weights"):
        return module, to_onnx(module, {"x": torch.zeros(1, 512)}, ["y"])


def test_a_graph_with_its_weights_aside_computes_the_same_and_can_be_put_together_again(linear, tmp_path):
    module, graph = linear
    x = np.random.default_rng(0).normal(size=(1, 512)).astype(np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(run(engine_of(graph, "aside"), {"x": x}), expected, rtol=1e-5, atol=1e-5)
    data, folder = loadable(graph)
    assert str(tmp_path).encode() not in data and folder == tmp_path / "weights"
    assert [path.suffix for path in folder.iterdir()] == [".weights"]
    weight = next(tensor for tensor in graph.graph.initializer if tensor.external_data)
    assert isinstance(values(weight), np.memmap) and values(weight).tobytes() == module.weight.detach().numpy().T.tobytes()
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    with pytest.raises(UserError, match=r"the INT8 graph has .* keep less in float"):
        embed(copy)


def test_an_int8_graph_in_float_arithmetic_may_be_too_large_as_well(tmp_path, monkeypatch):
    model = onnx.load(str(ROOT / "edge" / "bundles" / "camera" / "predictor.onnx"))
    inside = without_rounding(model)
    monkeypatch.setattr(external_weights, "LARGEST", 1000)
    with kept_in(tmp_path / "weights"):
        outside = without_rounding(model)
    assert folder_of(outside) == tmp_path / "weights" and by_name(outside) == by_name(inside)


def test_without_a_place_for_the_weights_it_says_so(monkeypatch):
    monkeypatch.setattr(external_weights, "LARGEST", LIMIT)
    with pytest.raises(UserError, match="needs a place for its weights: use latentloop export"):
        to_onnx(torch.nn.Linear(512, 1024), {"x": torch.zeros(1, 512)}, ["y"])


@pytest.mark.parametrize(("option", "given"), [("--fp32", {"with_fp32": True}), ("--dynamic", {"dynamic": True})])
def test_what_needs_one_file_is_refused_before_the_work(tmp_path, monkeypatch, option, given):
    source = open_onnx_pair(write_pair(tmp_path))
    footage = read_for(source, str(write_pictures(tmp_path / "frames", 40, (32, 48))))
    monkeypatch.setattr(external_weights, "LARGEST", 1000)
    with pytest.raises(UserError, match=rf"one file of at most 2 GB: leave out {option}$"):
        export_bundle(source, footage, tmp_path / "bundle", **given)


def test_a_full_disk_is_named_and_leaves_the_old_bundle_and_no_draft(checkpoint, frames, tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "edge" / "bundles" / "camera", tmp_path / "bundle")
    before = load(tmp_path / "bundle").sha256
    monkeypatch.setattr(external_weights, "LARGEST", LIMIT)
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
        assert main(["export", "vjepa2", str(checkpoint), "--frames", str(frames), "--out", str(tmp_path / "bundle")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "weights cannot be written to" in last and "free space there, or give another --out" in last
    assert load(tmp_path / "bundle").sha256 == before
    assert not list((tmp_path / ".bundle.unfinished").iterdir())
