"""One export of a small-planned rover with random weights, shared by the tests of this folder: tracing takes seconds.

Random weights are below the gate, so the bundle is put together by hand."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from edge.bundle import Bundle
from export.assemble import assemble
from export.reference.rover_export import Measured, measure_rover
from export.reference.rover_model import Block, RoverModel, RoverModelSpec

CANDIDATES, HORIZON = 8, 4


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scale tables of a test are its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latentloop" / "scales"


class Exported(NamedTuple):
    model: RoverModel
    bundle: Bundle
    measured: Measured


def random_model() -> RoverModel:
    """Random weights of which every one matters: those that training starts at zero are drawn too."""
    torch.manual_seed(0)
    model = RoverModel(RoverModelSpec(blocks=2)).eval()  # tracing a third would take seconds and test nothing more
    for block in model.predictor.blocks:
        assert isinstance(block, Block)
        nn.init.normal_(block.modulation.weight, std=0.05)
        nn.init.normal_(block.modulation.bias, std=0.2)
        nn.init.normal_(block.lag_bias)
    norm = model.encoder.batch_norm
    for statistics in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(statistics, 0.5, 1.5)
    return model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.set_num_threads(1)
    model = random_model()
    out: Path = tmp_path_factory.mktemp("bundles") / "rover"
    measured = measure_rover(model, made_from="random weights", candidates=CANDIDATES, horizon=HORIZON, episodes=2, states=50)
    bundle = assemble(
        out, measured.manifest, measured.quantized, with_fp32=True, evidence=measured.accepted.evidence, samples=measured.samples
    )
    return Exported(model, bundle, measured)
