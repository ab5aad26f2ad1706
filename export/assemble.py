"""Quantized graphs and what is known about their model, put together to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from edge.bundle import Bundle, Graph, Graphs, Manifest, Part, signatures
from edge.samples import FILE as SAMPLES
from edge.samples import Samples
from export.evidence import FILE, Evidence
from export.external_weights import whole
from export.package import write_bundle
from export.quantize.pipeline import Quantized
from export.refinement import refining

NO_GRAPHS = Graphs(Graph("", (), ()))
"""Stands in a manifest until :func:`assemble` fills in the graphs."""


def assemble(
    out: Path,
    manifest: Manifest,
    quantized: Mapping[Part, Quantized],
    *,
    with_fp32: bool = False,
    evidence: Evidence | None = None,
    samples: Samples | None = None,
) -> Bundle:
    """Write the bundle. manifest: complete but for graphs and files. with_fp32: the graphs that the scales are of go in as
    well, tensor by tensor comparable with the quantized ones. samples: what the device tries engines on. Raises PackageError."""
    fp32 = {part: whole(q.fp32).SerializeToString() for part, q in quantized.items()} if with_fp32 else {}
    expected = signatures(manifest)

    def graph(part: Part) -> Graph:
        inputs, outputs = expected[part]
        return Graph(f"{part}.onnx", inputs, outputs, f"{part}.fp32.onnx" if part in fp32 else None)

    predictor = graph("predictor") if "predictor" in quantized else None
    rollout = graph("rollout") if "rollout" in quantized else None
    manifest = msgspec.structs.replace(manifest, graphs=Graphs(graph("encoder"), predictor, rollout))
    models = {f"{part}.onnx": q.model for part, q in quantized.items()} | {f"{p}.fp32.onnx": data for p, data in fp32.items()}
    contents = {name: _with_search(name, data, manifest) for name, data in models.items()}
    contents |= {f"calibration/{part}.scales.json": q.table.to_json() for part, q in quantized.items() if q.table.tensors}
    if evidence is not None:
        contents[FILE] = evidence.to_json()
    if samples is not None:
        contents[SAMPLES] = samples.to_bytes()
    return write_bundle(out, manifest, contents)


def _with_search(name: str, model: bytes, manifest: Manifest) -> bytes:
    return refining(model, manifest.goal.elites) if manifest.goal is not None and name.startswith("rollout") else model


def own_version() -> str:
    """The version of latentloop that runs."""
    try:
        return version("latentloop")
    except PackageNotFoundError:  # run from the source tree
        return "from source"
