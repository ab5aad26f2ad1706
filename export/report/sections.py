"""The parts of the report page, each from the evidence to a piece of HTML, empty where there is nothing to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from export.evidence import Evidence
from export.gate import Judged
from export.layers import LayerError
from export.remedy import advice, bound_of, complaints, culprits, name_of
from export.report.charts import Line, line_chart, scatter

SHOWN = 10
"""Layers of a part that stand in the open; the others unfold."""
_OK = '<svg viewBox="0 0 32 32"><path d="M7 17l6 6 12-14"/></svg>'
_BAD = '<svg viewBox="0 0 32 32"><path d="M9 9l14 14M23 9L9 23"/></svg>'
_WHAT = {
    "parity": "relative error on real inputs, the worst of a few",
    "encoder": "latents of the same pictures, mean",
    "predictor": "first open-loop prediction from the same latents, mean",
    "end_to_end": "both parts one behind the other, as on the device",
    "planner": "costs of the same plans from the same state",
    "anomaly": "FP32 minus INT8 on labelled footage",
}


def head(evidence: Evidence, weight: int | None, speedups: Mapping[str, float]) -> str:
    """The verdict and the few figures that matter most. weight: bytes of the INT8 graphs. speedups: by part."""
    held = sum(line.passed for line in evidence.gate)
    passed = evidence.passed and bool(evidence.gate)
    verdict = "Accepted" if passed else "Below the gate" if evidence.gate else "Not measured"
    against = escape(evidence.about.against)
    summary = f"INT8 against {against}: {held} of {len(evidence.gate)} limits hold."
    if not passed and evidence.gate:
        summary += " Not held: " + escape("; ".join(complaints(evidence))) + "."
    figures = evidence.figures
    facts: list[tuple[str, str]] = []
    for section, figure, label, write in (
        ("encoder", "cosine", "cosine of latents", _digits),
        ("end_to_end", "relative_error", "error end to end", percent),
        ("planner", "rank_correlation", "rank correlation of costs", _digits),
        ("planner", "action_agreement", "same action chosen", percent),
        ("anomaly", "int8_auroc", "anomaly AUROC", _digits),
    ):
        value = figures.get(section, {}).get(figure)
        if value is not None:
            facts.append((write(value), label))
    if weight:
        facts.append((size(weight), "INT8 graphs"))
    facts += [(f"{value:g} x", f"speed of the {part}") for part, value in speedups.items()]
    listed = "".join(f"<li><b>{escape(value)}</b><span>{escape(label)}</span></li>" for value, label in facts)
    return (
        f'<header class="{"accepted" if passed else "refused"}"><div class="seal">{_OK if passed else _BAD}</div>'
        f'<div><p class="verdict">{verdict}</p><h1>{escape(evidence.about.name)}</h1></div>'
        f'<p class="summary">{summary}</p><ul class="facts">{listed}</ul></header>'
    )


def remedy(evidence: Evidence) -> str:
    """What to do, below the gate."""
    if evidence.passed:
        return ""
    layers = "".join(f"<li>{escape(part)}: {escape(named)}</li>" for part, named in culprits(evidence))
    blamed = f"<p>Layers that cost most when they alone are quantized:</p><ul>{layers}</ul>" if layers else ""
    said = advice(evidence)
    return f'<section class="remedy"><h2>What to do</h2>{blamed}<p>{escape(said[:1].upper() + said[1:])}.</p></section>'


def gate(evidence: Evidence) -> str:
    """Every limit: measured, bound, how much of it is used, held or not."""
    if not evidence.gate:
        return ""
    rows = "".join(_gate_row(line) for line in evidence.gate)
    titles = '<th>figure</th><th class="number">measured</th><th class="number">limit</th><th>&ensp;room used</th><th></th>'
    note = "A bundle is written only if every line holds."
    table = f'<table class="gate"><tr>{titles}</tr>{rows}</table>'
    return f'<section><h2>Gate</h2><p class="hint">{note}</p><div class="wide">{table}</div></section>'


def plots(evidence: Evidence) -> str:
    """Growth over the horizon, prediction against what came, and the planner's costs."""
    shown = []
    steps = evidence.growth
    if steps:
        lines = [
            Line("worst run", "worst", [(s.step, s.worst) for s in steps]),
            Line("both parts in INT8", "int8", [(s.step, s.chained) for s in steps]),
            Line("predictor alone in INT8", "alone", [(s.step, s.alone) for s in steps]),
        ]
        drawn = line_chart(lines, x_label="steps predicted ahead", y_label="relative error", write=percent)
        shown.append(_plot("Growth of the error", "Open loop: how far INT8 predictions are from those of FP32.", drawn))
    pairs = [(s.step, s.fp32, s.int8) for s in steps if s.fp32 is not None and s.int8 is not None]
    if pairs:
        lines = [
            Line("INT8", "int8", [(step, int8) for step, _, int8 in pairs]),
            Line("FP32", "fp32", [(step, fp32) for step, fp32, _ in pairs]),
        ]
        small = max(max(fp32, int8) for _, fp32, int8 in pairs) <= 2.0
        write = percent if small else "{:g}".format
        drawn = line_chart(lines, x_label="steps predicted ahead", y_label="error, share of variance", write=write)
        told = "Squared distance to the latent that really came, as a share of the latents' variance; 1 is a constant guess."
        shown.append(_plot("Prediction against what came", told, drawn))
    if evidence.costs is not None:
        drawn = scatter(
            evidence.costs.plans,
            evidence.costs.chosen,
            x_label="cost in FP32",
            y_label="cost in INT8",
            names=("a plan", "the one that INT8 picks, per state"),
        )
        told = "The same plans from the same states, each chain on its own latents. On the line both agree."
        shown.append(_plot("Costs that the planner sees", told, drawn))
    return f'<div class="pair">{"".join(shown)}</div>' if shown else ""


