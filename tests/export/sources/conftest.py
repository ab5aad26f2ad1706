"""LeWorldModel at full size with random weights of which every one matters, shared by the tests: tracing takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from export.reference.lewm_random import randomised
from export.sources.lewm_model import LeWM, LeWMSpec

CONFIG = {
    "_target_": "stable_worldmodel.wm.lewm.LeWM",
    "encoder": {"size": "tiny", "patch_size": 14, "image_size": 224, "pretrained": False, "use_mask_token": False},
    "predictor": {
        "num_frames": 3,
        "input_dim": 192,
        "hidden_dim": 192,
        "output_dim": 192,
        "depth": 6,
        "heads": 16,
        "mlp_dim": 2048,
        "dim_head": 64,
        "dropout": 0.1,
    },
    "action_encoder": {"input_dim": 10, "emb_dim": 192},
    "projector": {"input_dim": 192, "output_dim": 192, "hidden_dim": 2048},
    "pred_proj": {"input_dim": 192, "output_dim": 192, "hidden_dim": 2048},
}


@pytest.fixture(scope="session")
def full_size() -> LeWM:
    torch.set_num_threads(1)
    return randomised(LeWMSpec())


@pytest.fixture(scope="session")
def checkpoint(full_size: LeWM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lewm")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.save(full_size.state_dict(), folder / "weights.pt")
    return folder
