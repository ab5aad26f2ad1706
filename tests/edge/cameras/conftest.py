"""What the camera tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.edge.cameras.pictures import noisy, scene, write_avi


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds of noisy scene, 40 pictures at 20 per second."""
    rng = np.random.default_rng(1)
    return write_avi(tmp_path / "film.avi", [noisy(scene(), rng) for _ in range(40)])


@pytest.fixture
def ring_path(tmp_path: Path) -> Path:
    return tmp_path / "world.ring"
