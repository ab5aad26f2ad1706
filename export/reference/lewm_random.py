"""A LeWorldModel of any size with random weights of which every one matters: for tests and trials without a checkpoint."""

from __future__ import annotations

import torch
from torch import nn

from export.sources.lewm_model import LeWM, LeWMSpec


def randomised(spec: LeWMSpec) -> LeWM:
    """Training starts some weights at zero and statistics at one; here they are drawn too."""
    torch.manual_seed(0)
    model = LeWM(spec).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 3 and "patch_embed" not in name:  # positions and the class token
            nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
        else:
            nn.init.uniform_(parameter, 0.5, 1.5)
    for name, buffer in model.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model
