"""OpenVINO on the CPU behind the Engine contract; runs the same Q/DQ graphs as onnxruntime."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge.engines import onnx_file
from edge.engines.engine import Array, EngineError, EngineInfo, TensorSpec
from edge.engines.onnxruntime_engine import X86

_DTYPES = ("float32", "uint8")
_LINEARS = ("FullyConnected", "MatMul")
_INTEGERS = ("i8", "u8")


def openvino_installed() -> bool:
    """Whether it could be imported; it is not."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoEngine:
    """One graph in OpenVINO, inputs and outputs set once to numpy buffers. Implements edge.engines.engine.Engine.

    model: the bytes of an ONNX file. where: names it in errors. threads: for one operator. Raises EngineError, also where
    OpenVINO is not installed.
    """

    def __init__(self, model: bytes, where: str, *, threads: int = 1) -> None:
        self._where = where
        self._ov = ov = _openvino()
        # The float precision is fixed, or OpenVINO would take bfloat16 where the CPU has it. Threads are not pinned to cores,
        # because they are not alone on them.
        config = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            quantized = onnx_file.quantized_linears(model)
            if platform.machine() in X86:
                model = onnx_file.with_unsigned_activations(model)
            core = ov.Core()
            compiled = core.compile_model(core.read_model(model), "CPU", config)
        except onnx_file.OnnxFileError as error:
            raise EngineError(f"{where} is not a usable ONNX file: {error}; export the bundle again") from None
        except RuntimeError as error:
            raise EngineError(f"OpenVINO {ov.__version__} cannot load {where}: {_last_line(error)}") from error
        gemms = integer_gemms(compiled.get_runtime_model())
        precision = "fp32" if gemms == 0 else "int8" if gemms == quantized else "mixed"
        self.info = EngineInfo(f"openvino {ov.__version__.split('-')[0]} cpu", precision, quantized, gemms)
        self._request = compiled.create_infer_request()
        self._buffers: dict[str, Array] = {}
        self.inputs: Mapping[str, TensorSpec] = dict(map(self._bind, compiled.inputs))
        self.outputs: Mapping[str, TensorSpec] = dict(map(self._bind, compiled.outputs))

    def _bind(self, port: Any) -> tuple[str, TensorSpec]:
        name, kind, shape = str(port.any_name), port.element_type.to_dtype().name, port.partial_shape
        if kind not in _DTYPES or not shape.is_static:
            raise EngineError(
                f"{self._where}: {name!r} is {kind} {shape} and an engine needs float32 or uint8 of fixed shape: export "
                "the bundle again"
            )
        buffer = self._buffers[name] = np.zeros(tuple(port.shape), dtype=kind)
        self._request.set_tensor(name, self._ov.Tensor(buffer, shared_memory=True))
        return name, TensorSpec(name, kind, buffer.shape)

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
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed while running {self._where}: {_last_line(error)}") from error

    def wait(self) -> None:
        """Nothing to wait for: :meth:`enqueue` has done the work."""

    def close(self) -> None:
        self._request = None


def integer_gemms(model: Any) -> int:
    """How many matrix products of a runtime model (``CompiledModel.get_runtime_model``) take integers."""
    count = 0
    for operation in model.get_ordered_ops():
        facts = operation.get_rt_info()
        if facts["layerType"].astype(str) in _LINEARS:
            count += facts["runtimePrecision"].astype(str) in _INTEGERS
    return count


def _openvino() -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise EngineError(f"OpenVINO cannot be imported ({error}): pip install 'latentloop[openvino]'") from None


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with places in its own source."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
