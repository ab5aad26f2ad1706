"""Whether all numbers of a latent are finite, in one pass and without an array of answers."""

from __future__ import annotations

import math

import numpy as np

from edge.messages import Floats


def finite(values: Floats) -> bool:
    """False for what holds an infinity, a NaN, or numbers beyond 1e19, whose squares float32 cannot hold. Any shape."""
    flat = values.ravel()
    return math.isfinite(np.dot(flat, flat))
