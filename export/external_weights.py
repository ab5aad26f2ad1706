"""Weights of a large graph in a file beside it, ONNX's external data: one protobuf message holds 2 GB.

Everything else of the graph stays an ordinary ModelProto. While it is in memory, a tensor's location is the whole path of its
file. The file is called after the sha256 of its content, so that a graph's bytes tell what its weights are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.errors import UserError
from export.lint.outline import LARGE, is_weight

LARGEST = 2_000_000_000
"""Bytes of weights in one message; protobuf's limit is 2^31 with everything else."""
ASIDE = 1_000_000_000
"""Bytes of weights that go into a file where there is a place for one: onnxruntime maps it, and copies a message several times."""
SUFFIX = ".weights"
_ALIGNED = 4096
_BLOCK = 1 << 24
_FOLDER: ContextVar[Path | None] = ContextVar("folder of weights", default=None)


def too_large(size: int) -> bool:
    """Whether a graph with so many bytes cannot be one message."""
    return size > LARGEST


@contextlib.contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Inside, large graphs keep their weights in this folder."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def folder_for(size: int) -> Path | None:
    """Where a graph with so many bytes of weights keeps them, None for in itself. Raises UserError if it cannot, and nobody has
    said where else."""
    folder = _FOLDER.get()
    if folder is not None:
        return folder.absolute() if size > ASIDE or too_large(size) else None
    if too_large(size):
        raise UserError(f"a graph of {size / 1e9:.1f} GB in float32 needs a place for its weights: use latentloop export")
    return None


class WeightsFile:
    """New values of tensors: in a new file in the folder, or in the tensors themselves where folder is None. To be used in a
    with statement, at whose end the file gets its name and the tensors their location. Raises UserError."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._placed: list[tuple[TensorProto, int, int]] = []

    def __enter__(self) -> WeightsFile:
        return self

    def put(self, tensor: TensorProto, array: NDArray[Any]) -> None:
        """Give a tensor these values, in place."""
        if self._folder is None:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
            return
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=self._folder, suffix=".draft")
                self._draft, self._file = Path(name), os.fdopen(handle, "wb")
            gap = bytes(-self._file.tell() % _ALIGNED)
            place = self._file.tell() + len(gap)
            for part in (gap, data):
                self._file.write(part)
                self._hash.update(part)
        except OSError as error:
            raise self._full(error) from None
        kind, dims, name = helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, tensor.name
        tensor.Clear()
        tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
        tensor.dims.extend(dims)
        self._placed.append((tensor, place, len(data)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is None or self._folder is None:
            return
        try:
            with self._file as file:
                if kind is None:
                    file.flush()
                    os.fsync(file.fileno())
            if kind is None:
                path = self._folder / f"{self._hash.hexdigest()}{SUFFIX}"
                self._draft.replace(path)
                for tensor, place, length in self._placed:
                    _locate(tensor, str(path), place, length)
        except OSError as failed:
            raise self._full(failed) from None
        finally:
            self._draft.unlink(missing_ok=True)

    def _full(self, error: OSError) -> UserError:
        return UserError(f"weights cannot be written to {self._folder} ({error.strerror}): free space there, or give another --out")


def values(tensor: TensorProto) -> NDArray[Any]:
    """What a tensor holds; from a file, a view that takes no memory."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    about = {entry.key: entry.value for entry in tensor.external_data}
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(about["location"], kind, "r", int(about.get("offset", 0)), tuple(tensor.dims))


def read_beside(path: Path) -> onnx.ModelProto:
    """A graph from a file with weights in files beside it, where the large ones stay."""
    model = onnx.load(str(path), load_external_data=False)
    with WeightsFile(None) as inside:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = str(path.parent / entry.value)
            if tensor.external_data and values(tensor).nbytes < LARGE:
                inside.put(tensor, values(tensor))
    return model


def shed(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model with all weights in one file in the folder, wherever they were."""
    with WeightsFile(folder) as file:
        for tensor in model.graph.initializer:
            if is_weight(tensor):
                file.put(tensor, values(tensor))
    copy = onnx.ModelProto()  # without the memory that protobuf keeps of what was there
    copy.ParseFromString(model.SerializeToString())
    return copy


def embed(model: onnx.ModelProto) -> None:
    """Take the weights that are elsewhere into the model, in place. Raises UserError if it then is too large."""
    if too_large(size(model)):
        raise UserError(
            f"the INT8 graph has {size(model) / 1e9:.1f} GB with what stays in float, and a bundle's graph may have 2 GB: "
            "keep less in float, or export a smaller model of the family"
        )
    with WeightsFile(None) as inside:
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                inside.put(tensor, values(tensor))


def whole(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with all weights in it. Raises UserError if it is too large."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    embed(copy)
    return copy


def size(model: onnx.ModelProto) -> int:
    """Bytes of a model, with its weights wherever they are."""
    outside = (entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "length")
    return int(model.ByteSize()) + sum(map(int, outside))


def folder_of(model: onnx.ModelProto) -> Path | None:
    """Where a model has weights; None where they are all in it."""
    return next((file.parent for file in _files(model)), None)


def loadable(model: onnx.ModelProto) -> tuple[bytes, Path | None]:
    """The bytes of a model as onnxruntime takes them, with the folder that its locations are relative to."""
    folder = folder_of(model)
    if folder is not None:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        model = copy
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = Path(entry.value).name
    return bytes(model.SerializeToString(deterministic=True)), folder


def engine_of(model: onnx.ModelProto, where: str) -> OnnxRuntimeEngine:
    """The model in onnxruntime, however large. where: names it in errors."""
    data, folder = loadable(model)
    del model  # a copy that nobody else has is not needed while onnxruntime makes its own
    return OnnxRuntimeEngine(data, where, weights=folder)


def intact(model: onnx.ModelProto) -> bool:
    """Whether the files of its weights are there and hold what they did when they were written. Reads them whole."""
    for file in _files(model):
        content = hashlib.sha256()
        try:
            with file.open("rb") as opened:
                while block := opened.read(_BLOCK):
                    content.update(block)
        except OSError:
            return False
        if content.hexdigest() != file.stem:
            return False
    return True


def _files(model: onnx.ModelProto) -> list[Path]:
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return [Path(path) for path in dict.fromkeys(entry.value for entry in entries if entry.key == "location")]


def _locate(tensor: TensorProto, path: str, place: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", path), ("offset", place), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
