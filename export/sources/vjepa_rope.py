"""Rotary positions of the V-JEPA 2 family as constants, and the order of channels in which they cost four operators.

A head's channels are three equal sections, for time, row and column, and a rest that is not turned. Published weights turn
neighbouring channels as pairs; here the first of all pairs come first, the seconds after them, the rest last, so that
turning is x * cos + swapped(x) * sin with whole slices. Queries and keys are reordered alike, so attention does not change.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Convention = Literal["tiled", "paired"]
"""paired: both channels of a pair turn by the same angle (V-JEPA 2.1). tiled: the frequencies are laid out twice, one after
the other, over the channels of a section, so that the two of a pair turn by different angles (V-JEPA 2 and 2-AC, where it
was a mistake that the weights have learned to live with)."""


def section(head: int) -> int:
    """Channels of a head, of ``head`` in all, that turn with one coordinate."""
    return 2 * (head // 3 // 2)


def channel_order(head: int) -> Tensor:
    """Published channel at each place of ours, int64 (head,)."""
    turned = 3 * section(head)
    return torch.cat([torch.arange(0, turned, 2), torch.arange(1, turned, 2), torch.arange(turned, head)])


def grid_positions(times: Tensor, rows: int, columns: int, step: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Time, row and column of every patch of frames at ``times``: float64 (len(times) * rows * columns, 3). step: from one
    row, and from one column, to the next."""
    counts = zip((rows, columns), step, strict=True)
    across = [torch.arange(count, dtype=torch.float64, device="cpu") * size for count, size in counts]
    return torch.cartesian_prod(times.double(), *across)


class Rope(nn.Module):
    """Turns queries or keys (..., n, head) at fixed positions (n, 3)."""

    def __init__(self, positions: Tensor, head: int, convention: Convention) -> None:
        super().__init__()
        size = section(head)
        frequencies = 10000.0 ** (-torch.arange(size // 2, dtype=torch.float64, device="cpu") / (size / 2))
        laid_out = frequencies.repeat(2) if convention == "tiled" else frequencies.repeat_interleave(2)
        angles = torch.cat([positions.double()[:, axis, None] * laid_out for axis in range(3)], dim=1)
        still = torch.zeros(len(positions), head - 3 * size, dtype=torch.float64, device="cpu")
        first, second = angles[:, 0::2], angles[:, 1::2]
        self.pairs = first.shape[1]
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", torch.cat([first.cos(), second.cos(), still + 1.0], dim=1).float(), persistent=False)
        self.register_buffer("sin", torch.cat([-first.sin(), second.sin(), still], dim=1).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        firsts, seconds, rest = torch.split(x, [self.pairs, self.pairs, x.shape[-1] - 2 * self.pairs], dim=-1)
        return x * self.cos + torch.cat([seconds, firsts, rest], dim=-1) * self.sin
