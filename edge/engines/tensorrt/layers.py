"""What kernels a plan really consists of, from the JSON of TensorRT's engine inspector.

Written after published excerpts of that JSON, of TensorRT 10 ("Format/Datatype" in one field) and 11 (in two), and
kernel names that people reported. Neither was ever seen from an engine of this project: unverified.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_INTEGER = re.compile(r"gemm_?[a-z]*i8|i8i8|i8i32|int8|imma", re.IGNORECASE)
_GEMM = re.compile(r"gemm|matmul|matrix_?multiply|fully_?connected", re.IGNORECASE)


class Layers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts. gemms: matrix products outside of attention; integer_gemms: those of them in integers.
    fused_attention: kernels that do a whole attention. reformats: layers that only change a format or type.
    detailed: the kernels are named; if not, all counts but ``total`` say nothing."""

    total: int
    gemms: int
    integer_gemms: int
    fused_attention: int
    reformats: int
    detailed: bool


def count_layers(inspected: str) -> Layers:
    """inspected: what get_engine_information gives as JSON. Raises ValueError if it is none."""
    layers = json.loads(inspected).get("Layers")
    if not isinstance(layers, list):
        raise ValueError("the engine inspector's JSON has no list of Layers")
    described = [layer for layer in layers if isinstance(layer, dict)]
    attention = [layer for layer in described if "mha" in _kernel(layer).lower()]
    gemms = [layer for layer in described if layer not in attention and _GEMM.search(_kernel(layer) + _text(layer, "LayerType"))]
    return Layers(
        total=len(layers),
        gemms=len(gemms),
        integer_gemms=sum(_INTEGER.search(_kernel(layer)) is not None for layer in gemms),
        fused_attention=len(attention),
        reformats=sum(_text(layer, "LayerType") in ("Reformat", "reformat") for layer in described),
        detailed=bool(described) and len(described) == len(layers),
    )


def _kernel(layer: dict[str, Any]) -> str:
    """The tactic's name, or the layer's own where Myelin put the kernel's name there."""
    return _text(layer, "TacticName") or _text(layer, "Name")


def _text(layer: dict[str, Any], field: str) -> str:
    return str(layer.get(field) or "")
