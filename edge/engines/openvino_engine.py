"""OpenVINO on the CPU behind the Engine contract: the same master graph as everywhere, int8 activations included."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge.engines import onnx_file
from edge.engines.engine import Array, EngineError, EngineInfo, TensorSpec

log = logging.getLogger(__name__)

_PRODUCTS = ("FullyConnected", "MatMul", "Convolution")
_INTEGERS = ("i8", "u8")


def installed() -> bool:
    """Whether the extra ``openvino`` is there."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoEngine:
    """One graph in OpenVINO, inputs and outputs bound once to numpy buffers. Implements edge.engines.engine.Engine.

    model: the bytes of an ONNX file. where: names it in errors. threads: for one operator. Raises EngineError.
    """

    def __init__(self, model: bytes, where: str, *, threads: int = 1) -> None:
        if not installed():
            raise EngineError("the engine openvino is not installed: pip install 'latentloop[openvino]'")
        ov = importlib.import_module("openvino")
        self._where = where
        # The float precision is fixed, or bfloat16 would be taken where the CPU has it: faster, and another result.
        # Threads are not pinned to cores, because they are not alone on them.
        config = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            quantized = onnx_file.quantized_linears(model)
            core = ov.Core()
            compiled = core.compile_model(core.read_model(model), "CPU", config)
            gemms = _integer_gemms(compiled.get_runtime_model())
            self._request: Any = compiled.create_infer_request()
            self._buffers: dict[str, Array] = {}
            self.inputs: Mapping[str, TensorSpec] = {p.any_name: self._bind(ov, p) for p in compiled.inputs}
            self.outputs: Mapping[str, TensorSpec] = {p.any_name: self._bind(ov, p) for p in compiled.outputs}
        except onnx_file.OnnxFileError as error:
            raise EngineError(f"{where} is not a usable ONNX file: {error}; export the bundle again") from None
        except EngineError:
            raise
        except Exception as error:  # openvino raises RuntimeError and its own types
            raise EngineError(f"openvino {ov.__version__} cannot load {where}: {_first_line(error)}") from error
        if gemms != quantized:
            log.warning("%s: openvino runs %d products in integers and %d Linears are quantized", where, gemms, quantized)
        precision = "fp32" if gemms == 0 else "int8" if gemms == quantized else "mixed"
        self.info = EngineInfo(f"openvino {ov.__version__.split('-')[0]} cpu", precision, quantized, gemms)

    def _bind(self, ov: Any, port: Any) -> TensorSpec:
        name, shape = str(port.any_name), port.partial_shape
        kind = {ov.Type.f32: "float32", ov.Type.u8: "uint8"}.get(port.element_type)
        if kind is None or shape.is_dynamic:
            raise EngineError(
                f"{self._where}: {name!r} is {port.element_type} {shape} and an engine needs float32 or uint8 of fixed shape: "
                "export the bundle again"
            )
        sizes = tuple(int(size) for size in port.shape)
        buffer = self._buffers[name] = np.zeros(sizes, dtype=kind)
        self._request.set_tensor(name, ov.Tensor(buffer, shared_memory=True))
        return TensorSpec(name, kind, sizes)

    def input(self, name: str) -> Array:
        if name not in self.inputs:
            raise EngineError(f"{self._where} has no input {name!r}, only {', '.join(self.inputs)}")
        return self._buffers[name]

    def output(self, name: str) -> Array:
        if name not in self.outputs:
            raise EngineError(f"{self._where} has no output {name!r}, only {', '.join(self.outputs)}")
        return self._buffers[name]

    def enqueue(self) -> None:
        if self._request is None:
            raise EngineError(f"the engine for {self._where} was closed: load it again")
        try:
            self._request.infer(share_outputs=True)
        except Exception as error:  # as above
            raise EngineError(f"openvino failed while running {self._where}: {_first_line(error)}") from error

    def wait(self) -> None:
        """Nothing to wait for: :meth:`enqueue` has done the work."""

    def close(self) -> None:
        self._request = None


def _integer_gemms(runtime_model: Any) -> int:
    """Products that are computed in integers, in the graph that OpenVINO really runs."""
    count = 0
    for node in runtime_model.get_ordered_ops():
        said = node.get_rt_info()
        layer, precision = (said[key].astype(str) if key in said else "" for key in ("layerType", "runtimePrecision"))
        count += layer in _PRODUCTS and precision in _INTEGERS
    return count


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