def layers(evidence: Evidence) -> str:
    """Bars, worst first, by part."""
    if not evidence.layers:
        return ""
    parts = []
    for part, found in evidence.layers.items():
        most = max((each.relative_error for each in found), default=0.0)
        shown = _bars(found[:SHOWN], most)
        rest = found[SHOWN:]
        folded = f"<details><summary>{len(rest)} more</summary>{_bars(rest, most)}</details>" if rest else ""
        count = "1 layer" if len(found) == 1 else f"{len(found)} layers"
        parts.append(f"<div><h3>{escape(part)}: {count}</h3>{shown}{folded}</div>")
    note = (
        "Relative error of what each quantized Linear gives inside the whole INT8 graph, so with the errors of all before it. "
        "In a rollout a layer is used in every step; its worst one counts."
    )
    return (
        f'<section><h2>Error by layer</h2><p class="hint">{note}</p><div class="columns">{"".join(parts)}</div>'
        f"{_kept_in_float(evidence)}</section>"
    )


def lint(evidence: Evidence) -> str:
    """What TensorRT would refuse or get wrong, by target."""
    found: Mapping[str, Sequence[str]] | None = evidence.figures.get("lint")
    if not found:
        return ""
    rows = []
    for target, findings in found.items():
        mark = _mark(not findings, "nothing found", f"{len(findings)} found")
        listed = "".join(f"<li>{escape(each)}</li>" for each in findings)
        rows.append(f"<div><h3>{escape(target)} {mark}</h3>" + (f"<ul>{listed}</ul>" if listed else "") + "</div>")
    note = "Read from the graphs by rules; nothing here has run on TensorRT."
    return f'<section><h2>Lint for TensorRT</h2><p class="hint">{note}</p><div class="columns">{"".join(rows)}</div></section>'


def provenance(evidence: Evidence) -> str:
    """What was calibrated and verified with which frames, and what became of each part."""
    figures = evidence.figures
    rows = [("made from", evidence.about.made_from), ("made by", evidence.about.made_by), ("held against", evidence.about.against)]
    rows += [(f"{part} calibrated on", ran) for part, ran in evidence.calibrated_on.items()]
    if "verified_on" in figures:
        rows.append(("verified on", figures["verified_on"]))
    if "linears_quantized" in figures:
        gemms = figures.get("integer_gemms", {})
        told = [
            f"{part} {count}" + (f" ({gemms[part]} run as integer products)" if part in gemms else "")
            for part, count in figures["linears_quantized"].items()
        ]
        rows.append(("Linears quantized", ", ".join(told)))
    if figures.get("norms_folded"):
        rows.append(("norms smoothed", ", ".join(f"{part} {count}" for part, count in figures["norms_folded"].items())))
    if "search" in figures:
        told_search = figures["search"]
        rows.append(
            (
                "whole planner search",
                f"the same first action in {percent(told_search['action_agreement'])} of {told_search['states']:.0f} states, "
                f"at a regret of {percent(told_search['regret'])} of the spread of costs",
            )
        )
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f'<section><h2>Footage and calibration</h2><div class="wide"><table>{body}</table></div></section>'


