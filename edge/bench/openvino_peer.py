"""The same graphs in OpenVINO, for comparison, when it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

import numpy as np

from edge.bundle import Bundle, Part


def openvino_call(bundle: Bundle, part: Part) -> dict[str, Callable[[], None]]:
    """Calls that run a part once on one CPU thread: the INT8 graph, and FP32 where the bundle has that graph."""
    if importlib.util.find_spec("openvino") is None:
        return {}
    ov = importlib.import_module("openvino")
    core = ov.Core()
    graph = bundle.graph(part)
    # The float precision is fixed, or OpenVINO would take bfloat16 where the CPU has it and the comparison would limp.
    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}

    def call(file: str) -> Callable[[], None]:
        request = core.compile_model(core.read_model(str(bundle.folder / file)), "CPU", config).create_infer_request()
        rng = np.random.default_rng(0)
        feed = {
            tensor.name: rng.integers(0, 256, tensor.shape).astype(np.uint8)
            if tensor.dtype == "uint8"
            else rng.uniform(-1, 1, tensor.shape).astype(np.float32)
            for tensor in graph.inputs
        }
        request.infer(feed)
        return lambda: request.infer()

    calls = {"int8": call(graph.file)}
    if graph.fp32 is not None:
        calls["fp32"] = call(graph.fp32)
    return calls
