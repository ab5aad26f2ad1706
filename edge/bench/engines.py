"""``bench engines``: what INT8 gains over FP32 on this machine, graph by graph, one thread.

Runtimes take turns call by call, so that a busy machine slows all of them alike, and the best time of each is its
figure: everything else that the machine does can only add to it. Medians are given beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from edge.bundle import Bundle, Part, Precision, load
from edge.cpu_name import cpu_name
from edge.engines import Engine, EngineSettings, load_engine
from edge.engines.cpu_runtime import CpuRuntime
from edge.engines.openvino_engine import openvino_installed

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
    the same for OpenVINO and what other packages bring. Raises EngineError.
    """
    report: dict[str, Any] = {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "machine": cpu_name(),
        "threads": 1,
        "statistic": "least of all calls, runtimes taking turns; *_median_ms beside it",
    }
    for part in PARTS:
        if getattr(bundle.manifest.graphs, part) is not None:
            report[part] = _bench_part(bundle, part, seconds)
    return report


def _bench_part(bundle: Bundle, part: Part, seconds: float) -> dict[str, Any]:
    engines = _engines(bundle, part)
    calls: dict[tuple[str, str], Call] = {}
    for key, engine in engines.items():
        fill(engine)
        calls[key] = engine.enqueue
    for name, peer in _peers().items():
        calls |= {(name, precision): call for precision, call in peer(bundle, part).items()}
    times = take_turns(calls, seconds)
    rows: dict[str, dict[str, Any]] = {name: _figures(times, name) for name in dict.fromkeys(name for name, _ in calls)}
    for (name, precision), engine in engines.items():
        if precision == "int8":
            info = engine.info
            rows[name] |= {
                "precision": info.precision,
                "integer_gemms": info.integer_gemms,
                "quantized_linears": info.quantized_linears,
                "runtime": info.runtime,
            }
        engine.close()
    own = rows.pop("onnxruntime")
    return {**own, "calls": len(times["onnxruntime", "int8"]), "peers": rows}


def _engines(bundle: Bundle, part: Part) -> dict[tuple[CpuRuntime, Precision], Engine]:
    """Of onnxruntime and, where it is installed, of OpenVINO, which has no FP32 without an FP32 graph in the bundle."""
    wanted: list[tuple[CpuRuntime, Precision]] = [("onnxruntime", "int8"), ("onnxruntime", "fp32")]
    if openvino_installed():
        wanted.append(("openvino", "int8"))
        if bundle.graph(part).fp32 is not None:
            wanted.append(("openvino", "fp32"))
    return {(name, kind): load_engine(bundle, part, EngineSettings(runtime=name, precision=kind)) for name, kind in wanted}


def fill(engine: Engine) -> None:
    """Give every input of an engine plausible values: noise pictures, normal latents, actions in [-1, 1]."""
    rng = np.random.default_rng(0)
    for name, spec in engine.inputs.items():
        if spec.dtype == "uint8":
            engine.input(name)[...] = rng.integers(0, 256, spec.shape, dtype=np.uint8)
        elif "actions" in name:
            engine.input(name)[...] = rng.uniform(-1.0, 1.0, spec.shape)
        else:
            engine.input(name)[...] = rng.normal(size=spec.shape)


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
            gemms = f"{figures['integer_gemms']} of {figures['quantized_linears']}" if "integer_gemms" in figures else ""
            print(f"{part:<10} {name:<12} {' '.join(cells)}  {gemms}".rstrip())
    return 0


def _cell(value: float | None, width: int) -> str:
    return f"{value:>{width}.2f}" if value is not None else f"{'-':>{width}}"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return value
