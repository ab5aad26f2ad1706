"""A LeWorldModel with random weights of which every one matters: for tests and trials without a checkpoint.

    python -m export.reference.lewm_random --out build/lewm
    latentloop export lewm build/lewm --frames footage.mp4 --out bundles/lewm

The command writes one of the published size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import nn

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
"""Of the published size."""


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


def write_checkpoint(folder: Path, model: LeWM) -> Path:
    """A folder as stable-worldmodel publishes one. model: of the published size."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write it")
    print(f"wrote {write_checkpoint(parser.parse_args().out, randomised(LeWMSpec()))}")


if __name__ == "__main__":
    main()
