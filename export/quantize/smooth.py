"""SmoothQuant (Xiao et al. 2023, arXiv 2211.10438): move outlier channels from activations into weights, before quantization.

A LayerNormalization that feeds only Linears can give channel j divided by s_j if the Linears' rows j are multiplied by it:
the same function in FP32, and no channel is left so large that one scale for all leaves its neighbours nothing. Norms that a
condition modulates can too (export.quantize.modulation).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.external_weights import WeightsFile, folder_of, values
from export.onnx_cleaning import compacted, drop_unused_constants
from export.quantize.modulation import Graph, Shift, Site, site_of

ALPHA = 0.5
"""How much of the outliers the weights take over: 0 nothing, 1 all."""


@dataclass(frozen=True)
class Smoothed:
    """model: the same function in FP32. folded: names of the norms that were. left: why others were not, by name."""

    model: onnx.ModelProto
    folded: tuple[str, ...]
    left: dict[str, str]

    @property
    def sentence(self) -> str:
        """For people: how many were folded, and why others were not."""
        reasons = "".join(f", {count} left alone ({why})" for why, count in Counter(self.left.values()).items())
        return f"{len(self.folded)} norms folded{reasons}"


@dataclass(frozen=True)
class _Group:
    """Norms and the weights of the Linears behind them that take one s together, as in an unrolled graph, whose steps
    share weights. weights: name -> axis of the input channels."""

    sites: list[Site]
    weights: dict[str, int]

    @property
    def shifts(self) -> set[Shift]:
        return {site.shift for site in self.sites if site.shift is not None}


def foldable(model: onnx.ModelProto) -> list[str]:
    """What Linears read of the norms that can be folded: what measure_channels must look at for :func:`fold`."""
    return [site.output for group in _groups(model)[0] for site in group.sites]


def fold(model: onnx.ModelProto, peaks: Mapping[str, NDArray[np.float32]], *, alpha: float = ALPHA) -> Smoothed:
    """Fold s_j = max|x_j|^alpha / max|W_j|^(1 - alpha) into every norm that can take it; 1 where either maximum is 0.

    peaks: the largest magnitude in every channel of each of :func:`foldable`. The graph has no control flow.
    """
    groups, left = _groups(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = {node.output[0]: node for node in copy.graph.node}
    rows: dict[str, NDArray[np.float64]] = {}  # what weights are multiplied by, as it broadcasts
    columns: dict[str, NDArray[np.float64]] = {}  # what weights and biases that make shifts are divided by
    for group in groups:
        largest = [np.abs(values(constants[name])).max(axis=1 - axis) for name, axis in group.weights.items()]
        s = factors(np.max([peaks[site.output] for site in group.sites], axis=0), np.max(largest, axis=0), alpha)
        for name, axis in group.weights.items():
            rows[name] = s[:, None] if axis == 0 else s
        for shift in group.shifts:
            for name in (shift.weight, shift.bias):
                columns.setdefault(name, np.ones(constants[name].dims[-1]))[shift.start : shift.stop] = s
        for norm in (nodes[site.norm.output[0]] for site in group.sites):
            for place, name in enumerate(norm.input[1:], start=1):
                if not name:
                    continue
                # A new constant, as norms elsewhere may read the old one.
                new = f"{name}_smoothed_for_{next(iter(group.weights))}"
                if new not in constants:
                    divided = (values(constants[name]) / s).astype(np.float32)
                    copy.graph.initializer.append(numpy_helper.from_array(divided, new))
                    constants[new] = copy.graph.initializer[-1]
                norm.input[place] = new
    with WeightsFile(folder_of(model)) as new_weights:
        for name in {**rows, **columns}:  # once each: a weight may be behind one norm and make the shift of another
            scaled = values(constants[name]) * rows.get(name, np.float64(1.0)) / columns.get(name, np.float64(1.0))
            new_weights.put(constants[name], scaled.astype(np.float32))
    drop_unused_constants(copy.graph)
    folded = tuple(_name(site.norm) for group in groups for site in group.sites)
    return Smoothed(compacted(copy), folded, left)


def factors(activation: NDArray[np.float32], weight: NDArray[np.float32], alpha: float) -> NDArray[np.float64]:
    """s by channel, (K,): equation 4 of the paper. activation, weight: largest magnitudes, (K,). 1 where one of them is 0."""
    x, w = activation.astype(np.float64), weight.astype(np.float64)
    alive = (x > 0) & (w > 0)
    return np.where(alive, np.where(alive, x, 1.0) ** alpha / np.where(alive, w, 1.0) ** (1.0 - alpha), 1.0)


def _groups(model: onnx.ModelProto) -> tuple[list[_Group], dict[str, str]]:
    """What can be folded, and the norms that cannot with the reason."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    graph = Graph(
        constants={tensor.name: tensor for tensor in model.graph.initializer},
        readers=readers,
        makers={name: node for node in model.graph.node for name in node.output},
        returned=frozenset(value.name for value in model.graph.output),
    )
    sites = [site_of(node, graph) for node in model.graph.node if node.op_type == "LayerNormalization"]
    left: dict[str, str] = {}
    behind: dict[str, dict[str, int]] = {}  # by what Linears read of the norm: their weights
    for site in sites:
        reason, weights = _weights_behind(site, readers[site.output], graph.constants)
        if site.output in graph.returned:
            reason = "is an output of the graph"
        if reason:
            left[site.output] = reason
        else:
            behind[site.output] = weights

    # Norms that share a weight go together; a weight that anything else reads as well stays as it is, and so do they.
    groups: list[_Group] = []
    for site in sites:
        if site.output not in behind:
            continue
        group = _Group([site], dict(behind[site.output]))
        for other in [other for other in groups if other.weights.keys() & group.weights.keys() or other.shifts & group.shifts]:
            groups.remove(other)
            group = _Group([*other.sites, *group.sites], other.weights | group.weights)
        groups.append(group)
    whole: list[_Group] = []
    for group in groups:
        outputs = {site.output for site in group.sites}
        reading = [node for name in group.weights for node in readers[name]]
        alike = all(node.input[0] in outputs and _weight_axis(node) == group.weights[node.input[1]] for node in reading)
        if alike and all(_made_for(shift, group, readers) for shift in group.shifts):
            whole.append(group)
        else:
            left |= dict.fromkeys(outputs, "shares a weight with another reader")
    named = {site.output: _name(site.norm) for site in sites}
    return whole, {named[output]: reason for output, reason in left.items()}


