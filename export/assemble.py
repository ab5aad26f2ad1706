"""Quantized graphs and what is known about their model, put together to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import onnx

from edge.bundle import Bundle, Graph, Graphs, Manifest, Part, signatures
from export.package import write_bundle
from export.quantize.half import half
from export.quantize.pipeline import Quantized

NO_GRAPHS = Graphs(Graph("", (), ()), Graph("", (), ()))
"""Stands in a manifest until :func:`assemble` fills in the graphs."""


def assemble(
    out: Path,
    manifest: Manifest,
    quantized: Mapping[Part, Quantized],
    fp32: Mapping[Part, bytes] | None = None,
    *,
    halves: bool = False,
) -> Bundle:
    """Write the bundle. manifest: complete but for graphs and files. fp32: graphs from before quantization, to go in as
    well. halves: TensorRT's dialect of every part too, as PART.half.onnx. Raises PackageError and HalfError."""
    fp32 = fp32 or {}
    expected = signatures(manifest)

    def graph(part: Part) -> Graph:
        inputs, outputs = expected[part]
        return Graph(f"{part}.onnx", inputs, outputs, f"{part}.fp32.onnx" if part in fp32 else None)

    rollout = graph("rollout") if "rollout" in quantized else None
    manifest = msgspec.structs.replace(manifest, graphs=Graphs(graph("encoder"), graph("predictor"), rollout))
    contents = {f"{part}.onnx": q.model for part, q in quantized.items()}
    contents |= {f"calibration/{part}.scales.json": q.table.to_json() for part, q in quantized.items() if q.table.tensors}
    contents |= {f"{part}.fp32.onnx": data for part, data in fp32.items()}
    if halves:
        for part, q in quantized.items():
            contents[f"{part}.half.onnx"] = half(onnx.load_from_string(q.model)).SerializeToString()
    return write_bundle(out, manifest, contents)


def own_version() -> str:
    """The version of latentloop that runs."""
    try:
        return version("latentloop")
    except PackageNotFoundError:  # run from the source tree
        return "from source"
