"""Coloured noise: action sequences that hold a direction for a while explore farther than white ones."""

from __future__ import annotations

import numpy as np

from edge.messages import Floats


def noise_bank(rng: np.random.Generator, rows: int, steps: int, width: int, colour: float) -> Floats:
    """Gaussian sequences whose power falls with frequency ** -colour, unit variance at every step.

    float32 (rows, steps, width); colour 0 is white. Method: Timmer and Koenig 1995, as in iCEM (Pinneri et al. 2020).
    The spectrum is drawn for twice the length and cut, so that the end of a sequence does not resemble its beginning.
    """
    length = 2 * steps
    frequencies = np.fft.rfftfreq(length)
    frequencies[0] = frequencies[1]
    weight = frequencies ** (-0.5 * colour)
    real, imaginary = rng.standard_normal((2, rows, width, len(weight)))
    series = np.fft.irfft((real + 1j * imaginary) * weight, n=length, axis=-1)[..., :steps]
    series /= series.std(axis=0).mean()
    return np.ascontiguousarray(series.transpose(0, 2, 1), dtype=np.float32)
