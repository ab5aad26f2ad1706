"""Parts of Vision Transformers arranged for deployment; families of checkpoints bring their own weights.

Folded into weights, exactly: the normalisation and colour order of pictures, the attention scale, LayerScale. Queries, keys and
values are one Linear.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A Linear of these float64 weights, (out, in) and (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.float().contiguous(), bias.float().contiguous()
    return layer


def scaled(layer: nn.Linear, scale: Tensor) -> nn.Linear:
    """The Linear whose output is that of ``layer`` times ``scale``, (out,)."""
    return linear(layer.weight.double() * scale.double()[:, None], layer.bias.double() * scale.double())


def patches_of_bytes(
    convolution: nn.Conv2d, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> nn.Conv2d:
    """The convolution on raw BGR values 0 .. 255 that equals the given one on RGB in 0 .. 1, less mean, by std."""
    means, deviations = torch.tensor(mean).double(), torch.tensor(std).double()
    weight = convolution.weight.double()
    assert convolution.bias is not None
    twin = nn.Conv2d(3, convolution.out_channels, convolution.kernel_size, convolution.stride)  # type: ignore[arg-type]
    twin.weight.data = (weight / (255.0 * deviations)[:, None, None]).flip(1).float().contiguous()
    assert twin.bias is not None
    twin.bias.data = (convolution.bias.double() - (weight * (means / deviations)[:, None, None]).sum((1, 2, 3))).float()
    return twin


class VitBlock(nn.Module):
    """One pre-norm layer for a single picture. parts: the Linears of queries, keys and values. kept: of which tokens anything
    is computed beyond keys and values; in a last layer most are read by nothing."""

    def __init__(
        self,
        norm1: nn.LayerNorm,
        parts: Sequence[nn.Linear],
        out: nn.Linear,
        norm2: nn.LayerNorm,
        mlp: nn.Module,
        *,
        heads: int,
        kept: slice = slice(None),
    ) -> None:
        super().__init__()
        self.heads, self.kept = heads, kept
        weights = [part.weight.double() for part in parts]
        biases = [torch.zeros(len(w)).double() if p.bias is None else p.bias.double() for p, w in zip(parts, weights, strict=True)]
        scale = (len(weights[0]) // heads) ** -0.5
        weights[0], biases[0] = weights[0] * scale, biases[0] * scale
        self.qkv = linear(torch.cat(weights), torch.cat(biases))
        self.norm1, self.out, self.norm2, self.mlp = norm1, out, norm2, mlp

    def forward(self, x: Tensor) -> Tensor:
        """(1, n, D) -> (1, n or as many as are kept, D)."""
        _, n, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(1, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.kept != slice(None):
            q, x = q[:, :, self.kept], x[:, self.kept]
        mixed = (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(1, -1, width))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y
