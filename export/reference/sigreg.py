"""SIGReg: keep latents an isotropic Gaussian, so that a JEPA cannot collapse.

The Epps-Pulley statistic of random one-dimensional projections (Balestriero and LeCun, LeJEPA, 2025): the weighted
squared distance between the empirical characteristic function and that of a standard normal.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sigreg(latents: Tensor, directions: int = 256, knots: int = 17, reach: float = 3.0) -> Tensor:
    """latents: float (B, D), one independent sample per row. Returns a scalar, about 1 for true normal samples."""
    latents = latents.float()
    axes = torch.randn(latents.shape[1], directions, device=latents.device)
    axes = axes / axes.norm(dim=0, keepdim=True)
    projected = latents @ axes
    t = torch.linspace(0.0, reach, knots, device=latents.device)
    normal = torch.exp(-0.5 * t * t)
    angles = projected.unsqueeze(-1) * t
    real = angles.cos().mean(dim=0) - normal
    imaginary = angles.sin().mean(dim=0)
    distance = (real * real + imaginary * imaginary) * normal
    return torch.trapezoid(distance, t, dim=-1).mean() * latents.shape[0]
