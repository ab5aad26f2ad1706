"""The whole report page: one HTML file with its style and plots inside, and no script."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from edge.bundle import Bundle
from export.evidence import Evidence
from export.report import sections
from export.report.sections import size

STYLE = Path(__file__).with_name("page.css")
PARTS = ("encoder", "predictor", "rollout")


def render(evidence: Evidence, bundle: Bundle | None = None, bench: Mapping[str, Any] | None = None) -> str:
    """bundle: where the evidence is of one that was written. bench: what ``latentloop bench engines --json`` measured."""
    weight = sum(each.int8 for each in evidence.sizes.values()) or None
    speedups = {part: bench[part]["int8_speedup"] for part in PARTS if bench and "int8_speedup" in bench.get(part, {})}
    body = [
        sections.head(evidence, weight, speedups),
        sections.remedy(evidence),
        sections.gate(evidence),
        sections.plots(evidence),
        sections.layers(evidence),
        sections.anomaly(evidence),
        _speed(bench) if bench else "",
        sections.lint(evidence),
        sections.provenance(evidence),
        _files(evidence, bundle),
        _everything(evidence),
    ]
    title = escape(f"{evidence.about.name}: INT8 acceptance")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{title}</title>\n<style>\n{STYLE.read_text("utf-8")}</style></head>\n<body>\n'
        + "\n".join(part for part in body if part)
        + f"\n<footer>{escape(evidence.about.made_by)}</footer>\n</body></html>\n"
    )


def _speed(bench: Mapping[str, Any]) -> str:
    """Milliseconds per call, runtime by runtime."""
    parts = []
    for part in PARTS:
        if part not in bench:
            continue
        row = bench[part]
        times = [
            (f"{runtime} {precision.upper()}", precision, figures[f"{precision}_ms"])
            for runtime, figures in {"onnxruntime": row, **row.get("peers", {})}.items()
            for precision in ("fp32", "int8")
            if f"{precision}_ms" in figures
        ]
        most = max((ms for *_, ms in times), default=1.0)
        bars = "".join(
            f'<span class="name">{escape(name)}</span><span class="track"><i class="{style}" style="width:{100 * ms / most:.1f}%">'
            f'</i></span><span class="value">{ms:.3g} ms</span>'
            for name, style, ms in times
        )
        gained = f", INT8 {row['int8_speedup']:g} times as fast" if "int8_speedup" in row else ""
        parts.append(f'<div><h3>{escape(part)}{gained}</h3><div class="bars">{bars}</div></div>')
    note = f"{bench.get('machine', 'unknown machine')}, {bench.get('threads', 1)} thread; {bench.get('statistic', '')}"
    return f'<section><h2>Speed</h2><p class="hint">{escape(note)}</p><div class="columns">{"".join(parts)}</div></section>'


def _files(evidence: Evidence, bundle: Bundle | None) -> str:
    rows = []
    for part, each in evidence.sizes.items():
        rows.append(
            f'<tr><td>{escape(part)}</td><td class="number">{size(each.fp32)}</td><td class="number">{size(each.int8)}</td>'
            f'<td class="number">{each.fp32 / max(each.int8, 1):.2f} x</td></tr>'
        )
    titles = '<th>graph</th><th class="number">FP32</th><th class="number">INT8</th><th class="number">smaller</th>'
    sizes = f"<table><tr>{titles}</tr>{''.join(rows)}</table>" if rows else ""
    listed = ""
    if bundle is not None:
        files = "".join(
            f'<tr><td class="mono">{escape(name)}</td><td class="number">{size((bundle.folder / name).stat().st_size)}</td>'
            f'<td class="hash">{digest}</td></tr>'
            for name, digest in bundle.manifest.files.items()
        )
        whole = f'<tr><td class="mono">bundle.toml</td><td></td><td class="hash">{bundle.sha256}</td></tr>'
        named = '<th>file</th><th class="number">size</th><th>sha256</th>'
        listed = f'<h3>Files of the bundle</h3><div class="wide"><table class="files"><tr>{named}</tr>{files}{whole}</table></div>'
    return f"<section><h2>Sizes and hashes</h2>{sizes}{listed}</section>" if sizes or listed else ""


def _everything(evidence: Evidence) -> str:
    figures = msgspec.json.format(msgspec.json.encode(_finite(evidence.figures)), indent=1).decode()
    folded = f"<details><summary>as in the bundle</summary><pre>{escape(figures)}</pre></details>"
    return f"<section><h2>All figures</h2>{folded}</section>"


def _finite(value: Any) -> Any:
    """JSON has no infinity: as text."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
