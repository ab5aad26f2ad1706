"""INT8 without calibration, for CPUs only: weights are quantized now, activations by the range that each call turns out to have.

onnxruntime's own quantizer writes it, as DynamicQuantizeLinear and MatMulInteger. TensorRT takes neither.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from export.external_weights import whole
from export.onnx_cleaning import strip_notes


def write_dynamic(model: onnx.ModelProto, nodes: Sequence[str]) -> onnx.ModelProto:
    """A copy with the MatMuls of these names quantized: weights int8 per output channel, activations uint8 per call."""
    copy = whole(model)
    add_pre_process_metadata(copy)  # says that no optimiser has to run first: the graph is clean as it is
    with tempfile.TemporaryDirectory(prefix="latentloop-") as folder:
        written = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            copy,
            written,
            nodes_to_quantize=list(nodes),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        quantized = onnx.load(str(written))
    strip_notes(quantized)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized
