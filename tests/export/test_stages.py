"""An interrupted export goes on from what is done, never from what has changed since, and says when the disk is full."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from calibration.scale_cache import ScaleCache
from edge.bundle import load
from edge.cli import main
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export import commands, pipeline
from export.feeds import run
from export.footage import run_length
from export.frames import read_footage
from export.pipeline import export_bundle
from export.quantize import pipeline as quantize
from export.quantize.pipeline import Calibration
from export.sources.onnx_pair import open_onnx_pair
from export.stages import Stages, open_once
from tests.conftest import ROOT
from tests.export.sources.pair import write_pair, write_pictures


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("frames"), 80, (32, 48))


def test_a_stage_is_made_once_for_the_same_inputs_and_anew_for_others_or_if_damaged(tmp_path):
    stages, made = Stages(tmp_path / "kept"), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [stages.once("n", int, [b"ab", b"c"], make) for _ in range(2)] == [1, 1] and stages.begun
    assert stages.once("n", int, [b"a", b"bc"], make) == 2
    for file in (tmp_path / "kept").iterdir():
        file.write_bytes(file.read_bytes()[:0])
    assert stages.once("n", int, [b"ab", b"c"], make) == 3
    stages.forget()
    assert not stages.begun and not (tmp_path / "kept").exists()
    assert Stages(None).once("n", int, [], make) == 4


def test_what_is_done_is_not_done_again_and_gives_the_same_bundle(tmp_path, frames, monkeypatch, own_cache):
    pair = open_onnx_pair(write_pair(tmp_path, robot=True))
    engines = {part: OnnxRuntimeEngine(graph.SerializeToString(), part) for part, graph in pair.graphs.items()}
    source = dataclasses.replace(pair, peer=lambda part, feed: run(engines[part], feed))
    footage = read_footage(str(frames), source.picture, source.time.step_s, run_length(source), 8)
    elsewhere = Calibration(smoothing=True, cache=ScaleCache(tmp_path / "another"))
    straight = export_bundle(source, footage, tmp_path / "straight", how=elsewhere).bundle
    stages, how = Stages.beside(tmp_path / "bundle"), Calibration(smoothing=True, cache=ScaleCache(own_cache))
    with pytest.raises(KeyboardInterrupt):
        export_bundle(source, footage, tmp_path / "bundle", how=how, stages=stages, say=interrupt_verification)
    assert stages.begun
    with monkeypatch.context() as patch:
        for measured_again in ("measure_channels", "measure_histograms", "measure_rounding"):
            patch.setattr(quantize, measured_again, None)
        patch.setattr(pipeline, "_parity", None)
        resumed = export_bundle(source, footage, tmp_path / "bundle", how=how, stages=stages).bundle
    assert straight is not None and resumed is not None and resumed.sha256 == straight.sha256
    assert not stages.begun


def interrupt_verification(stage: str) -> None:
    if stage.startswith("verifying"):
        raise KeyboardInterrupt


def test_the_graphs_of_a_checkpoint_are_kept_and_its_framework_is_asked_only_if_needed(tmp_path):
    pair = open_onnx_pair(write_pair(tmp_path))
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "weights").write_bytes(b"one")
    opened = []

    def open_source(path):
        opened.append(path)
        return dataclasses.replace(pair, peer=lambda part, feed: np.full(3, 7.0, np.float32))

    stages = Stages(tmp_path / "kept")
    first, again = (open_once(stages, checkpoint, open_source) for _ in range(2))
    assert len(opened) == 1 and again.graphs == first.graphs and again.latent == pair.latent
    assert again.peer is not None and [again.peer("encoder", {})[0] for _ in range(2)] == [7.0, 7.0] and len(opened) == 2
    stages.let_go()
    assert again.peer("encoder", {})[0] == 7.0 and len(opened) == 3
    (checkpoint / "weights").write_bytes(b"two")
    open_once(stages, checkpoint, open_source)
    assert len(opened) == 4


def test_the_command_says_how_to_go_on_and_cleans_up_when_it_is_done(tmp_path, frames, capsys, monkeypatch):
    arguments = ["export", "onnx", str(write_pair(tmp_path)), "--frames", str(frames), "--out", str(tmp_path / "bundle")]
    with monkeypatch.context() as patch:
        patch.setattr(commands.ProgressLine, "say", lambda self, stage: interrupt_verification(stage))
        assert main(arguments) == 130
    assert "interrupted: the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert main(arguments) == 0
    assert capsys.readouterr().err.count("reused from") == 2
    assert not (tmp_path / ".bundle.unfinished").exists() and (tmp_path / "bundle.html").read_text().startswith("<!doctype html>")


FULL = """
import resource, signal, sys
from export import pipeline
from edge.cli import main

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond the limit is then an error of the system, as on a full disk
real = pipeline.assemble

def on_a_full_disk(*given, **named):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    return real(*given, **named)

pipeline.assemble = on_a_full_disk
sys.exit(main(sys.argv[1:]))
"""


def test_no_space_in_the_middle_leaves_the_old_bundle_and_says_so(tmp_path, frames):
    arguments = ["export", "onnx", str(write_pair(tmp_path)), "--frames", str(frames), "--out", str(tmp_path / "bundle")]
    assert main(arguments) == 0
    before = load(tmp_path / "bundle").sha256
    write_pair(tmp_path, robot=True)
    done = subprocess.run(
        [sys.executable, "-c", FULL, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "bundle cannot be written" in last and "space" in last and "Traceback" not in done.stderr
    assert load(tmp_path / "bundle").sha256 == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".bundle-")]
