"""The rover's encoder and predictor as a bundle wants them: names, axes and order of docs/bundles.md."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.reference.rover_model import RoverModel


class EncoderGraph(nn.Module):
    """picture uint8 (1, H, W, 3) -> latent (1, 1, D)."""

    def __init__(self, model: RoverModel) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, picture: Tensor) -> Tensor:
        z: Tensor = self.encoder(picture)
        return z.unsqueeze(1)


class PredictorGraph(nn.Module):
    """context (1, C, 1, D), actions (1, C, A) -> predicted (1, 1, D), the latent after the newest of the context."""

    def __init__(self, model: RoverModel) -> None:
        super().__init__()
        self.predictor = model.predictor

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        y: Tensor = self.predictor(context[:, :, 0], actions)
        return y[:, -1:]


def example_inputs(model: RoverModel) -> dict[str, dict[str, Tensor]]:
    """Zeros of the right shapes and dtypes for both graphs, by part and input name."""
    spec = model.spec
    c, d, a = spec.window, spec.latent, spec.action
    return {
        "encoder": {"picture": torch.zeros(1, spec.height, spec.width, 3, dtype=torch.uint8)},
        "predictor": {"context": torch.zeros(1, c, 1, d), "actions": torch.zeros(1, c, a)},
    }
