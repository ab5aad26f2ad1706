"""OpenVINO behind the contract: the numbers of onnxruntime, in integers, and errors in one sentence."""

from __future__ import annotations

import platform
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edge.bundle import Part, load
from edge.engines import Engine, EngineError, EngineSettings, load_engine, write_input
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.openvino_engine import OpenVinoEngine

pytest.importorskip("openvino", reason="OpenVINO is the extra 'openvino'")

LAYERS, WIDTH = 3, 32  # of the mlp in conftest.py
on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="about kernels of x86")


def values(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, WIDTH)).astype(np.float32)


def result(engine: Engine, x: np.ndarray) -> np.ndarray:
    write_input(engine, "x", x)
    engine.enqueue()
    engine.wait()
    return engine.output("y").copy()


def test_buffers_are_allocated_once_and_written_in_place(mlp):
    engine = OpenVinoEngine(mlp[1], "mlp")
    x, y = engine.input("x"), engine.output("y")
    first, second = result(engine, values(1)), result(engine, values(2))
    assert engine.input("x") is x and engine.output("y") is y
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(y, second)
    np.testing.assert_array_equal(result(engine, values(1)), first)


def test_it_computes_what_onnxruntime_computes(mlp):
    for model, tolerance in ((mlp[0], 1e-5), (mlp[1], 5e-3)):  # in INT8 a few activations round to the other neighbour
        expected, found = (result(kind(model, "mlp"), values()) for kind in (OnnxRuntimeEngine, OpenVinoEngine))
        assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


@on_x86
def test_integers_are_counted_in_what_runs(mlp):
    info = OpenVinoEngine(mlp[1], "mlp").info
    assert (info.precision, info.quantized_linears, info.integer_gemms) == ("int8", LAYERS, LAYERS)
    info = OpenVinoEngine(mlp[0], "mlp").info
    assert (info.precision, info.quantized_linears, info.integer_gemms) == ("fp32", 0, 0)
    assert info.runtime.startswith("openvino 20")


@on_x86
@pytest.mark.parametrize(("name", "part"), [("camera", "encoder"), ("rover", "encoder"), ("rover", "predictor")])
def test_parts_that_ship_run_all_their_linears_in_integers(name: str, part: Part):
    info = load_engine(load(name), part, EngineSettings(runtime="openvino")).info
    assert info.precision == "int8" and info.integer_gemms == info.quantized_linears > 0


def test_floats_need_an_fp32_graph():
    bundle = load("camera")
    graphs = bundle.manifest.graphs
    assert graphs.encoder is not None
    bare = msgspec.structs.replace(graphs, encoder=msgspec.structs.replace(graphs.encoder, fp32=None))
    bundle = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, graphs=bare))
    with pytest.raises(EngineError, match=r"encoder\.onnx has no FP32 twin"):
        load_engine(bundle, "encoder", EngineSettings(runtime="openvino", precision="fp32"))


def test_misuse_is_told_in_one_sentence(mlp):
    engine = OpenVinoEngine(mlp[1], "mlp.onnx")
    with pytest.raises(EngineError, match=r"no input 'z', only x"):
        engine.input("z")
    with pytest.raises(EngineError, match=r"no output 'x', only y"):
        engine.output("x")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match=r"mlp\.onnx was closed"):
        engine.enqueue()


@pytest.mark.parametrize("damage", [b"", b"no model at all", "cut", "node"])
def test_a_damaged_file_is_refused_with_its_name(mlp, damage):
    raw = {"cut": mlp[1][: len(mlp[1]) // 2], "node": mlp[1].replace(b"MatMul", b"MatMal")}.get(damage, damage)
    with pytest.raises(EngineError, match=r"folder/x\.onnx") as caught:
        OpenVinoEngine(raw, "folder/x.onnx")
    assert "\n" not in str(caught.value)
