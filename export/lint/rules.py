"""All rules in one table, and the function that asks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import onnx

from export.lint import (
    attention,
    axes,
    constant_inputs,
    external_data,
    half_precision,
    integer_constants,
    operators,
    opsets,
    options,
    placement,
    quantized_types,
    scales,
    shapes,
    tensor_types,
    validity,
    zero_points,
)
from export.lint.finding import Effect, Fault, Finding
from export.lint.network import Network
from export.lint.target import Target


class Rule(NamedTuple):
    """what: what it finds, for the documentation."""

    name: str
    effect: Effect
    what: str
    check: Callable[[Network, Target], Iterator[Fault]]


RULES = (
    Rule("invalid", "rejected", "not valid ONNX", validity.invalid),
    Rule("opset", "rejected", "an opset outside of what the parser reads", opsets.opset_range),
    Rule("fp16-scale-opset", "rejected", "FP16 scales below opset 19 (by onnxruntime)", opsets.fp16_scale_opset),
    Rule("unknown-operator", "rejected", "an operator that TensorRT has not", operators.unknown_operator),
    Rule(
        "foreign-operator",
        "rejected",
        "an operator of another domain, such as onnxruntime's own",
        operators.foreign_operator,
    ),
    Rule(
        "operator-option", "rejected", "a setting of an operator that TensorRT does not take", options.operator_option
    ),
    Rule("computed-axes", "rejected", "axes that are computed", constant_inputs.computed_axes),
    Rule("attention-float32", "rejected", "an Attention operator in float32", attention.attention_float32),
    Rule("dynamic-shape", "rejected", "an input without fixed shape", shapes.dynamic_shape),
    Rule(
        "data-dependent-shape",
        "rejected",
        "an operator whose output size depends on the data",
        shapes.data_dependent_shape,
    ),
    Rule("external-data", "rejected", "weights in another file", external_data.external_data),
    Rule("unknown-type", "rejected", "an element type that TensorRT has not", tensor_types.unknown_type),
    Rule("double", "wrong", "float64", tensor_types.double),
    Rule(
        "uint8-inside", "rejected", "uint8 elsewhere than at the graph's inputs and outputs", tensor_types.uint8_inside
    ),
    Rule("zero-point-missing", "wrong", "a QuantizeLinear without zero point", zero_points.zero_point_missing),
    Rule("zero-point-uint8", "wrong", "a uint8 zero point", zero_points.zero_point_uint8),
    Rule("zero-point-not-zero", "rejected", "a zero point other than 0", zero_points.zero_point_not_zero),
    Rule("zero-point-computed", "rejected", "a zero point that is computed", zero_points.zero_point_computed),
    Rule("zero-point-size", "rejected", "not as many zero points as scales", zero_points.zero_point_size),
    Rule("scale-not-positive", "rejected", "a scale of 0, below 0 or not a number", scales.scale_not_positive),
    Rule("scale-infinite", "wrong", "an infinite scale", scales.scale_infinite),
    Rule("scale-denormal", "wrong", "an FP16 scale below 2^-14", scales.scale_denormal),
    Rule("scale-computed", "costly", "a scale that is computed", scales.scale_computed),
    Rule("scale-type", "rejected", "a scale of another float type than what is around it", scales.scale_type),
    Rule("int32-bias", "rejected", "a bias dequantized from int32", quantized_types.int32_bias),
    Rule("weight-uint8", "rejected", "a weight stored as uint8", quantized_types.weight_uint8),
    Rule("quantized-type", "rejected", "a quantized type that the target has not", quantized_types.quantized_type),
    Rule(
        "int8-constant",
        "rejected",
        "a stored int8 tensor read by anything but a DequantizeLinear",
        integer_constants.int8_constant,
    ),
    Rule("quantized-scalar", "rejected", "a quantized scalar constant", integer_constants.quantized_scalar),
    Rule("int8-arithmetic", "wrong", "int8 computed with, or returned", integer_constants.int8_arithmetic),
    Rule("activation-per-channel", "wrong", "an activation quantized per channel", axes.activation_per_channel),
    Rule("weight-axis", "costly", "a weight quantized along another axis than its output channels", axes.weight_axis),
    Rule(
        "weight-axis-implicit", "wrong", "per-channel scales that name no axis (JetPack 6)", axes.weight_axis_implicit
    ),
    Rule("quantized-sum", "costly", "an Add, of residuals for example, of quantized tensors", placement.quantized_sum),
    Rule("quantized-attention", "costly", "an attention product of quantized tensors", placement.quantized_attention),
    Rule(
        "quantized-elsewhere",
        "costly",
        "a norm, GELU, softmax or other operator on a quantized tensor",
        placement.quantized_elsewhere,
    ),
    Rule("half-quantized", "costly", "a Linear or convolution with one quantized input", placement.half_quantized),
    Rule(
        "tiny-quantized", "costly", "a quantized Linear with fewer than 16 inputs or outputs", placement.tiny_quantized
    ),
    Rule("repeated-quantize", "costly", "one tensor quantized twice", placement.repeated_quantize),
    Rule("fp16-mean-square", "wrong", "a sum of squares in FP16", half_precision.fp16_mean_square),
)


def lint(model: onnx.ModelProto, target: Target) -> list[Finding]:
    """Everything that the rules find, in the order of the table. Values in other files are not read; the model is left as
    it is."""
    network = Network(model)
    return [Finding(rule.name, rule.effect, *fault) for rule in RULES for fault in rule.check(network, target)]
