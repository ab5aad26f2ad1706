"""INT8 without calibration, for CPUs only: weights are quantized now, activations by the range that each call turns out to have.

onnxruntime's own quantizer writes it, as DynamicQuantizeLinear and MatMulInteger. TensorRT takes neither.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from calibration.activations import ScaleTable
from edge.bundle import Part
from export.external_weights import whole
from export.onnx_cleaning import strip_notes
from export.quantize.linears import find_linears
from export.quantize.pipeline import Quantized

NO_TABLE = ScaleTable("max", "no data: every call has the scales of its own activations", {})


def quantize_dynamically(
    graphs: Mapping[Part, onnx.ModelProto], keep_float: Sequence[str] = ()
) -> dict[Part, Quantized]:
    """FP32 graphs to graphs with dynamic scales. keep_float: layers, by the end of their name, that stay as they are."""
    found: dict[Part, Quantized] = {}
    for part, graph in graphs.items():
        chosen = tuple(linear for linear in find_linears(graph) if not linear.layer.endswith(tuple(keep_float)))
        model = write_dynamic(graph, [linear.node for linear in chosen]) if chosen else whole(graph)
        found[part] = Quantized(model.SerializeToString(), NO_TABLE, graph, chosen, {})
    return found


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
