"""Which CPU runtime runs an INT8 graph: the one asked for or, with "auto", the one that was measured to be faster here.

OpenVINO may win only where it multiplies in integers as often as onnxruntime does, gives the same outputs within the limits that
INT8 itself has to keep, and is faster by a margin. What was measured is kept in the user's state folder and holds for this graph,
this machine, these versions and this number of threads.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import platform
import time
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from edge.engines.engine import Array, Engine, EngineError
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.openvino_engine import OpenVinoEngine, installed
from edge.state_folder import state_folder
from edge.whole_file import write_whole

log = logging.getLogger(__name__)

Runtime: TypeAlias = Literal["onnxruntime", "openvino", "auto"]
TRIAL_S = 1.0
LEAST_ROUNDS = 5
MARGIN = 1.05
LEAST_COSINE, MOST_ERROR = 0.999, 0.05


class Trial(msgspec.Struct, frozen=True):
    """What was measured once. milliseconds: least of all calls, by runtime. reason: why it was chosen, for people."""

    chosen: Literal["onnxruntime", "openvino"]
    reason: str
    milliseconds: dict[str, float] = {}


def cpu_engine(
    model: bytes, where: str, *, runtime: Runtime, threads: int, spinning: bool, trials: Path | None = None
) -> Engine:
    """Load the quantized graph. The first "auto" blocks for a second and what loading takes in both. trials: folder of what was
    measured (default: in the state folder). Raises EngineError."""
    if runtime == "auto" and installed():
        kept = (trials or state_folder() / "engines") / f"{_key(model, threads, spinning)}.json"
        trial = _read(kept)
        if trial is None:
            return _tried(model, where, threads, spinning, kept)
        runtime = trial.chosen
    if runtime == "openvino":
        return OpenVinoEngine(model, where, threads=threads)
    return OnnxRuntimeEngine(model, where, threads=threads, spinning=spinning)


def _tried(model: bytes, where: str, threads: int, spinning: bool, kept: Path) -> Engine:
    """Both are loaded and measured; the loser is given back."""
    reference = OnnxRuntimeEngine(model, where, threads=threads, spinning=spinning)
    try:
        rival = OpenVinoEngine(model, where, threads=threads)
    except EngineError as error:
        log.warning("%s; onnxruntime runs it", error)
        return reference
    trial = try_out(reference, rival)
    log.info("%s: %s (%s)", where, trial.chosen, trial.reason)
    try:
        write_whole(kept, msgspec.json.encode(trial))
    except OSError as error:
        log.warning("%s cannot be written (%s): it is measured again at the next start", kept, error.strerror)
    winner, loser = (rival, reference) if trial.chosen == "openvino" else (reference, rival)
    loser.close()
    return winner


def try_out(reference: Engine, rival: Engine, seconds: float = TRIAL_S) -> Trial:
    """Both on the same plausible inputs, taking turns. Blocks for some ``seconds``."""
    if rival.info.integer_gemms < reference.info.integer_gemms:
        return Trial("onnxruntime", f"openvino runs only {rival.info.integer_gemms} of its products in integers")
    fill(reference)
    for name in reference.inputs:
        np.copyto(rival.input(name), reference.input(name))
    for engine in (reference, rival):
        engine.enqueue()
        engine.wait()
    for name in reference.outputs:
        cosine, error = _likeness(reference.output(name), rival.output(name))
        if not (cosine >= LEAST_COSINE and error <= MOST_ERROR):
            return Trial("onnxruntime", f"openvino's {name} differs: cosine {cosine:.5f}, relative error {error:.4f}")
    best = {"onnxruntime": np.inf, "openvino": np.inf}
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < LEAST_ROUNDS:
        rounds += 1
        for runtime, engine in (("onnxruntime", reference), ("openvino", rival)):
            started = time.perf_counter()
            engine.enqueue()
            engine.wait()
            best[runtime] = min(best[runtime], time.perf_counter() - started)
    gain = best["onnxruntime"] / best["openvino"]
    milliseconds = {runtime: round(s * 1e3, 4) for runtime, s in best.items()}
    reason = f"openvino takes {milliseconds['openvino']:g} ms, onnxruntime {milliseconds['onnxruntime']:g} ms"
    return Trial("openvino" if gain >= MARGIN else "onnxruntime", reason, milliseconds)


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


def _likeness(a: Array, b: Array) -> tuple[float, float]:
    """Cosine and ||a - b|| / ||a|| over everything."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    size = max(float(np.linalg.norm(x)), 1e-12)
    return float(x @ y) / (size * max(float(np.linalg.norm(y)), 1e-12)), float(np.linalg.norm(x - y)) / size


def _key(model: bytes, threads: int, spinning: bool) -> str:
    versions = [importlib.metadata.version(name) for name in ("onnxruntime", "openvino")]
    facts = [hashlib.sha256(model).hexdigest(), _processor(), *versions, str(threads), str(spinning)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:24]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line for line in file if line.startswith(("model name", "CPU part"))), platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def _read(path: Path) -> Trial | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trial)
    except (OSError, msgspec.DecodeError):
        return None
