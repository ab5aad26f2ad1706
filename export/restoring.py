"""Below the gate: keep the layers that INT8 hurts most in float, as few as it takes to pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from edge.bundle import Part
from export.gate import Failure
from export.quantize.pipeline import Quantized
from export.quantize.sensitivity import Damage, damage_by_layer, restore
from export.sources.source import Feed

IN_A_CHAIN = ("end_to_end", "anomaly")
"""Sections of the gate in which every part has its share; the later ones are calibrated on what the earlier ones give."""
NAMED = 5
"""Layers that are named where keeping some in float is not enough."""


@dataclass(frozen=True)
class Restored:
    """graphs: with layers in float where that made a part pass, else as they were. kept: for the report, by part, each layer
    with its reason. blame: by part that does not pass all the same, the layers that cost most, with their error alone."""

    graphs: dict[Part, Quantized]
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    blame: dict[str, list[tuple[str, float]]] = field(default_factory=dict)


def restore_layers(
    quantized: Mapping[Part, Quantized],
    samples: Mapping[Part, Sequence[Feed]],
    failed: Sequence[Failure],
    judge: Callable[[Mapping[Part, Quantized]], Sequence[Failure]],
    recalibrate: Callable[[Mapping[Part, Collection[str]]], dict[Part, Quantized]],
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Restored:
    """Part after part. samples: a few inputs of each part, on which layers are tried alone. failed: what judge says of
    ``quantized``. judge: measures graphs on footage that calibration has not seen; asked some twenty times per part at most.
    recalibrate: the graphs anew with these layers in float, for the parts that were calibrated on what a part before them gave.
    Failures of parity are passed over."""
    found = Restored(dict(quantized))
    for part in quantized:
        wrong = _of(part, failed, found.graphs)
        if not wrong or not found.graphs[part].chosen:
            continue
        say(f"measuring what each layer of the {part} costs")
        damage = damage_by_layer(part, found.graphs[part], samples[part], progress)

        sections = {failure.limit.section for failure in wrong}

        def passes(candidate: Quantized, part: Part = part, sections: Collection[str] = sections) -> bool:
            still = _of(part, judge({**found.graphs, part: candidate}), found.graphs)
            return not any(failure.limit.section in sections for failure in still)

        better = restore(found.graphs[part], damage, passes, say)
        if better is None:
            found.blame[part] = [(each.layer, each.error) for each in damage[:NAMED]]
            continue
        inside = {linear.layer for linear in better.chosen}
        found.kept[part] = {each.layer: _reason(each, wrong) for each in damage if each.layer not in inside}
        found.graphs[part] = better
        if part == "encoder" and len(quantized) > 1:
            say("calibrating the others on what the encoder gives now")
            found.graphs.update(recalibrate({"encoder": found.kept["encoder"]}))
        failed = judge(found.graphs)
    return found


def _of(part: Part, failed: Sequence[Failure], parts: Mapping[Part, Quantized]) -> list[Failure]:
    """The failures that layers of this part can mend: those of the part alone, and only where there are none those of the
    parts in a chain. What the planner makes of it is the rollout's, where there is one."""
    own = []
    for failure in failed:
        limit = failure.limit
        blamed = "rollout" if limit.section == "planner" and "rollout" in parts else limit.part
        if limit.section != "parity" and blamed == part:
            own.append(failure)
    return [failure for failure in own if failure.limit.section not in IN_A_CHAIN] or own


def _reason(damage: Damage, wrong: Sequence[Failure]) -> str:
    return f"alone it costs {damage.error:.2%}; with all layers in INT8 {' and '.join(f.sentence for f in wrong)}"
