"""What the engine promises: the same buffers for ever, the truth about its precision, and errors in one sentence."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from edge.engines import EngineError, write_input
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine

LAYERS, WIDTH = 3, 32  # of the mlp in conftest.py
on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="about kernels of x86")


def values(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, WIDTH)).astype(np.float32)


def result(engine: OnnxRuntimeEngine, x: np.ndarray) -> np.ndarray:
    write_input(engine, "x", x)
    engine.enqueue()
    engine.wait()
    return engine.output("y").copy()


def test_buffers_are_allocated_once_and_written_in_place(mlp):
    engine = OnnxRuntimeEngine(mlp[1], "mlp")
    x, y = engine.input("x"), engine.output("y")
    first = result(engine, values(1))
    second = result(engine, values(2))
    assert engine.input("x") is x and engine.output("y") is y
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(y, second)
    np.testing.assert_array_equal(result(engine, values(1)), first)


@on_x86
def test_every_quantized_linear_is_an_integer_gemm(mlp):
    info = OnnxRuntimeEngine(mlp[1], "mlp").info
    assert (info.precision, info.quantized_linears, info.integer_gemms) == ("int8", LAYERS, LAYERS)


@on_x86
def test_the_check_catches_the_fusion_that_turns_int8_into_float(mlp, caplog):
    info = OnnxRuntimeEngine(mlp[1], "mlp", disabled=()).info
    assert info.precision != "int8" and info.integer_gemms < info.quantized_linears == LAYERS
    assert "quantized Linears run in integers" in caplog.text


@on_x86
def test_a_graph_that_runs_partly_in_integers_is_called_mixed(mlp):
    import onnx

    model = onnx.load_from_string(mlp[1])
    next(node for node in model.graph.node if node.name == "bias1").op_type = "Mul"  # which that fusion leaves alone
    info = OnnxRuntimeEngine(model.SerializeToString(), "mlp", disabled=()).info
    assert (info.precision, info.quantized_linears, info.integer_gemms) == ("mixed", LAYERS, 1)


def test_fp32_is_called_fp32(mlp):
    assert OnnxRuntimeEngine(mlp[0], "mlp").info.precision == "fp32"
    quantized = OnnxRuntimeEngine(mlp[1], "mlp", integers=False).info
    assert (quantized.precision, quantized.integer_gemms) == ("fp32", 0)


def test_integers_and_floats_on_the_same_weights_agree_up_to_activation_rounding(mlp):
    exact = result(OnnxRuntimeEngine(mlp[0], "mlp"), values())
    integers = result(OnnxRuntimeEngine(mlp[1], "mlp"), values())
    floats = result(OnnxRuntimeEngine(mlp[1], "mlp", integers=False), values())
    size = np.linalg.norm(exact)
    assert np.linalg.norm(floats - exact) < 0.02 * size
    assert 1e-6 * size < np.linalg.norm(integers - exact) < 0.05 * size


def test_misuse_is_told_in_one_sentence(mlp):
    engine = OnnxRuntimeEngine(mlp[1], "mlp.onnx")
    with pytest.raises(EngineError, match=r"no input 'z', only x"):
        engine.input("z")
    with pytest.raises(EngineError, match=r"no output 'x', only y"):
        engine.output("x")
    with pytest.raises(EngineError, match=r"'x' is \(4, 32\) and was given \(32,\)"):
        write_input(engine, "x", np.zeros(32, np.float32))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match=r"mlp\.onnx was closed"):
        engine.enqueue()


@pytest.mark.parametrize("damage", [b"", b"no model at all", "cut", "node"])
def test_a_damaged_file_is_refused_with_its_name(mlp, damage):
    raw = {"cut": mlp[1][: len(mlp[1]) // 2], "node": mlp[1].replace(b"MatMul", b"MatMal")}.get(damage, damage)
    with pytest.raises(EngineError, match=r"folder/x\.onnx") as caught:
        OnnxRuntimeEngine(raw, "folder/x.onnx")
    assert "\n" not in str(caught.value)


def test_the_device_side_never_imports_the_workstation_side():
    """In a fresh interpreter, because this one has long imported torch."""
    script = (
        "import sys, edge.bundle, edge.engines, edge.bench.engines, calibration.activations\n"
        "bad = {'torch', 'onnx', 'export'} & {name.split('.')[0] for name in sys.modules}\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
