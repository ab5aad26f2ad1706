"""The PyTorch peer runs every part of the reference bundles, and nothing of others."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from edge.bundle import load
from export.reference.torch_peer import torch_peer


def test_every_part_of_the_rover_runs_in_torch(exported):
    for part in ("encoder", "predictor", "rollout"):
        torch_peer(exported.bundle, part)["fp32"]()


@pytest.mark.parametrize("part", ["encoder", "predictor"])
def test_every_part_of_the_camera_runs_in_torch(part):
    torch_peer(load("camera"), part)["fp32"]()


def test_foreign_bundles_have_no_peer_in_torch():
    bundle = load("camera")
    foreign = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, name="mine"))
    assert torch_peer(foreign, "encoder") == {}
