"""The reference models in PyTorch, as a peer for ``bench engines``; random weights, which time does not depend on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edge.bundle import Bundle, Part
from export.reference.camera_model import CameraModel
from export.reference.rover_model import Rollout, RoverModel


def torch_peer(bundle: Bundle, part: Part) -> dict[str, Callable[[], None]]:
    """A call that runs the part in FP32 on one thread, or nothing if the bundle is of no reference model."""
    if bundle.manifest.name == "rover":
        parts = _rover()
    elif bundle.manifest.name == "camera":
        camera = CameraModel().eval()
        parts = {"encoder": camera.encoder, "predictor": camera.predictor}
    else:
        return {}
    torch.set_num_threads(1)
    compute = parts[part]
    inputs = [
        torch.zeros(tensor.shape, dtype=torch.uint8 if tensor.dtype == "uint8" else torch.float32)
        for tensor in bundle.graph(part).inputs
    ]

    def call() -> None:
        with torch.inference_mode():
            compute(*inputs)

    return {"fp32": call}


def _rover() -> dict[str, Callable[..., object]]:
    """The model as it is defined, for the axes of a bundle."""
    model = RoverModel().eval()
    rollout = Rollout(model.predictor)

    def plan(context: Tensor, past_actions: Tensor, actions: Tensor, goal: Tensor, *_: Tensor) -> object:
        """Without the planner's round, which is next to nothing and no part of the model."""
        return rollout(context[:, :, 0], past_actions, actions, goal[:, 0])

    return {
        "encoder": model.encoder,
        "predictor": lambda context, actions: model.predictor(context[:, :, 0], actions),
        "rollout": plan,
    }
