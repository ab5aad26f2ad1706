"""A training that was killed goes on where its last checkpoint stood."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from export.reference.training import Training  # noqa: E402

STEPS = 20


def begun(folder, every_s):
    torch.manual_seed(3)
    model = torch.nn.Linear(4, 2)
    return model, Training(model, rate=0.1, steps=STEPS, folder=folder, every_s=every_s)


def train(model, training, steps):
    for step in steps:
        training.lower(model(torch.ones(3, 4)).square().mean())
        training.keep(step)


def test_in_two_goes_it_comes_to_the_same_weights(tmp_path):
    whole, training = begun(tmp_path / "whole", 0.0)
    train(whole, training, range(STEPS))
    halves, training = begun(tmp_path / "halves", 0.0)
    train(halves, training, range(STEPS // 2))
    halves, training = begun(tmp_path / "halves", 0.0)
    assert training.first == STEPS // 2
    train(halves, training, range(training.first, STEPS))
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_checkpoints_come_when_they_are_due_and_at_the_end(tmp_path):
    model, training = begun(tmp_path, 3600.0)
    train(model, training, range(STEPS - 1))
    assert not (tmp_path / "checkpoint.pt").exists()
    train(model, training, [STEPS - 1])
    assert begun(tmp_path, 3600.0)[1].first == STEPS
