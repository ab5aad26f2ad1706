"""The choice between CPU runtimes: by measurement, once, and never of one that computes something else."""

from __future__ import annotations

import sys

import msgspec
import pytest

from edge.bundle import load
from edge.engines import EngineError, EngineSettings, cpu_runtime, load_engine
from edge.engines.cpu_runtime import Measured, Setting, choose_cpu_runtime, compare
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.trial import Verdict

SETTING = Setting("0" * 64, "a processor", ("1.32.0", "2026.4.1"), 1)


@pytest.mark.parametrize(
    ("accepted", "milliseconds", "reference", "winner"),
    [
        (True, 1.0, 2.0, "openvino"),
        (True, 0.95, 1.0, "openvino"),
        (True, 0.96, 1.0, "onnxruntime"),
        (True, 2.0, 1.0, "onnxruntime"),
        (False, 1.0, 2.0, "onnxruntime"),
        (True, None, None, "onnxruntime"),
    ],
)
def test_openvino_wins_only_if_it_is_right_and_clearly_faster(accepted, milliseconds, reference, winner):
    verdict = Verdict(accepted, milliseconds=milliseconds, reference_milliseconds=reference)
    assert Measured(SETTING, verdict).winner == winner


@pytest.fixture
def measured(monkeypatch):
    """Comparisons made, each of which finds OpenVINO faster."""
    made = []
    monkeypatch.setattr(cpu_runtime, "openvino_installed", lambda: True)
    monkeypatch.setattr(cpu_runtime.metadata, "version", lambda name: f"{name} 1")
    verdict = Verdict(True, milliseconds=1.0, reference_milliseconds=2.0)
    monkeypatch.setattr(cpu_runtime, "compare", lambda bundle, part, graph, threads: made.append(part) or verdict)
    return made


def test_it_is_measured_once_for_each_part_and_number_of_threads(measured, tmp_path):
    bundle = load("camera")
    for _ in range(2):
        assert choose_cpu_runtime(bundle, "encoder", 1, tmp_path) == "openvino"
    choose_cpu_runtime(bundle, "predictor", 1, tmp_path)
    choose_cpu_runtime(bundle, "encoder", 2, tmp_path)
    assert measured == ["encoder", "predictor", "encoder"]


def test_another_version_or_processor_is_measured_anew(measured, tmp_path, monkeypatch):
    bundle = load("camera")
    choose_cpu_runtime(bundle, "encoder", 1, tmp_path)
    monkeypatch.setattr(cpu_runtime.metadata, "version", lambda name: f"{name} 2")
    choose_cpu_runtime(bundle, "encoder", 1, tmp_path)
    monkeypatch.setattr(cpu_runtime, "cpu_name", lambda: "another")
    choose_cpu_runtime(bundle, "encoder", 1, tmp_path)
    assert len(measured) == 3


def test_a_damaged_measurement_is_taken_again_and_a_full_disk_stops_nothing(measured, tmp_path, monkeypatch, caplog):
    bundle = load("camera")
    choose_cpu_runtime(bundle, "encoder", 1, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    assert choose_cpu_runtime(bundle, "encoder", 1, tmp_path) == "openvino" and len(measured) == 2

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cpu_runtime, "write_whole", full)
    assert choose_cpu_runtime(bundle, "predictor", 1, tmp_path) == "openvino"
    assert "No space left" in caplog.text


def test_without_openvino_nothing_is_measured_and_asking_for_it_names_the_extra(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(cpu_runtime, "openvino_installed", lambda: False)
    assert choose_cpu_runtime(load("camera"), "encoder", 1, tmp_path) == "onnxruntime" and not measured

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"pip install 'latentloop\[openvino\]'"):
        load_engine(load("camera"), "encoder", EngineSettings(runtime="openvino"))


def test_what_cannot_be_compared_stays_in_onnxruntime(monkeypatch):
    def broken(model, where, threads):
        raise EngineError(f"OpenVINO cannot load {where}")

    monkeypatch.setattr(cpu_runtime, "OpenVinoEngine", broken)
    bundle = load("camera")
    graph = (bundle.folder / bundle.graph("encoder").file).read_bytes()
    verdict = compare(bundle, "encoder", graph, 1)
    assert not verdict.accepted and "cannot load" in verdict.reason


def test_auto_compares_and_loads_the_winner(monkeypatch, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is the extra 'openvino'")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    bundle = load("camera")
    engine = load_engine(bundle, "encoder", EngineSettings(runtime="auto"))
    assert engine.info.precision == "int8"
    (path,) = (tmp_path / "latentloop" / "runtimes").iterdir()
    kept = msgspec.json.decode(path.read_bytes(), type=Measured)
    assert kept.verdict.accepted and kept.verdict.samples == 8
    assert engine.info.runtime.startswith(kept.winner)
    load_engine(bundle, "encoder", EngineSettings(runtime="auto", precision="fp32"))  # floats are not measured
    assert len(list(path.parent.iterdir())) == 1


def test_openvino_with_another_weight_is_refused(monkeypatch):
    """An engine that computes something else must lose, however fast."""
    pytest.importorskip("openvino", reason="OpenVINO is the extra 'openvino'")

    class Wrong(cpu_runtime.OpenVinoEngine):
        def enqueue(self) -> None:
            super().enqueue()
            self.output("latent")[...] *= 1.2

    monkeypatch.setattr(cpu_runtime, "OpenVinoEngine", Wrong)
    bundle = load("camera")
    graph = (bundle.folder / bundle.graph("encoder").file).read_bytes()
    verdict = compare(bundle, "encoder", graph, 1)
    assert not verdict.accepted and "relative error" in verdict.reason


def test_a_runtime_that_falls_back_to_floats_is_refused(monkeypatch):
    def floats(model, where, threads):
        return OnnxRuntimeEngine(model, where, threads=threads, integers=False)

    monkeypatch.setattr(cpu_runtime, "OpenVinoEngine", floats)
    bundle = load("camera")
    graph = (bundle.folder / bundle.graph("encoder").file).read_bytes()
    assert compare(bundle, "encoder", graph, 1) == Verdict(False, "it runs 0 products in integers and onnxruntime 10")
