"""The ways to make a plan of a graph that are worth a try; which of them is best is measured.

TensorRT 11 took all precision flags away: there only the types that stand in the graph count. TensorRT 10, which
JetPack 6 keeps for good, can still be allowed FP16 for whatever the graph leaves in float.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.bundle import Precision


@dataclass(frozen=True, slots=True)
class Recipe:
    """graph: which of a part's two graphs. flags: precisions, by the names of trt.BuilderFlag, that the builder may choose
    for itself; without any, the network is strongly typed. dla: which deep-learning accelerator of a Jetson, None for
    the GPU."""

    name: str
    graph: Precision
    flags: tuple[str, ...] = ()
    dla: int | None = None


def recipes(tensorrt: str, *, dla: int | None = None) -> tuple[Recipe, ...]:
    """What to try with a version of TensorRT, and on a DLA besides if one is named. A DLA takes no strongly typed
    networks, so from TensorRT 11 on it is not tried."""
    typed = Recipe("int8", "int8")
    if int(tensorrt.partition(".")[0]) >= 11:
        return (typed,)
    chosen = (typed, Recipe("int8-fp16", "int8", ("INT8", "FP16")), Recipe("fp16", "fp32", ("FP16",)))
    if dla is None:
        return chosen
    return (*chosen, Recipe(f"int8-fp16-dla{dla}", "int8", ("INT8", "FP16"), dla))
