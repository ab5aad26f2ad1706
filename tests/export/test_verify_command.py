"""``export verify`` on bundles that pass and that do not, and labelled clips."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.errors import UserError
from export import acceptance
from export.footage import run_length
from export.frames import read_footage
from export.labels import anomaly_report, read_labelled
from export.pipeline import export_bundle
from export.sources.onnx_pair import open_onnx_pair
from export.verify_bundle import verify_bundle
from tests.export.sources.pair import write_pair, write_pictures


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("frames"), 80, (32, 48))


def export(folder, frames, name="bundle", with_fp32=False, **kind):
    source = open_onnx_pair(write_pair(folder, **kind))
    footage = read_footage(str(frames), source.picture, source.time.step_s, run_length(source), 8)
    return export_bundle(source, footage, folder / name, with_fp32=with_fp32).bundle


@pytest.fixture
def ruined(tmp_path, frames, monkeypatch):
    """A bundle that should never have been written."""
    with monkeypatch.context() as patch:
        patch.setattr(acceptance, "failures", lambda report: [])
        return export(tmp_path, frames, with_fp32=True, outlier=3000.0)


@pytest.mark.parametrize("with_fp32", [True, False])
def test_a_good_bundle_is_within_the_gate(tmp_path, frames, capsys, with_fp32):
    export(tmp_path, frames, with_fp32=with_fp32, robot=True)
    page = tmp_path / "page.html"
    assert main(["export", "verify", str(tmp_path / "bundle"), "--frames", str(frames), "--json", "--report", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accepted"] and found["failures"] == [] and found["remedy"] == ""
    evidence = found["evidence"]
    assert {line["figure"] for line in evidence["gate"]} >= {"cosine", "rank_correlation", "action_agreement"}
    assert set(evidence["layers"]) == {"encoder", "predictor", "rollout"} and evidence["costs"]["plans"]
    assert ("FP32 graphs" in evidence["about"]["against"]) is with_fp32
    assert "Accepted" in page.read_text()


def test_below_the_gate_the_layer_and_the_remedy_are_named(ruined, frames, capsys):
    assert main(["export", "verify", str(ruined.folder), "--frames", str(frames)]) == 1
    said = capsys.readouterr()
    assert "below the gate: encoder cosine is" in said.err and "second (" in said.err
    assert said.err.strip().endswith("second") and "--keep-float" in said.err
    assert "FAIL encoder cosine" in said.out


def test_the_fp32_graphs_of_another_bundle_may_be_the_measure(tmp_path, frames, capsys):
    (tmp_path / "a").mkdir()
    whole = export(tmp_path / "a", frames, with_fp32=True)
    export(tmp_path, frames)
    evidence = verify_bundle(load_bundle(tmp_path / "bundle"), str(frames), against=whole)
    assert evidence.about.against.startswith("the FP32 graphs of pair") and evidence.passed
    asked = ["export", "verify", str(tmp_path / "bundle"), "--frames", str(frames), "--against", str(tmp_path / "bundle")]
    assert main(asked) == 2 and "has no FP32 graph of the encoder: export it with --fp32" in capsys.readouterr().err


def load_bundle(folder):
    from edge.bundle import load

    return load(folder)


def write_labels(folder, clip, anomalous):
    (folder / "labels.toml").write_text(f'[[clips]]\nframes = "{clip}"\nanomalous = {anomalous}\n')
    return folder / "labels.toml"


def test_planted_anomalies_are_told_apart_by_both(tmp_path, frames):
    bundle = export(tmp_path, frames)
    write_pictures(tmp_path / "clip", 60, (32, 48))
    for index in range(20, 40):
        cv2.imwrite(str(tmp_path / "clip" / f"{index}.png"), np.full((32, 48, 3), (255, 255, 0), np.uint8))
    evidence = verify_bundle(bundle, str(frames), labels=write_labels(tmp_path, "clip", [[20, 40]]))
    anomaly = evidence.figures["anomaly"]
    assert anomaly["scores"]["unfamiliar (distance to normal)"]["int8"] > 0.9 and anomaly["auroc_loss"] <= 0.01
    assert "1 clips of labels.toml, 20 of 60 frames anomalous" in anomaly["labelled_on"]
    assert any(line.section == "anomaly" and line.passed for line in evidence.gate)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clips = 3", "are not valid"),
        ('[[clips]]\nframes = "clip"\nlabel = 1\n', "are not valid"),
        ('[[clips]]\nframes = "clip"\nanomalous = [[9, 2]]\n', r"interval \[9, 2\)"),
        ('[[clips]]\nframes = "clip"\n', "name 0 of 10 frames anomalous"),
        ('[[clips]]\nframes = "none"\n', "there is no file"),
        (None, "cannot be read"),
    ],
)
def test_bad_labels_are_named(tmp_path, frames, text, said):
    source = open_onnx_pair(write_pair(tmp_path))
    write_pictures(tmp_path / "clip", 10, (32, 48))
    if text is not None:
        (tmp_path / "labels.toml").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_labelled(tmp_path / "labels.toml", source.picture, 0.1, np.zeros((1, 4, 16, 24, 3), np.uint8), None)
    assert "\n" not in str(caught.value)


def test_auroc_on_real_labelled_footage(shared_data, tmp_path):
    from edge.bundle import load
    from edge.engines import EngineSettings, load_engine

    bundle = load("camera")
    walkway = shared_data / "ucsd_ped2"
    labels = write_labels(tmp_path, walkway / "testing" / "frames" / "02", [[94, 180]])
    normal = read_footage(str(walkway / "training" / "frames" / "01"), bundle.manifest.picture, 0.1, 8, 4).calibration
    labelled = read_labelled(labels, bundle.manifest.picture, bundle.manifest.time.step_s, normal, bundle.manifest.latent.grid)
    exact = {part: load_engine(bundle, part, EngineSettings(precision="fp32")) for part in ("encoder", "predictor")}
    int8 = {part: load_engine(bundle, part) for part in ("encoder", "predictor")}
    report = anomaly_report(exact, int8, labelled)
    assert report["int8_auroc"] > 0.6 and abs(report["auroc_loss"]) < 0.03
