"""A bundle that carries its FP32 graphs, as a source: to calibrate it anew, on other footage or by another method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from edge.bundle import Part, load, signatures
from export.from_bundle import source_of
from export.refinement import without_refinement
from export.sources.source import Source, SourceError


def open_bundle(folder: Path) -> Source:
    """Raises BundleError, and SourceError for a bundle without FP32 graphs."""
    bundle = load(folder)
    graphs: dict[Part, onnx.ModelProto] = {}
    for part in signatures(bundle.manifest):
        twin = bundle.graph(part).fp32
        if twin is None:
            raise SourceError(f"{folder} has no FP32 {part} to calibrate: export it with --fp32, or give the checkpoint")
        graph = onnx.load(str(bundle.folder / twin))
        graphs[part] = without_refinement(graph) if part == "rollout" else graph
    return replace(source_of(bundle), graphs=graphs)
