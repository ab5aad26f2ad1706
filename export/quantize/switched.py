"""One graph with a switch at every Linear, quantized or float, so that trying layers takes a run and not a new engine."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge.messages import Floats
from export.external_weights import engine_of, values
from export.feeds import run
from export.quantize.linears import Linear
from export.quantize.pipeline import Quantized
from export.quantize.qdq import Constant, activation_pair, dynamic_pair, quantize_weight, rewritten, weight_dequantized
from export.sources.source import Feed

SWITCHES = "switches"


class SwitchedGraph:
    """An FP32 graph of which any layers can run quantized. layers: their names, in graph order; a layer that a graph uses
    in several places (a rollout does in every step) is one.

    quantized: its chosen Linears can be switched, all others stay in float for good. Where scales are dynamic the branch finds
    them as the graph on the device does; only the weights' scales differ, by what FP16 rounds.
    """

    def __init__(self, quantized: Quantized) -> None:
        model, linears = quantized.fp32, quantized.chosen
        self.layers = list(dict.fromkeys(linear.layer for linear in linears))
        place = {layer: index for index, layer in enumerate(self.layers)}
        constants = {tensor.name: tensor for tensor in model.graph.initializer}

        def rewrite(linear: Linear, node: onnx.NodeProto, constant: Constant) -> list[onnx.NodeProto]:
            at = place[linear.layer]
            index = constant(f"switch_{at}", np.array(at, np.int64))
            switch, given = f"{node.name}_switched", f"{node.output[0]}_branch"
            x, rounded = linear.activation, [f"{linear.activation}_dequantized", f"{linear.weight}_dequantized"]
            pair = dynamic_pair(x) if quantized.dynamic else activation_pair(x, quantized.table, constant)
            centre = 0.0 if quantized.dynamic else quantized.table.tensors[x].centre
            weight = values(constants[linear.weight])
            product = f"{given}_centred" if centre else given
            integers = [
                *pair,
                weight_dequantized(linear, weight, constant),
                helper.make_node("MatMul", rounded, [product]),
            ]
            if centre:
                steps, scales = quantize_weight(weight)
                moved = centre * (steps * scales.astype(np.float64)).sum(axis=0)
                back = constant(f"{node.name}_back", moved.astype(np.float32))  # what with_new_biases folds into the bias
                integers.append(helper.make_node("Add", [product, back], [given]))
            floating = [helper.make_node("MatMul", list(node.input), [given])]
            result = helper.make_tensor_value_info(given, TensorProto.FLOAT, None)
            branches = {
                "then_branch": helper.make_graph(integers, "quantized", [], [result]),
                "else_branch": helper.make_graph(floating, "floating", [], [result]),
            }
            return [
                helper.make_node("Gather", ["switched_on", index], [switch], switch),
                helper.make_node("If", [switch], list(node.output), node.name, **branches),
            ]

        switched = onnx.ModelProto()
        switched.CopyFrom(model)
        switched.graph.input.append(helper.make_tensor_value_info(SWITCHES, TensorProto.FLOAT, [max(1, len(self.layers))]))
        cast = helper.make_node("Cast", [SWITCHES], ["switched_on"], "switch_on", to=TensorProto.BOOL)
        switched.graph.node.insert(0, cast)
        switched = rewritten(switched, {linear.node: linear for linear in linears}, rewrite)
        self._engine = engine_of(switched, "layers to try")

    def run(self, feed: Feed, quantized: Collection[str]) -> Floats:
        """The output with these layers quantized, all others in float."""
        switches = np.array([layer in quantized for layer in self.layers] or [False], np.float32)
        return run(self._engine, {**feed, SWITCHES: switches})
