"""The acceptance as one HTML page that needs nothing else, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from edge.acceptance.report import Acceptance, Check, GpuEngine, Timing
from edge.engines.tensorrt.record import Record

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --open: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --open: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.passed { color: var(--good); } .failed { color: var(--bad); } .open { color: var(--open); }
.verdict { font-size: 1.2rem; font-weight: 600; } .wide { overflow-x: auto; } small { opacity: .75; }
"""
_CLASSES = {"passed": "passed", "failed": "failed", "not run": "open"}


def page(found: Acceptance) -> str:
    """The whole document."""
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>latentloop acceptance: {escape(found.bundle)}</title>\n<style>{_STYLE}</style>",
            f"<h1>Acceptance of {escape(found.bundle)}</h1>",
            f"<p><small>latentloop {escape(found.latentloop)}, bundle sha256 {escape(found.bundle_sha256)}</small></p>",
            _verdict(found),
            "<h2>What had to be shown</h2>",
            _table(("check", "outcome", "found"), (_check(check) for check in found.checks)),
            "<h2>TensorRT</h2>",
            _gpu(found),
            "<h2>onnxruntime on the CPU</h2>",
            _table(
                ("part", "precision", "integer products", "rel. error", *_TIMES, "meanwhile, mean (max)"),
                (
                    (
                        escape(part.part),
                        escape(part.precision),
                        f"{part.integer_gemms} of {part.quantized_linears}",
                        f"{part.distance.relative_error:.4f}",
                        *_times(part.timing),
                    )
                    for part in found.cpu
                ),
            ),
            f"<p><small>Milliseconds of one call, {found.threads} thread. Errors are against float arithmetic, "
            f"{_MADE_OF[found.cpu[0].made_of]}.</small></p>",
            "<h2>Machine</h2>",
            _table(("", ""), ((escape(name), escape(value)) for name, value in found.machine.items())),
            "</html>\n",
        )
    )


_MADE_OF = {
    "noise": "on pictures of noise, for which no bundle is calibrated",
    "footage": "on pictures of footage that came with the bundle",
}
_TIMES = ("p50", "p90", "p99", "worst")
_NUMBERS = {*_TIMES, "cosine", "rel. error"}


def _verdict(found: Acceptance) -> str:
    if found.accepted:
        return '<p class="verdict passed">accepted</p>'
    failed = sum(check.outcome == "failed" for check in found.checks)
    if found.gpu_not_run:
        rest = f" and {failed} failed" if failed else ""
        return f'<p class="verdict open">not accepted: the GPU part was not run{rest}</p><p>{escape(found.gpu_not_run)}</p>'
    return f'<p class="verdict failed">not accepted: {failed} of {len(found.checks)} checks failed</p>'


def _check(check: Check) -> tuple[str, ...]:
    outcome = f'<span class="{_CLASSES[check.outcome]}">{check.outcome}</span>'
    return escape(check.what), outcome, escape(check.found if check.outcome != "not run" else "")


def _gpu(found: Acceptance) -> str:
    if found.gpu_not_run:
        return '<p class="open">not run</p>'
    return _table(
        ("part", "recipe", "precision", "cosine", "rel. error", "kernels", *_TIMES, "meanwhile, mean (max)"),
        (_engine(engine) for engine in found.gpu),
    )


def _engine(engine: GpuEngine) -> tuple[str, ...]:
    record, verdict = engine.record, engine.record.verdict
    distance = verdict.distance if verdict is not None else None
    launched = " (CUDA graph)" if engine.cuda_graph else ""
    times = _times(engine.timing) if engine.timing is not None else ("", "", "", "", escape(verdict.reason if verdict else ""))
    return (
        escape(record.part),
        escape(record.recipe) + launched,
        escape(record.precision),
        f"{distance.cosine:.5f}" if distance is not None else "",
        f"{distance.relative_error:.4f}" if distance is not None else "",
        _kernels(record),
        *times,
    )


def _kernels(record: Record) -> str:
    layers = record.layers
    if layers is None or not layers.detailed:
        return ""
    return (
        f"{layers.integer_gemms} of {layers.gemms} products in integers, {layers.fused_attention} fused attention, "
        f"{layers.reformats} reformats, {layers.total} in all"
    )


def _times(timing: Timing) -> tuple[str, ...]:
    return (
        *(f"{value:.3f}" for value in (timing.p50, timing.p90, timing.p99, timing.worst)),
        _sensors(timing.sensors),
    )


def _sensors(sensors: Mapping[str, Mapping[str, float]]) -> str:
    said = []
    for name, values in sensors.items():
        sensor, _, unit = name.rpartition(" ")
        said.append(f"{escape(sensor)} {values['mean']:.1f} ({values['max']:.1f}) {escape(unit)}")
    return "<br>".join(said) or "no sensors"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Rows are HTML already."""
    kinds = [' class="number"' if head in _NUMBERS else "" for head in heads]
    top = "".join(f"<th{kind}>{head}</th>" for kind, head in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n" for row in rows
    )
    return f'<div class="wide"><table>\n<tr>{top}</tr>\n{body}</table></div>'
