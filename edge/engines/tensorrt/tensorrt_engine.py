"""TensorRT behind the Engine contract: one stream, buffers allocated once, launched as a CUDA graph where that is possible.

Where CPU and GPU share one memory, as on a Jetson, the GPU works on the host's buffers and nothing is copied; elsewhere
they are pinned and copied in the same stream. Written against the interface of TensorRT and pycuda; it has never run on
a GPU yet (docs/tensorrt.md).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge.engines.engine import Array, EngineError, EngineInfo, TensorSpec
from edge.engines.tensorrt.cuda_graph import CudaGraph, capture
from edge.engines.tensorrt.library import Library, first_line
from edge.engines.tensorrt.listener import complaints, listener

log = logging.getLogger(__name__)


class TensorRtEngine:
    """One plan, loaded. Implements edge.engines.engine.Engine. Any one thread may use it; the primary context is made its
    own for the time of each call.

    where: names the plan in errors. info: what is known from the plan's record. Raises EngineError.
    """

    def __init__(self, library: Library, plan: bytes, where: str, info: EngineInfo) -> None:
        self._library, self._where, self.info = library, where, info
        self._graph: CudaGraph | None = None
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._stream: Any = None
        self._host: dict[str, Array] = {}
        self._device: dict[str, Any] = {}
        self._inputs: dict[str, TensorSpec] = {}
        self._outputs: dict[str, TensorSpec] = {}
        try:
            with library.current():
                self._load(plan)
        except Exception as error:
            with contextlib.suppress(Exception):  # on a GPU that failed this fails as well
                self.close()
            if isinstance(error, EngineError):
                raise
            raise self._failed("cannot be loaded", error) from error

    def _load(self, plan: bytes) -> None:
        trt, cuda = self._library.trt, self._library.cuda
        self._listener = listener(trt)
        self._runtime = trt.Runtime(self._listener)
        engine = self._engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"TensorRT {trt.__version__} does not take {self._where} ({complaints(self._listener)})")
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"there is too little GPU memory to run {self._where}: end other programs that use it")
        self._stream = cuda.Stream()
        for index in range(engine.num_io_tensors):
            name = str(engine.get_tensor_name(index))
            shape = tuple(int(size) for size in engine.get_tensor_shape(name))
            kind = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            inward = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self._inputs if inward else self._outputs)[name] = TensorSpec(name, kind.name, shape)
            self._context.set_tensor_address(name, self._allocate(name, shape, kind))
        self._start()  # also allocates lazily, which a capture must not see
        self._stream.synchronize()
        self._graph = capture(self._start, int(self._stream.handle))

    def _allocate(self, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> int:
        """Make a tensor's buffers; where the GPU finds it."""
        cuda, unified = self._library.cuda, self._library.unified
        flags = cuda.host_alloc_flags.DEVICEMAP if unified else 0
        host = self._host[name] = cuda.pagelocked_empty(shape, kind, mem_flags=flags)
        host[...] = 0
        if unified:
            return int(host.base.get_device_pointer())
        self._device[name] = cuda.mem_alloc(host.nbytes)
        return int(self._device[name])

    def _start(self) -> None:
        """Copy in, run, copy out, all in the stream."""
        cuda = self._library.cuda
        for name in self._inputs:
            if name in self._device:
                cuda.memcpy_htod_async(self._device[name], self._host[name], self._stream)
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise EngineError(f"TensorRT could not start {self._where} ({complaints(self._listener)})")
        for name in self._outputs:
            if name in self._device:
                cuda.memcpy_dtoh_async(self._host[name], self._device[name], self._stream)

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._outputs

    def input(self, name: str) -> Array:
        self._must_be_open()
        if name not in self._inputs:
            raise EngineError(f"{self._where} has no input {name!r}, only {', '.join(self._inputs)}")
        return self._host[name]

    def output(self, name: str) -> Array:
        self._must_be_open()
        if name not in self._outputs:
            raise EngineError(f"{self._where} has no output {name!r}, only {', '.join(self._outputs)}")
        return self._host[name]

    def enqueue(self) -> None:
        self._must_be_open()
        try:
            with self._library.current():
                if self._graph is not None:
                    self._graph.launch()
                else:
                    self._start()
        except EngineError:
            raise
        except Exception as error:
            raise self._failed("failed while running", error) from error

    def wait(self) -> None:
        self._must_be_open()
        try:
            with self._library.current():
                self._stream.synchronize()
        except Exception as error:
            raise self._failed("failed while running", error) from error

    @property
    def has_graph(self) -> bool:
        """It is launched as one CUDA graph."""
        return self._graph is not None

    def inspected(self) -> str:
        """The plan's layers as the engine inspector describes them, JSON."""
        trt = self._library.trt
        with self._library.current():
            inspector = self._engine.create_engine_inspector()
            return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Host buffers live on as long as somebody holds their arrays."""
        with self._library.current():  # pycuda gives memory back only where its context is current
            if self._stream is not None:
                self._stream.synchronize()
            if self._graph is not None:
                self._graph.close()
            self._graph = self._context = self._engine = self._runtime = self._stream = None
            self._device.clear()
            self._host.clear()

    def _must_be_open(self) -> None:
        if self._context is None:
            raise EngineError(f"the engine for {self._where} was closed: load it again")

    def _failed(self, what: str, error: Exception) -> EngineError:
        return EngineError(f"TensorRT {self._library.machine.tensorrt}: {self._where} {what} ({first_line(error)})")
