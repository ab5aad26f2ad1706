"""Element types that TensorRT has not, or not everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.finding import Fault
from export.lint.network import Network, label, operand
from export.lint.target import Target

_KNOWN = {
    "FLOAT",
    "FLOAT16",
    "BFLOAT16",
    "INT64",
    "INT32",
    "INT8",
    "INT4",
    "UINT8",
    "BOOL",
    "FLOAT8E4M3FN",
    "FLOAT4E2M1",
}
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def _place(network: Network, tensor: str) -> str:
    return label(network.maker[tensor]) if tensor in network.maker else tensor


def unknown_type(network: Network, target: Target) -> Iterator[Fault]:
    for name in network.types:
        kind = network.type_of(name)
        around = [*network.readers[name], *([network.maker[name]] if name in network.maker else [])]
        quantized = any(node.op_type in _QUANTIZERS for node in around)  # the rules of quantized types speak of these
        if kind not in _KNOWN | {"UNDEFINED", "DOUBLE"} and not quantized:
            yield Fault(
                _place(network, name),
                f"tensor '{name}' is {kind}, which TensorRT has not",
                "use INT64, INT32 or a float type",
            )


def double(network: Network, target: Target) -> Iterator[Fault]:
    for name in network.types:
        if network.type_of(name) == "DOUBLE":
            reason = f"tensor '{name}' is DOUBLE, which TensorRT silently narrows to float32"
            yield Fault(_place(network, name), reason, "export in float32")


def uint8_inside(network: Network, target: Target) -> Iterator[Fault]:
    outputs = {value.name for value in network.model.graph.output}
    fix = "convert to a float type first thing: Cast"
    for name in network.types:
        if network.type_of(name) != "UINT8":
            continue
        maker = network.maker.get(name)
        if maker is not None and maker.op_type not in (*_QUANTIZERS, "Constant") and name not in outputs:
            yield Fault(
                label(maker), f"tensor '{name}' is UINT8, which TensorRT has only as input and output of the graph", fix
            )
        elif maker is None or maker.op_type == "Constant":
            for node in network.readers[name]:
                if node.op_type not in ("Cast", *_QUANTIZERS) and operand(node, 0) == name:
                    yield Fault(
                        label(node), f"{node.op_type} of UINT8 input '{name}', where TensorRT only takes a Cast", fix
                    )
