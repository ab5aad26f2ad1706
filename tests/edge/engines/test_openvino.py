"""OpenVINO behind the contract, and the choice between the two CPU runtimes."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edge.engines import EngineError, cpu, openvino_engine
from edge.engines.cpu import Trial, cpu_engine, try_out
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.openvino_engine import OpenVinoEngine

LAYERS, WIDTH = 3, 32  # of the mlp in conftest.py
needs_openvino = pytest.mark.skipif(not openvino_engine.installed(), reason="openvino is not installed: latentloop[openvino]")


def result(engine, seed=1):
    engine.input("x")[...] = np.random.default_rng(seed).normal(size=(4, WIDTH))
    engine.enqueue()
    engine.wait()
    return engine.output("y").copy()


def chosen(model, folder, runtime="auto"):
    return cpu_engine(model, "mlp", runtime=runtime, threads=1, spinning=False, trials=folder)


@needs_openvino
def test_every_quantized_linear_runs_in_integers_and_gives_what_onnxruntime_gives(mlp):
    engine, reference = OpenVinoEngine(mlp[1], "mlp"), OnnxRuntimeEngine(mlp[1], "mlp")
    assert (engine.inputs, engine.outputs) == (reference.inputs, reference.outputs)
    info = engine.info
    assert info.runtime.startswith("openvino 20")
    assert (info.precision, info.quantized_linears, info.integer_gemms) == ("int8", LAYERS, LAYERS)
    x, y = engine.input("x"), engine.output("y")
    for seed in (1, 2):
        found, expected = result(engine, seed), result(reference, seed)
        assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
    assert engine.input("x") is x and engine.output("y") is y
    np.testing.assert_array_equal(y, found)


@needs_openvino
def test_a_float_graph_is_called_fp32_and_misuse_is_told(mlp):
    engine = OpenVinoEngine(mlp[0], "mlp.onnx")
    assert (engine.info.precision, engine.info.integer_gemms) == ("fp32", 0)
    with pytest.raises(EngineError, match=r"mlp\.onnx has no input 'z', only x"):
        engine.input("z")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match=r"mlp\.onnx was closed"):
        engine.enqueue()
    with pytest.raises(EngineError, match=r"x\.onnx"):
        OpenVinoEngine(b"no model at all", "x.onnx")


@needs_openvino
def test_auto_measures_once_and_keeps_it(mlp, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "TRIAL_S", 0.0)
    first = chosen(mlp[1], tmp_path)
    (kept,) = tmp_path.iterdir()
    trial = msgspec.json.decode(kept.read_bytes(), type=Trial)
    assert first.info.runtime.startswith(trial.chosen) and set(trial.milliseconds) == {"onnxruntime", "openvino"}
    monkeypatch.setattr(cpu, "try_out", lambda *given: pytest.fail("it was measured again"))
    for runtime in ("openvino", "onnxruntime"):
        kept.write_bytes(msgspec.json.encode(Trial(runtime, "told so")))
        assert chosen(mlp[1], tmp_path).info.runtime.startswith(runtime)


def test_without_openvino_auto_is_onnxruntime_and_openvino_is_refused(mlp, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "installed", lambda: False)
    monkeypatch.setattr(openvino_engine, "installed", lambda: False)
    assert chosen(mlp[1], tmp_path).info.runtime.startswith("onnxruntime")
    with pytest.raises(EngineError, match=r"openvino is not installed: pip install 'latentloop\[openvino\]'"):
        chosen(mlp[1], tmp_path, "openvino")


class Distorted:
    """An engine that answers at once, and wrongly."""

    def __init__(self, engine, factor, gemms):
        self._engine, self._factor = engine, factor
        self.info = replace(engine.info, integer_gemms=gemms)
        self.input, self.output, self.wait = engine.input, engine.output, engine.wait

    def enqueue(self):
        self._engine.enqueue()
        self._engine.output("y")[...] *= self._factor


@pytest.mark.parametrize(
    ("factor", "gemms", "reason"), [(1.1, LAYERS, "y differs: cosine 1.00000, relative error 0.1"), (1.0, 0, "runs only 0 of")]
)
def test_a_runtime_with_other_outputs_or_floats_does_not_win(mlp, factor, gemms, reason):
    reference, rival = OnnxRuntimeEngine(mlp[1], "mlp"), OnnxRuntimeEngine(mlp[1], "mlp")
    trial = try_out(reference, Distorted(rival, factor, gemms), seconds=0.0)
    assert trial.chosen == "onnxruntime" and reason in trial.reason
