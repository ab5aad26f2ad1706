"""A vision encoder arranged for deployment: the numbers of vit_model, in the encoder's graph of docs/bundles.md.

Folded in beside what vit_block folds: positions stretched to the picture's grid, tokens that are the same for every picture. In
the last layer only patches are computed, because nothing reads the other tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from export.sources.vit_block import VitBlock, patches_of_bytes, scaled
from export.sources.vit_model import GatedMlp, Layer, Mlp, Vit


def vit_block(layer: Layer, *, kept: slice) -> VitBlock:
    """One layer, LayerScale folded in."""
    parts = [part for part in layer.attention.attention.values() if isinstance(part, nn.Linear)]
    out = layer.attention.output["dense"]
    assert isinstance(out, nn.Linear)
    mlp: Mlp | GatedMlp = layer.mlp
    if layer.scaled:
        out = scaled(out, layer.layer_scale1["lambda1"])
        gain = layer.layer_scale2["lambda1"]
        mlp = _scaled_mlp(mlp, gain)
    return VitBlock(layer.norm1, parts, out, layer.norm2, mlp, heads=layer.attention.heads, kept=kept)


def _scaled_mlp(mlp: Mlp | GatedMlp, gain: Tensor) -> Mlp | GatedMlp:
    if isinstance(mlp, Mlp):
        twin = Mlp(mlp.fc1.in_features, mlp.fc1.out_features)
        twin.fc1, twin.fc2 = mlp.fc1, scaled(mlp.fc2, gain)
        return twin
    gated = GatedMlp(mlp.weights_out.out_features, mlp.weights_out.in_features)
    gated.weights_in, gated.weights_out = mlp.weights_in, scaled(mlp.weights_out, gain)
    return gated


class EncoderGraph(nn.Module):
    """picture uint8 (1, H, W, 3) BGR -> latent (1, T, D). grid: rows and columns of patches in the picture. mean, std: of
    RGB in 0 .. 1, as the model was trained."""

    def __init__(self, model: Vit, grid: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        embeddings = model.embeddings
        convolution = embeddings.patch_embeddings["projection"]
        assert isinstance(convolution, nn.Conv2d)
        self.patches = patches_of_bytes(convolution, mean, std)
        self.register_buffer("leading", embeddings.leading().detach().clone())
        self.register_buffer("positions", embeddings.positions(grid).detach().clone())
        leading = model.spec.leading + model.spec.registers
        layers = model.layers
        self.blocks = nn.ModuleList(
            vit_block(layer, kept=slice(leading if layer is layers[-1] else None, None)) for layer in layers
        )
        self.norm = model.layernorm

    def forward(self, picture: Tensor) -> Tensor:
        assert isinstance(self.leading, Tensor)
        x = self.patches(picture.float().permute(0, 3, 1, 2)).flatten(2).transpose(1, 2) + self.positions
        if self.leading.shape[1]:
            x = torch.cat([self.leading, x], dim=1)
        for block in self.blocks:
            x = block(x)
        z: Tensor = self.norm(x)
        return z
