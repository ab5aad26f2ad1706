"""Counting kernels. The layers are written after published excerpts of the engine inspector's JSON, not recorded from an
engine of this project: that the real one looks like this is unverified."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge.engines.tensorrt.layers import Layers, count_layers


def layer(name: str, kind: str, tactic: str = "", **more: Any) -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "TacticName": tactic, "Inputs": [], "Outputs": [], **more}


VIT_BLOCK = [
    layer("__myl_MeaSubMul_myl0_0", "kgen", "__myl_MeaSubMul_0x2f"),
    layer("Reformatting CopyNode for Input Tensor 0 to q", "Reformat", "0x00000000000003e8"),
    layer("qkv", "gemm", "sm80_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize64x64x64_stage3"),
    layer("_gemm_mha_v2_myl0_3", "kgen", "_gemm_mha_v2_0x1b"),
    layer("proj", "gemm", "sm80_xmma_gemm_i8i8_i8i32_f32_tn_n"),
    layer("up", "fusion", "sm80_xmma_gemm_f16f16_f16f16_f16_nn_n"),
    layer("down", "gemm", "ampere_h16816gemm_256x128_ldg8_nn_v1"),
]


def test_kernels_are_told_apart_by_their_names() -> None:
    assert count_layers(json.dumps({"Layers": VIT_BLOCK, "Bindings": ["x", "y"]})) == Layers(
        total=7, gemms=4, integer_gemms=2, fused_attention=1, reformats=1, detailed=True
    )


def test_names_alone_say_nothing_of_kernels() -> None:
    counted = count_layers(json.dumps({"Layers": ["qkv", "proj"], "I/O Tensors": []}))
    assert (counted.total, counted.gemms, counted.detailed) == (2, 0, False)


@pytest.mark.parametrize("text", ["", "{}", '{"Layers": 3}', '{"Layers": null}'])
def test_what_is_no_such_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        count_layers(text)


@pytest.mark.parametrize(
    ("tactic", "integer"),
    [
        ("sm80_xmma_gemm_i8i8_i8i32_f32_tn", True),
        ("sm80_xmma_gemm_i8f16_i8i32_f32_tn", True),
        ("sm72_imma_gemm_small", True),
        ("sm80_xmma_gemm_f32f32_tf32f32_f32_nn", False),
        ("sm80_xmma_gemm_f16f16_f16f32_f32_tn", False),
        ("sm50_xmma_cublas_gemvx_f16f16_f32", False),
    ],
)
def test_integer_kernels(tactic: str, integer: bool) -> None:
    assert count_layers(json.dumps({"Layers": [layer("x", "gemm", tactic)]})).integer_gemms == integer