def anomaly(evidence: Evidence) -> str:
    """AUROC on labelled footage, if there was any."""
    found: Mapping[str, Any] | None = evidence.figures.get("anomaly")
    if not found:
        return ""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{_digits(pair["fp32"])}</td>'
        f'<td class="number">{_digits(pair["int8"])}</td></tr>'
        for name, pair in found["scores"].items()
    )
    titles = '<th>score of a frame</th><th class="number">AUROC, FP32</th><th class="number">AUROC, INT8</th>'
    note = escape(str(found["labelled_on"]))
    return f'<section><h2>Anomalies</h2><p class="hint">{note}</p><table><tr>{titles}</tr>{rows}</table></section>'


def percent(value: float, *, in_column: bool = False) -> str:
    """Three figures, however small. in_column: zeros at the end stay, so that numbers below each other are of one length."""
    if value == 0.0 or not math.isfinite(value):
        return "0 %" if value == 0.0 else str(value)
    share = 100.0 * value
    digits = max(0, min(4, 2 - math.floor(math.log10(abs(share)))))
    written = f"{share:.{digits}f}"
    return (written.rstrip("0").rstrip(".") if digits and not in_column else written) + " %"


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _gate_row(line: Judged) -> str:
    value = "not a number" if line.measured is None else _digits(line.measured)
    used = _room_used(line)
    meter = f'<div class="meter{"" if line.passed else " over"}"><i style="width:{100 * min(used, 1.0):.0f}%"></i></div>'
    what = f'<span class="what">{escape(_WHAT.get(line.section, ""))}</span>'
    mark = _mark(line.passed, "held", "not held")
    return (
        f'<tr><td>{escape(name_of(line))}{what}</td><td class="number">{value}</td>'
        f'<td class="number">{bound_of(line)}</td><td title="{percent(used)} of what is allowed">{meter}</td><td>{mark}</td></tr>'
    )


def _kept_in_float(evidence: Evidence) -> str:
    """Layers that the gate did not let into INT8, with the reason."""
    kept: Mapping[str, Mapping[str, str]] = evidence.figures.get("kept_in_float", {})
    rows = "".join(
        f'<li><span class="mono">{_breakable(layer)}</span> of the {escape(part)}: {escape(why)}</li>'
        for part, found in kept.items()
        for layer, why in found.items()
    )
    return f'<h3>Kept in float</h3><ul class="kept">{rows}</ul>' if rows else ""


def _breakable(name: str) -> str:
    """A dotted name as HTML that breaks at its dots first."""
    return escape(name).replace(".", ".<wbr>")


def _room_used(line: Judged) -> float:
    """The share of the allowed loss that is used; of figures that are best at 1 the loss is what they lack."""
    if line.measured is None:
        return 1.0
    if line.least is not None:
        return max(0.0, (1.0 - line.measured) / (1.0 - line.least))
    return max(0.0, line.measured / (line.most or 1.0))


def _bars(found: Sequence[LayerError], most: float) -> str:
    rows = []
    for each in found:
        width = 100.0 * each.relative_error / most if most else 0.0
        places = f", in {each.places} places" if each.places > 1 else ""
        name = escape(each.layer)
        rows.append(
            f'<span class="name" title="{name}{places}">{_breakable(each.layer)}</span>'
            f'<span class="track"><i style="width:{width:.1f}%"></i></span>'
            f'<span class="value" title="cosine {each.cosine:.6g}">{percent(each.relative_error, in_column=True)}</span>'
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def _plot(title: str, told: str, drawn: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="hint">{escape(told)}</p>{drawn}</section>'


def _mark(good: bool, yes: str, no: str) -> str:
    return f'<span class="mark ok">✓ {yes}</span>' if good else f'<span class="mark bad">✗ {no}</span>'


def _digits(value: float) -> str:
    """Five figures, as many as are measured; of 1 as well, which else looks exact."""
    written = f"{value:.5g}"
    return "1.0000" if written == "1" else written
