"""A full-size vision encoder with random weights, as a folder that ``latentloop export dinov2`` takes: what an architecture costs
and loses in INT8 can be measured without anybody's checkpoint.

    python -m export.reference.random_vit vit-s16 --out build/vit-s16
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from export.sources.vit import CONFIG, PREPROCESSOR, WEIGHTS, read_config
from export.sources.vit_block import IMAGENET_MEAN, IMAGENET_STD
from export.sources.vit_model import Vit

_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
MODELS = {
    "vit-s16": {"model_type": "vit", **_SMALL, "patch_size": 16, "image_size": 224},
    "vit-b16": {"model_type": "vit", **_BASE, "patch_size": 16, "image_size": 224},
    "dinov2-s14": {"model_type": "dinov2", **_SMALL, "patch_size": 14, "image_size": 518},
    "dinov2-reg-s14": {
        "model_type": "dinov2_with_registers", **_SMALL, "patch_size": 14, "image_size": 518, "num_register_tokens": 4
    },
}  # fmt: skip
SEED = 0


def write_random_vit(config: dict[str, object], folder: Path) -> None:
    """Write config, weights and the scaling of pictures to 224x224. Weights keep the scale of what goes through them (standard
    deviation 1 / sqrt(inputs)), so that every layer counts; gains lie around 1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=1))
    preprocessor = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "size": {"height": 224, "width": 224}}
    (folder / PREPROCESSOR).write_text(json.dumps(preprocessor, indent=1))
    _, spec = read_config(folder / CONFIG)
    torch.manual_seed(SEED)
    model = Vit(spec)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 3:  # tokens and positions
            nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
        else:
            nn.init.uniform_(parameter, 0.5, 1.5)
    save_file(published_names(model, str(config["model_type"])), folder / WEIGHTS)


def published_names(model: Vit, family: str) -> dict[str, torch.Tensor]:
    """The weights under the names that Hugging Face gives them in this family."""
    from export.sources.vit import FAMILIES, VIT_NAMES

    named = {}
    for key, value in model.state_dict().items():
        if not FAMILIES[family].dino:
            for published, ours in reversed(VIT_NAMES):
                key = key.replace(ours, published)
        named[key] = value
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS, help="architecture")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write it")
    args = parser.parse_args()
    write_random_vit(MODELS[args.model], args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
