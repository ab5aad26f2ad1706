"""``bench engines``: what INT8 gains over FP32 on this machine, graph by graph, one thread.

Runtimes take turns call by call, so that a busy machine slows all of them alike, and the best time of each is its
figure: everything else that the machine does can only add to it. Medians are given beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from edge.bundle import Bundle, Part, load
from edge.engines import Engine, EngineSettings, load_engine
from edge.engines.cpu import fill
from edge.engines.openvino_engine import OpenVinoEngine, installed

PARTS: tuple[Part, ...] = ("encoder", "predictor", "rollout")
PEERS = "latentloop.bench_peers"
"""Entry points of this group bring other runtimes: ``peer(bundle, part) -> {"int8" or "fp32": call}``, empty if the
bundle is none of theirs. ``call()`` runs the part once, on one thread."""

Call = Callable[[], None]
_COLUMNS = (("fp32_ms", 9), ("int8_ms", 9), ("int8_speedup", 6))


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench engines``."""
    parser = subparsers.add_parser("engines", help="INT8 against FP32 in every runtime that is installed, one thread")
    parser.add_argument("--bundle", default="rover", help="bundle folder or name (default: %(default)s)")
    parser.add_argument("--seconds", type=_seconds, default=6.0, help="time to spend per graph (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def bench_engines(bundle: Bundle, seconds: float = 6.0) -> dict[str, Any]:
    """Time every part of a bundle. Blocks for some ``seconds`` per part. The result serialises to JSON.

    Per part: fp32_ms and int8_ms in onnxruntime, int8_speedup, integer_gemms counted in the graph that ran, and peers,
    the same for other runtimes. Raises EngineError.
    """
    report: dict[str, Any] = {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "machine": _machine(),
        "threads": 1,
        "statistic": "least of all calls, runtimes taking turns; *_median_ms beside it",
    }
    for part in PARTS:
        if getattr(bundle.manifest.graphs, part) is not None:
            report[part] = _bench_part(bundle, part, seconds)
    return report


def _bench_part(bundle: Bundle, part: Part, seconds: float) -> dict[str, Any]:
    integer = load_engine(bundle, part)
    floating = load_engine(bundle, part, EngineSettings(precision="fp32"))
    for engine in (integer, floating):
        fill(engine)
    rivals = _openvino(bundle, part)
    for engine in rivals.values():
        fill(engine)
    calls: dict[tuple[str, str], Call] = {
        ("onnxruntime", "int8"): integer.enqueue,
        ("onnxruntime", "fp32"): floating.enqueue,
    }
    calls |= {("openvino", precision): engine.enqueue for precision, engine in rivals.items()}
    for name, peer in _peers().items():
        calls |= {(name, precision): call for precision, call in peer(bundle, part).items()}
    times = take_turns(calls, seconds)
    result: dict[str, Any] = {
        **_figures(times, "onnxruntime"),
        "precision": integer.info.precision,
        "integer_gemms": integer.info.integer_gemms,
        "quantized_linears": integer.info.quantized_linears,
        "runtime": integer.info.runtime,
        "calls": len(times["onnxruntime", "int8"]),
        "peers": {name: _figures(times, name) for name in dict.fromkeys(n for n, _ in calls) if name != "onnxruntime"},
    }
    if rivals:
        result["peers"]["openvino"]["integer_gemms"] = rivals["int8"].info.integer_gemms
    for engine in (integer, floating, *rivals.values()):
        engine.close()
    return result


def _openvino(bundle: Bundle, part: Part) -> dict[str, Engine]:
    """The same graph in OpenVINO by precision, where it is installed: INT8, and FP32 where the bundle has that graph."""
    if not installed():
        return {}
    graph = bundle.graph(part)
    files = {"int8": graph.file} | ({"fp32": graph.fp32} if graph.fp32 is not None else {})
    return {precision: OpenVinoEngine((bundle.folder / file).read_bytes(), file) for precision, file in files.items()}


def take_turns(calls: Mapping[tuple[str, str], Call], seconds: float) -> dict[tuple[str, str], list[float]]:
    """Call all in turn until ``seconds`` are over, at least ten times each, after warming up. Milliseconds per call."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 10:
        for key, call in calls.items():
            started = time.perf_counter()
            call()
            times[key].append((time.perf_counter() - started) * 1e3)
    return times


def _figures(times: Mapping[tuple[str, str], list[float]], runtime: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    for precision in ("fp32", "int8"):
        measured = times.get((runtime, precision))
        if measured:
            figures[f"{precision}_ms"] = round(min(measured), 4)
            figures[f"{precision}_median_ms"] = round(float(np.median(measured)), 4)
    if {"fp32_ms", "int8_ms"} <= figures.keys():
        figures["int8_speedup"] = round(figures["fp32_ms"] / figures["int8_ms"], 2)
    return figures


def _peers() -> dict[str, Callable[[Bundle, Part], Mapping[str, Call]]]:
    peers: dict[str, Callable[[Bundle, Part], Mapping[str, Call]]] = {}
    for entry in entry_points(group=PEERS):
        try:
            peers[entry.name] = entry.load()
        except ImportError:  # what it needs is not installed on this machine
            continue
    return peers


def _machine() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or 'unknown CPU'}, {platform.machine()}"


def _run(arguments: argparse.Namespace) -> int:
    report = bench_engines(load(arguments.bundle), arguments.seconds)
    if arguments.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return 0
    print(f"{report['bundle']} on {report['machine']}, one thread, best of all calls in ms")
    print(f"{'graph':<10} {'runtime':<12} {'FP32':>9} {'INT8':>9} {'gain':>6}  integer GEMMs")
    for part in PARTS:
        if part not in report:
            continue
        row = report[part]
        for name, figures in {"onnxruntime": row, **row["peers"]}.items():
            cells = [_cell(figures.get(key), width) for key, width in _COLUMNS]
            gemms = f"{figures['integer_gemms']} of {row['quantized_linears']}" if "integer_gemms" in figures else ""
            print(f"{part:<10} {name:<12} {' '.join(cells)}  {gemms}".rstrip())
    return 0


def _cell(value: float | None, width: int) -> str:
    return f"{value:>{width}.2f}" if value is not None else f"{'-':>{width}}"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return value
