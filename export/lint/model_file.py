"""Read an ONNX file, or say what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edge.errors import UserError


class ModelFileError(UserError):
    """The file is not an ONNX model that can be read; one sentence."""


def read(path: Path) -> onnx.ModelProto:
    """The model in ``path``, without weights that it keeps in other files. Raises ModelFileError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"there is no file {path}: give the path of an ONNX model") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): give the path of an ONNX model") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        model.Clear()
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise ModelFileError(
            f"{path} is not an ONNX model, or only the beginning of one ({len(data)} bytes): export or copy it again"
        )
    return model
