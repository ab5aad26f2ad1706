"""Which pictures of the verification footage go into a bundle, for the device to try its engines on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Manifest
from edge.messages import Floats
from edge.samples import Samples, runs_of


def samples_of(manifest: Manifest, pictures: NDArray[np.uint8], latents: Floats) -> Samples:
    """The beginnings of a few runs, spread over the footage. pictures: uint8 (E, T, H, W, 3), or (E, T, F, H, W, 3) of an encoder
    of video. latents: of the FP32 encoder, (E, T, tokens, D)."""
    clips = pictures[:, :, None] if pictures.ndim == 5 else pictures
    chosen = np.unique(np.linspace(0, len(clips) - 1, runs_of(manifest)).round().astype(int))
    steps = manifest.time.context
    return Samples(clips[chosen, :steps], latents[chosen, :steps].astype(np.float32))
