"""A stream's work recorded once and launched as a whole: the CPU then says one thing to the GPU instead of hundreds.

pycuda cannot record; NVIDIA's cuda-python can, and is used where it is installed. Never run on a GPU yet.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""Of cuda-python from 12.6 on, and before."""


class CudaGraph:
    """A recorded graph that is ready to launch in its stream."""

    def __init__(self, runtime: Any, executable: Any, stream: int) -> None:
        self._runtime, self._executable, self._stream = runtime, executable, stream

    def launch(self) -> None:
        """Enqueue everything that was recorded. Raises RuntimeError."""
        checked(self._runtime, self._runtime.cudaGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        """Nothing may be launched any more."""
        self._runtime.cudaGraphExecDestroy(self._executable)


def capture(work: Callable[[], None], stream: int) -> CudaGraph | None:
    """Record what ``work`` enqueues into a stream, without running it; None, with a line in the log, if that is not
    possible. The caller has run ``work`` once before and holds the context. stream: its handle."""
    runtime = find_runtime()
    if runtime is None:
        log.info("no CUDA graphs: pip install cuda-python in the CUDA version of this machine to have them")
        return None
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    try:
        checked(runtime, runtime.cudaStreamBeginCapture(stream, mode))
        try:
            work()
        finally:  # or the stream stays unusable
            recorded = checked(runtime, runtime.cudaStreamEndCapture(stream))
        executable = checked(runtime, runtime.cudaGraphInstantiate(recorded, 0))
        runtime.cudaGraphDestroy(recorded)
    except Exception as error:  # noqa: BLE001 - whatever it is, it works without
        log.warning("no CUDA graph: %s", error)
        return None
    return CudaGraph(runtime, executable, stream)


def find_runtime() -> Any:
    """cuda-python's module of the runtime API, or None."""
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def checked(runtime: Any, answer: tuple[Any, ...]) -> Any:
    """The value of a call, which comes after its error code. Raises RuntimeError."""
    if answer[0] != runtime.cudaError_t.cudaSuccess:
        raise RuntimeError(f"CUDA says {answer[0].name}")
    return answer[1] if len(answer) > 1 else None
