"""onnxruntime on the CPU behind the Engine contract."""

from __future__ import annotations

import logging
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from edge.engines import onnx_file
from edge.engines.engine import Array, EngineError, EngineInfo, TensorSpec

log = logging.getLogger(__name__)

X86 = ("x86_64", "AMD64", "i686")
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
# It turns MatMul and Add into Gemm with a float bias, which has no integer form: INT8 would silently run in float.
FLOATING_FUSION = "MatMulAddFusion"
WEIGHTS_IN = "session.model_external_initializers_file_folder_path"


class OnnxRuntimeEngine:
    """One graph in onnxruntime, inputs and outputs bound once to numpy buffers. Implements edge.engines.engine.Engine.

    model: the bytes of an ONNX file. where: names it in errors. integers: False removes the Q/DQ nodes while loading,
    so that the quantized weights run in float arithmetic. threads: for one operator. spinning: let idle threads burn
    CPU for a little latency. disabled: graph optimisations to leave out; only tests change it. weights: folder of the files
    that hold a model's weights, where it does not itself. Raises EngineError.
    """

    def __init__(
        self,
        model: bytes,
        where: str,
        *,
        threads: int = 1,
        spinning: bool = False,
        integers: bool = True,
        disabled: tuple[str, ...] = (FLOATING_FUSION,),
        weights: Path | None = None,
    ) -> None:
        self._where = where
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        entries = {
            "session.intra_op.allow_spinning": str(int(spinning)),
            "optimization.disable_specified_optimizers": ";".join(disabled),
        }
        if not integers:
            entries |= {"session.disable_quant_qdq": "1", "session.enable_quant_qdq_cleanup": "1"}
        if weights is not None:
            entries[WEIGHTS_IN] = str(weights)
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        try:
            quantized = onnx_file.quantized_linears(model)
            if platform.machine() in X86:
                model = onnx_file.with_unsigned_activations(model)
            with tempfile.TemporaryDirectory(prefix="latentloop-") as folder:
                optimised = Path(folder) / "optimised.onnx"
                if quantized:  # else there is nothing to count, and a large model is not written for nothing
                    options.optimized_model_filepath = str(optimised)
                try:
                    self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                except Exception:
                    if quantized:  # onnxruntime calls a full disk a broken graph
                        _check_room(Path(folder), len(model))
                    raise
                gemms = onnx_file.integer_gemms(optimised.read_bytes()) if quantized else 0
        except onnx_file.OnnxFileError as error:
            raise EngineError(f"{where} is not a usable ONNX file: {error}; export the bundle again") from None
        except OSError as error:
            raise EngineError(
                f"{where} needs {_megabytes(len(model))} MB in {tempfile.gettempdir()} while it is loaded ({error.strerror}): free "
                "space there, or name another folder in TMPDIR"
            ) from error
        except Exception as error:  # onnxruntime raises its own unrelated types and RuntimeError
            raise EngineError(f"onnxruntime {ort.__version__} cannot load {where}: {_first_line(error)}") from error
        precision = "fp32" if gemms == 0 else "int8" if gemms == quantized else "mixed"
        if integers and gemms != quantized:
            log.warning("%s: only %d of %d quantized Linears run in integers", where, gemms, quantized)
        self.info = EngineInfo(f"onnxruntime {ort.__version__} cpu", precision, quantized, gemms)
        self._binding = self._session.io_binding()
        self._buffers: dict[str, Array] = {}
        self.inputs: Mapping[str, TensorSpec] = {v.name: self._bind(v, True) for v in self._session.get_inputs()}
        self.outputs: Mapping[str, TensorSpec] = {v.name: self._bind(v, False) for v in self._session.get_outputs()}

    def _bind(self, value: ort.NodeArg, inward: bool) -> TensorSpec:
        name, shape, kind = str(value.name), tuple(value.shape), _DTYPES.get(value.type)
        if kind is None or not all(isinstance(size, int) and size > 0 for size in shape):
            raise EngineError(
                f"{self._where}: {name!r} is {value.type} {list(shape)} and an engine needs float32 or uint8 of "
                "fixed shape: export the bundle again"
            )
        buffer = self._buffers[name] = np.zeros(shape, dtype=kind)
        bind = self._binding.bind_input if inward else self._binding.bind_output
        bind(name, "cpu", 0, buffer.dtype.type, shape, buffer.ctypes.data)
        return TensorSpec(name, kind, shape)

    def input(self, name: str) -> Array:
        if name not in self.inputs:
            raise EngineError(f"{self._where} has no input {name!r}, only {', '.join(self.inputs)}")
        return self._buffers[name]

    def output(self, name: str) -> Array:
        if name not in self.outputs:
            raise EngineError(f"{self._where} has no output {name!r}, only {', '.join(self.outputs)}")
        return self._buffers[name]

    def enqueue(self) -> None:
        if self._binding is None:
            raise EngineError(f"the engine for {self._where} was closed: load it again")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime failed while running {self._where}: {_first_line(error)}") from error

    def wait(self) -> None:
        """Nothing to wait for: :meth:`enqueue` has done the work."""

    def close(self) -> None:
        self._binding = self._session = None


def _check_room(folder: Path, size: int) -> None:
    """Raises OSError where not even ``size`` bytes can be written."""
    with (folder / "room").open("wb") as file:
        file.write(bytes(size))
        file.flush()


def _megabytes(size: int) -> int:
    return max(1, round(size / 1e6))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
