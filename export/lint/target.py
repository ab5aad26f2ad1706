"""The two generations of TensorRT that Jetsons carry, as the lint sees them.

Sources: the operator tables of onnx-tensorrt 10.1 and 10.15, the nearest at hand before 10.3 and 10.16.
JetPack 6 stays on TensorRT 10.3 for good; JetPack 7.2 carries 10.16, from 7.2.2 on 11.4 runs there too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_OPERATORS_10_1 = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu
Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div
Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish
Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RNN RandomNormal RandomNormalLike
RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round Scan Scatter
ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth
Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
_ADDED_UP_TO_10_15 = """
Attention BlackmanWindow HammingWindow HannWindow RMSNormalization RotaryEmbedding STFT TensorScatter
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What a graph must be good for. tensorrt: the versions, for people. opsets: lowest and highest of the ONNX standard
    that all of them read. operators: of the standard domain. quantized: element types between Q and DQ, as ONNX spells
    them."""

    name: str
    tensorrt: str
    opsets: tuple[int, int]
    operators: frozenset[str] = field(repr=False)
    quantized: frozenset[str]


JETPACK6 = Target("jetpack6", "10.3", (9, 20), frozenset(_OPERATORS_10_1.split()), frozenset({"INT8", "INT4"}))
JETPACK7 = Target(
    "jetpack7",
    "10.16 to 11.4",
    (9, 24),
    frozenset((_OPERATORS_10_1 + _ADDED_UP_TO_10_15).split()),
    frozenset({"INT8", "INT4", "FLOAT8E4M3FN", "FLOAT4E2M1"}),
)
CPU = "cpu"
"""A target of an export for which TensorRT is not asked."""
TARGETS = {target.name: target for target in (JETPACK6, JETPACK7)}
