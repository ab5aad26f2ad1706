"""V-JEPA 2 as the graphs of docs/bundles.md: an encoder of clips, and a masked predictor of the next step's patches.

Folded into the tokenizer, exactly: the normalisation and colour order of pictures, and a single picture shown twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.sources.vit_block import IMAGENET_MEAN, IMAGENET_STD
from export.sources.vjepa_model import ClipSpec, Encoder, MaskedPredictor

NORM_EPS = 1e-5
"""Of the layer norm without weights that makes targets of latents in training."""


def normalised(clip: Tensor) -> Tensor:
    """uint8 (F, H, W, 3) BGR -> what the encoder was trained on: (1, 3, F, H, W), RGB, less ImageNet's mean, by its deviation."""
    rgb = clip.flip(-1).permute(3, 0, 1, 2).float() / 255.0
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    return ((rgb - mean) / std).unsqueeze(0)


class Tokenizer(nn.Module):
    """Raw clips (F, H, W, 3) BGR -> tokens (1, F / tubelet * S, D): a convolution over the pictures of a tubelet as channels."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.clip: ClipSpec = encoder.clip
        original = encoder.patch_embed.proj
        assert original.bias is not None
        weight = original.weight.data.double()  # (D, 3, tubelet, patch, patch)
        if self.clip.frames == 1:
            weight = weight.sum(2, keepdim=True)
        mean, std = (torch.tensor(x).double()[:, None, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
        width, _, self.pictures, patch, _ = weight.shape
        folded = (weight / (255.0 * std)).flip(1).permute(0, 2, 1, 3, 4).reshape(width, 3 * self.pictures, patch, patch)
        self.proj = nn.Conv2d(3 * self.pictures, width, patch, patch)
        self.proj.weight.data = folded.float().contiguous()
        assert self.proj.bias is not None
        self.proj.bias.data = (original.bias.data.double() - (weight * mean / std).sum((1, 2, 3, 4))).float()

    def forward(self, clip: Tensor) -> Tensor:
        height, width = self.clip.size
        tubelets = clip.float().reshape(-1, self.pictures, height, width, 3).permute(0, 1, 4, 2, 3).flatten(1, 2)
        y: Tensor = self.proj(tubelets).flatten(2).transpose(1, 2).flatten(0, 1).unsqueeze(0)
        return y


class EncoderGraph(nn.Module):
    """picture uint8 (F, H, W, 3) BGR -> latent (1, S, D), of the newest tubelet. layer_normed: as V-JEPA 2-AC takes it."""

    def __init__(self, encoder: Encoder, *, layer_normed: bool = False) -> None:
        super().__init__()
        self.tokenizer, self.layer_normed = Tokenizer(encoder), layer_normed
        self.blocks, self.norm, self.rope, self.patches = encoder.blocks, encoder.norm, encoder.rope, encoder.clip.patches

    def forward(self, picture: Tensor) -> Tensor:
        x = self.tokenizer(picture)
        for block in self.blocks:
            x = block(x, self.rope)
        y: Tensor = self.norm(x[:, -self.patches :])
        return layer_normed(y) if self.layer_normed else y


class PredictorGraph(nn.Module):
    """context (1, C, S, D) -> predicted (1, S, D).

    The prediction is layer-normed; mean and deviation of the newest latent at the same patch, which hardly differ from one
    latent to the next, make it comparable with latents.
    """

    def __init__(self, predictor: MaskedPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, context: Tensor) -> Tensor:
        newest = context[:, -1]
        mean = newest.mean(dim=-1, keepdim=True)
        away = newest - mean
        deviation = ((away * away).mean(dim=-1, keepdim=True) + NORM_EPS).sqrt()
        y: Tensor = self.predictor(context.flatten(1, 2)) * deviation + mean
        return y


def layer_normed(tokens: Tensor) -> Tensor:
    """Each token with mean 0 and deviation 1."""
    return nn.functional.layer_norm(tokens, tokens.shape[-1:])
