"""Which layers stay in float, part after part and then for the chain."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edge.bundle import Part
from export.gate import LIMITS, Failure
from export.quantize import sensitivity
from export.quantize.pipeline import Calibration, Quantized, quantize
from export.quantize.sensitivity import damage_by_layer
from export.restoring import restore_layers
from tests.export.test_quantize import batch, block

ALONE = next(limit for limit in LIMITS if (limit.section, limit.figure) == ("predictor", "cosine"))
CHAIN = next(limit for limit in LIMITS if (limit.section, limit.figure) == ("end_to_end", "cosine"))


@pytest.fixture(scope="module")
def graph() -> Quantized:
    return quantize(block(), lambda: [batch(i) for i in range(8)], Calibration(correcting=False), made_from="a test")


def unasked(kept: object) -> dict[Part, Quantized]:
    raise AssertionError("the predictor feeds nobody")


@pytest.mark.parametrize(
    ("alone", "chain", "kept"),
    [
        (0, 0, 0),  # how many of the worst layers must be in float for the part alone, for the chain, and at last
        (1, 1, 1),
        (1, 2, 2),
        (0, 1, 1),
    ],
)
def test_what_is_wrong_only_in_the_chain_is_mended_after_the_parts(graph, alone, chain, kept, monkeypatch):
    monkeypatch.setattr(sensitivity, "MOST_IN_FLOAT", 0.9)  # six layers, of which one is a quarter already
    worst = [each.layer for each in damage_by_layer("predictor", graph, [batch(50)])]

    def judge(parts: Mapping[Part, Quantized]) -> list[Failure]:
        quantized = {linear.layer for linear in parts["predictor"].chosen}
        limits = ((ALONE, alone), (CHAIN, chain))
        return [Failure(limit, 0.5) for limit, needed in limits if quantized & set(worst[:needed])]

    found = restore_layers({"predictor": graph}, {"predictor": [batch(50)]}, judge({"predictor": graph}), judge, unasked)
    assert found.kept.get("predictor", {}).keys() == set(worst[:kept]) and not found.blame
    assert not judge(found.graphs)


def test_a_part_that_cannot_be_mended_is_blamed_once(graph):
    asked = []

    def judge(parts: Mapping[Part, Quantized]) -> list[Failure]:
        asked.append(parts)
        return [Failure(ALONE, 0.5)]

    found = restore_layers({"predictor": graph}, {"predictor": [batch(50)]}, [Failure(ALONE, 0.5)], judge, unasked)
    assert found.graphs["predictor"] is graph and list(found.blame) == ["predictor"] and not found.kept
    assert len(asked) <= 3
