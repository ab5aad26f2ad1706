"""torch module in, clean FP32 ONNX graph out: the form that the quantizer and every runtime understand.

Clean means: fixed shapes, opset 19, BatchNorm folded, one LayerNormalization operator per norm, every Linear a MatMul
on a constant weight (K, N) followed by an Add, no leftovers of tracing. A Gemm with a float bias would keep onnxruntime
from multiplying in integers, and the exporter's notes would carry file names of the machine it ran on.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.onnx import ONNXProgram

from edge.errors import UserError
from export.external_weights import folder_for, read_beside, shed
from export.onnx_cleaning import OPSET, clean, compacted


def to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """Export ``module`` in evaluation mode with exactly these input names, shapes and dtypes. Of a large graph the
    weights are left in a file (export.external_weights). Raises UserError if that cannot be written."""
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None  # it is with dynamo=True and no file
    size = sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))
    folder = folder_for(size)
    if folder is not None:
        return _with_weights_aside(program, folder)
    model = program.model_proto
    clean(model)
    return compacted(model)


def _with_weights_aside(program: ONNXProgram, folder: Path) -> onnx.ModelProto:
    """The clean graph, its weights in the folder. They are written twice, the first time as the exporter has them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="draft-") as draft:
            written = Path(draft) / "graph.onnx"
            program.save(str(written), external_data=True)
            model = read_beside(written)
            clean(model)
            return shed(model, folder)
    except OSError as error:
        raise UserError(
            f"weights cannot be written to {folder} ({error.strerror}): free space there, or give another --out"
        ) from None
