"""A few pictures of the footage that a bundle was verified on, so that engines are tried on what the model is made for.

One file of the bundle, ``samples.npz``, listed and hashed like every other and absent where somebody left it out.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle, BundleError, Manifest
from edge.messages import Floats

FILE = "samples.npz"
RUNS = 4
MOST_BYTES = 4 << 20
"""Of pictures before compression. A single run may be larger, because it takes one to try a predictor."""


@dataclass(frozen=True, slots=True)
class Samples:
    """pictures: uint8 (R, C, F, H, W, 3) BGR, R runs of as many steps as a prediction sees. latents: float32 (R, C, T, D),
    what the encoder made of them before quantization."""

    pictures: NDArray[np.uint8]
    latents: Floats

    def steps(self) -> tuple[NDArray[np.uint8], Floats]:
        """Run after run: what the encoder sees, uint8 (R C, F, H, W, 3), and its latents (R C, T, D)."""
        return self.pictures.reshape(-1, *self.pictures.shape[2:]), self.latents.reshape(-1, *self.latents.shape[2:])

    def to_bytes(self) -> bytes:
        """The file."""
        written = io.BytesIO()
        np.savez_compressed(written, pictures=self.pictures, latents=self.latents)
        return written.getvalue()


def read_samples(bundle: Bundle) -> Samples | None:
    """Those of a bundle, None if it carries none. Raises BundleError if they do not fit its manifest."""
    path = bundle.path(FILE)
    if path is None:
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            found = Samples(arrays["pictures"], arrays["latents"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise BundleError(f"{path} holds no samples ({' '.join(str(error).split())}): export the bundle again") from None
    runs = max(1, len(found.pictures)) if found.pictures.ndim else 1
    for name, kind, shape in shapes(bundle.manifest, runs):
        values: NDArray[Any] = getattr(found, name)
        if (values.dtype.name, values.shape) != (kind, shape):
            raise BundleError(
                f"{path} has {name} {values.dtype} {values.shape} and the bundle needs {kind} {shape}: export the bundle again"
            )
    return found


def shapes(manifest: Manifest, runs: int) -> tuple[tuple[str, str, tuple[int, ...]], tuple[str, str, tuple[int, ...]]]:
    """Name, data type and shape of the pictures and of the latents of so many runs."""
    picture, latent, steps = manifest.picture, manifest.latent, manifest.time.context
    pictures = (runs, steps, picture.frames, picture.height, picture.width, 3)
    return ("pictures", "uint8", pictures), ("latents", "float32", (runs, steps, latent.tokens, latent.dim))


def runs_of(manifest: Manifest) -> int:
    """How many runs a bundle carries: :data:`RUNS`, or fewer of large pictures."""
    _, _, shape = shapes(manifest, 1)[0]
    return min(RUNS, max(1, MOST_BYTES // int(np.prod(shape))))
