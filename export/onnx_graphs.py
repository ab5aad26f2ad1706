"""torch module in, clean FP32 ONNX graph out: the form that the quantizer and every runtime understand.

Clean means: fixed shapes, opset 19, BatchNorm folded, one LayerNormalization operator per norm, every Linear a MatMul
on a constant weight (K, N) followed by an Add, no leftovers of tracing. A Gemm with a float bias would keep onnxruntime
from multiplying in integers, and the exporter's notes would carry file names of the machine it ran on.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from export.onnx_cleaning import OPSET, clean, compacted


def to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """Export ``module`` in evaluation mode with exactly these input names, shapes and dtypes."""
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
    model = program.model_proto
    clean(model)
    return compacted(model)