def _made_for(shift: Shift, group: _Group, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> bool:
    """Whoever reads these weights makes the shift of a norm in the group."""
    made = [site for site in group.sites if site.shift == shift]
    products, sums = {site.linear for site in made}, {site.added for site in made}
    return {node.output[0] for node in readers[shift.weight]} == products and {
        node.output[0] for node in readers[shift.bias]
    } == sums


def _weights_behind(
    site: Site, readers: Sequence[onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> tuple[str, dict[str, int]]:
    """The weights of the Linears that read a norm, with their axis of input channels; or why it cannot be folded."""
    affine = [name for name in site.norm.input[1:] if name]
    if not affine or any(name not in constants or len(constants[name].dims) != 1 for name in affine):
        return "has no constant scale and bias", {}
    width = constants[affine[0]].dims[0]
    weights: dict[str, int] = {}
    for reader in readers:
        axis = _weight_axis(reader)
        weight = constants.get(reader.input[1]) if axis is not None else None
        if axis is None or weight is None or list(reader.input).count(site.output) != 1 or reader.input[0] != site.output:
            return f"is read by {reader.op_type}", {}
        if len(weight.dims) != 2 or weight.data_type != onnx.TensorProto.FLOAT or weight.dims[axis] != width:
            return "feeds a weight that is no float32 matrix", {}
        weights[weight.name] = axis
    return ("", weights) if weights else ("is read by nothing", {})


def _weight_axis(node: onnx.NodeProto) -> int | None:
    """Axis of the input channels in the second input of a Linear; None for other nodes."""
    if node.op_type == "MatMul":
        return 0
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type != "Gemm" or settings.get("transA", 0):
        return None
    return 1 if settings.get("transB", 0) else 0


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]
