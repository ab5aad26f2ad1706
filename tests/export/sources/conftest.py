"""LeWorldModel at full size with random weights of which every one matters, shared by the tests: tracing takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.reference.lewm_random import randomised, write_checkpoint
from export.sources.lewm_model import LeWM, LeWMSpec


@pytest.fixture(scope="session")
def full_size() -> LeWM:
    torch.set_num_threads(1)
    return randomised(LeWMSpec())


@pytest.fixture(scope="session")
def checkpoint(full_size: LeWM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lewm"), full_size)
