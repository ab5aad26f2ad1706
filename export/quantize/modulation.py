"""Modulated norms (AdaLN, Peebles and Xie 2023, arXiv 2212.09748): which shift and scale a condition adds behind a norm.

What Linears read is norm(x)·g(c) + h(c). Divided by s_j in channel j it is the same with the norm's own scale divided by s_j, and
with the columns of the Linear that make h divided too; g stays as it is. So outlier channels fold into weights here as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper


@dataclass(frozen=True)
class Shift:
    """Where h comes from: columns ``start`` to ``stop`` of a Linear's weight (its axis of outputs is the last) and bias."""

    weight: str
    bias: str
    start: int
    stop: int


@dataclass(frozen=True)
class Site:
    """A norm as Linears see it. output: the tensor that they read. shift: of a modulated norm. linear, added: the nodes that make
    the shift, by their outputs, the product and the sum with the bias; empty else."""

    norm: onnx.NodeProto
    output: str
    shift: Shift | None = None
    linear: str = ""
    added: str = ""


@dataclass(frozen=True)
class Graph:
    """What is looked up again and again. returned: outputs of the graph."""

    constants: Mapping[str, onnx.TensorProto]
    readers: Mapping[str, Sequence[onnx.NodeProto]]
    makers: Mapping[str, onnx.NodeProto]
    returned: frozenset[str]

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The node that alone reads a tensor, once."""
        found = self.readers.get(tensor, ())
        alone = len(found) == 1 and tensor not in self.returned and list(found[0].input).count(tensor) == 1
        return found[0] if alone else None


def site_of(norm: onnx.NodeProto, graph: Graph) -> Site:
    """The norm with its modulation, or alone if it has none that can be followed."""
    plain = Site(norm, norm.output[0])
    scaled = graph.only_reader(norm.output[0])
    if scaled is None or scaled.op_type != "Mul":
        return plain
    shifted = graph.only_reader(scaled.output[0])
    if shifted is None or shifted.op_type != "Add":
        return plain
    shift = next(name for name in shifted.input if name != scaled.output[0])
    if graph.only_reader(shift) is None:
        return plain
    width = graph.constants[norm.input[1]].dims[0] if norm.input[1] in graph.constants else 0
    split = graph.makers.get(shift)
    if split is None or split.op_type != "Split":
        return plain
    place = list(split.output).index(shift)
    added = graph.makers.get(split.input[0])
    if added is None or added.op_type != "Add" or graph.only_reader(added.output[0]) is None:
        return plain
    bias = next((name for name in added.input if name in graph.constants), None)
    linear = next((graph.makers[name] for name in added.input if name in graph.makers), None)
    if bias is None or linear is None or linear.op_type != "MatMul" or graph.only_reader(linear.output[0]) is None:
        return plain
    weight = graph.constants.get(linear.input[1])
    if weight is None or len(weight.dims) != 2 or len(graph.constants[bias].dims) != 1:
        return plain
    # Cut along another axis, the shift would be too wide to be added to the norm: of a valid graph this says that it is the last.
    whole = weight.dims[1] == width * len(split.output) and _evenly(split, width, graph)
    if not whole or {weight.data_type, graph.constants[bias].data_type} != {onnx.TensorProto.FLOAT}:
        return plain
    found = Shift(weight.name, bias, place * width, (place + 1) * width)
    return Site(norm, shifted.output[0], found, linear.output[0], added.output[0])


def _evenly(split: onnx.NodeProto, width: int, graph: Graph) -> bool:
    """Every output of the Split has the norm's width."""
    if len(split.input) < 2 or not split.input[1]:
        return True  # equal parts, and together they have the right width
    sizes = graph.constants.get(split.input[1])
    return sizes is not None and set(numpy_helper.to_array(sizes).tolist()) == {width}
