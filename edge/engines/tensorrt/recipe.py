"""The ways to make a plan of a graph that are worth a try; which of them is best is measured.

On the GPU every network is strongly typed, as TensorRT 11 has it alone: it computes in the types that stand in its graph.
So FP16 is asked for by giving the graph in its FP16 form (:mod:`edge.engines.onnx_half`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.bundle import Precision


@dataclass(frozen=True, slots=True)
class Recipe:
    """graph: which of a part's two graphs. half: in its FP16 form. dla: which deep-learning accelerator of a Jetson, None
    for the GPU. flags: precisions, by the names of trt.BuilderFlag, that the builder may choose for itself; only for a
    DLA, which takes no strongly typed networks."""

    name: str
    graph: Precision
    half: bool = False
    dla: int | None = None
    flags: tuple[str, ...] = ()


def recipes(tensorrt: str, *, dla: int | None = None) -> tuple[Recipe, ...]:
    """What to try with a version of TensorRT, and on a DLA besides if one is named; TensorRT 11 has no flags for one."""
    chosen = (Recipe("int8", "int8"), Recipe("int8-fp16", "int8", half=True), Recipe("fp16", "fp32", half=True))
    if dla is None or int(tensorrt.partition(".")[0]) >= 11:
        return chosen
    return (*chosen, Recipe(f"int8-fp16-dla{dla}", "int8", dla=dla, flags=("INT8", "FP16")))
