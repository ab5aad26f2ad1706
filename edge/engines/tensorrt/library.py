"""TensorRT and CUDA as this machine has them, or one sentence why not and what to do."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from edge.engines.engine import EngineError
from edge.jetson import find_jetson

GPU_FILES = ("dev/nvidia0", "dev/nvhost-gpu", "dev/nvgpu")


class NoTensorRt(EngineError):
    """This machine cannot run TensorRT; one sentence: what is missing, what to do."""


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a plan depends on besides its graph. compute_capability: ``"8.7"``."""

    tensorrt: str
    gpu: str
    compute_capability: str


@dataclass(frozen=True, slots=True)
class Library:
    """trt: the module ``tensorrt``. cuda: ``pycuda.driver``. primary: the GPU's primary context, retained, which CUDA's
    runtime API and other libraries share. unified: CPU and GPU have one memory, as on a Jetson."""

    trt: Any
    cuda: Any
    primary: Any
    unified: bool
    machine: Machine

    @contextmanager
    def current(self) -> Iterator[None]:
        """The primary context is this thread's inside."""
        self.primary.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def must_answer(self) -> None:
        """Raises EngineError if an error has left the GPU unusable for this process; nothing works in it from then on."""
        try:
            with self.current():
                self.cuda.Context.synchronize()
        except Exception as error:
            raise EngineError(f"the GPU failed, which ends its use by this process ({first_line(error)}): start again") from error


@lru_cache
def find_library(root: Path = Path("/")) -> Library:
    """Import TensorRT and pycuda and open the first GPU; once per process, because pycuda counts each context that it
    retains as another. root: where the system's files lie. Raises NoTensorRt."""
    try:
        trt = importlib.import_module("tensorrt")
        cuda = importlib.import_module("pycuda.driver")
        cuda.init()
        device = cuda.Device(0)
        primary = device.retain_primary_context()
        unified = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        major, minor = device.compute_capability()
        machine = Machine(str(trt.__version__), str(device.name()), f"{major}.{minor}")
    except Exception as error:  # a driver that does not fit raises whatever it likes
        raise NoTensorRt(why_not(error, root)) from error
    return Library(trt, cuda, primary, unified, machine)


def why_not(error: Exception, root: Path) -> str:
    """What is wrong and what to do, as far as the system's files tell. root: where they lie."""
    found = first_line(error)
    jetson = find_jetson(root)
    if jetson is not None:
        python = {6: "Python 3.10", 7: "Python 3.12"}.get(jetson.jetpack or 0, "the system's Python")
        return (
            f"TensorRT cannot be used on this Jetson ({found}): apt install python3-libnvinfer, make the environment "
            f"with {python} and --system-site-packages so that it sees JetPack's tensorrt, and pip install pycuda"
        )
    if any((root / file).exists() for file in GPU_FILES):
        return (
            f"TensorRT cannot be used on this machine ({found}): pip install pycuda, and tensorrt-cu12 or tensorrt-cu13 "
            "to match the CUDA that the driver has"
        )
    return (
        f"there is no NVIDIA GPU on this machine ({found}): run this on the Jetson, where JetPack brings TensorRT; "
        "here onnxruntime runs the graphs"
    )


def first_line(error: Exception) -> str:
    """Of what it says, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
