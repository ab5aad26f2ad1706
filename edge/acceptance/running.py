"""Run the acceptance: the bundle on the CPU, then the same in TensorRT where there is a GPU."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from edge.acceptance.report import Acceptance, Check, CpuPart, GpuEngine, Timing
from edge.acceptance.sensors import Watched
from edge.bundle import Bundle, Part
from edge.engines import onnx_file
from edge.engines.engine import Engine, EngineError
from edge.engines.feeds import feeds_for
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.peers import exact_engine, usual_engine
from edge.engines.tensorrt.builder import Effort, Progress
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.library import Library, NoTensorRt, find_library
from edge.engines.tensorrt.making import load_plan, make_engines, parts_of
from edge.engines.tensorrt.record import Record
from edge.engines.trial import Distance, Feeds, distance, excesses, latencies, outputs
from edge.jetson import find_jetson
from edge.samples import read_samples

Say = Callable[[str], None]


def accept(
    bundle: Bundle,
    *,
    seconds: float = 5.0,
    effort: Effort = Effort(),  # noqa: B008 - frozen
    say: Say = lambda sentence: None,
    progress: Progress = lambda phase, share: None,
    library: Callable[[], Library] = find_library,
) -> Acceptance:
    """Run everything. seconds: how long each engine is timed. Blocks for so long per engine, and for the builds. Raises
    EngineError where the bundle cannot be run at all."""
    parts = parts_of(bundle)
    references = {part: usual_engine(bundle, part) for part in parts}
    encoder = references["encoder"]
    feeds = {}
    cpu = []
    for part in parts:
        say(f"{part} in onnxruntime")
        feeds[part] = feeds_for(bundle, part, encoder)
        cpu.append(_cpu_part(part, references[part], exact_engine(bundle, part), feeds[part], seconds))
    checks = [_integer_check(each) for each in cpu]
    checks += latents_check(bundle, encoder)
    gpu: list[GpuEngine] = []
    not_run = ""
    facts = machine_facts()
    try:
        found = library()
        facts |= {"GPU": found.machine.gpu, "compute capability": found.machine.compute_capability}
        facts |= {"TensorRT": found.machine.tensorrt}
        say("building TensorRT engines")
        records = make_engines(bundle, found, PlanCache(), effort, say=say, progress=progress)
        gpu = [_gpu_engine(record, found, feeds[record.part], seconds) for record in records]
        checks += gpu_checks(bundle, records)
    except NoTensorRt as error:
        not_run = str(error)
        checks += [Check(what, "not run", not_run) for part in parts for what in _wanted(bundle, part)]
    return Acceptance(
        latentloop=metadata.version("latentloop"),
        bundle=f"{bundle.manifest.name} {bundle.manifest.version}",
        bundle_sha256=bundle.sha256,
        machine=facts,
        threads=1,
        checks=checks,
        cpu=cpu,
        gpu=gpu,
        gpu_not_run=not_run,
    )


def _cpu_part(
    part: Part, engine: OnnxRuntimeEngine, exact: OnnxRuntimeEngine, feeds: Feeds, seconds: float
) -> CpuPart:
    found = [outputs(engine, feed) for feed in feeds]
    digest = hashlib.sha256()
    for each in found:
        for name in sorted(each):
            digest.update(each[name].tobytes())
    stacked = {name: np.stack([each[name] for each in found]) for name in found[0]}
    return CpuPart(
        part=part,
        runtime=engine.info.runtime,
        precision=engine.info.precision,
        quantized_linears=engine.info.quantized_linears,
        integer_gemms=engine.info.integer_gemms,
        samples=len(feeds),
        made_of=feeds.made_of,
        distance=distance([outputs(exact, feed) for feed in feeds], found),
        output_sha256=digest.hexdigest(),
        outputs={
            name: {
                "mean": float(values.mean(dtype=np.float64)),
                "std": float(values.std(dtype=np.float64)),
                "first": [float(value) for value in values.ravel()[:8]],
            }
            for name, values in stacked.items()
        },
        timing=timed(engine, seconds),
    )


def timed(engine: Engine, seconds: float) -> Timing:
    """Percentiles of the times of one call over so many seconds, with the sensors meanwhile."""
    with Watched() as sensors:
        (times,) = latencies((engine,), seconds)
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    return Timing(
        calls=len(times),
        p50=round(float(p50), 4),
        p90=round(float(p90), 4),
        p99=round(float(p99), 4),
        worst=round(max(times), 4),
        sensors={name: dict(values) for name, values in sensors.summary.items()},
    )


def _gpu_engine(record: Record, library: Library, feeds: Feeds, seconds: float) -> GpuEngine:
    if not record.accepted:
        return GpuEngine(record, None, False)
    try:
        engine = load_plan(record, library, PlanCache().plan(record))
    except EngineError:
        return GpuEngine(record, None, False)  # which the checks then lack
    try:
        outputs(engine, feeds.inputs[0])
        return GpuEngine(record, timed(engine, seconds), engine.has_graph)
    finally:
        engine.close()


# -- what has to be shown ----------------------------------------------------------------------------------------


def _integer_check(part: CpuPart) -> Check:
    integers = part.integer_gemms == part.quantized_linears
    found = f"{part.integer_gemms} of {part.quantized_linears} quantized Linears run as integer products"
    return Check(f"{part.part} on the CPU: integer products", "passed" if integers else "failed", found)


def latents_check(bundle: Bundle, encoder: OnnxRuntimeEngine) -> Iterator[Check]:
    """The encoder on this machine against what it made of the bundle's samples before quantization, on the one that exported
    it; nothing without samples. It may be as far off as the export measured, and the slack of a trial more."""
    samples = read_samples(bundle)
    if samples is None:
        return
    steps, latents = samples.steps()
    wanted = [{"latent": each[None]} for each in latents]
    own = distance(wanted, [outputs(encoder, {"picture": each}) for each in steps])
    measured = bundle.manifest.int8.get("encoder", {})
    usual = Distance(float(measured.get("cosine", 1.0)), float(measured.get("relative_error", 0.0)))
    too_far = "; ".join(excesses(own, usual))
    found = too_far or f"cosine {own.cosine}, relative error {own.relative_error}, {len(steps)} samples"
    yield Check("encoder on the CPU: latents as exported", "failed" if too_far else "passed", found)


def _wanted(bundle: Bundle, part: Part) -> list[str]:
    """What a part must show on the GPU. Attention is looked for where the graph has a softmax."""
    model = (bundle.folder / bundle.graph(part).file).read_bytes()
    wanted = [f"{part} in TensorRT: agrees with onnxruntime"]
    if onnx_file.quantized_linears(model):
        wanted.append(f"{part} in TensorRT: integer tactics")
    if any(node.op == "Softmax" for node in onnx_file.nodes(model)):
        wanted.append(f"{part} in TensorRT: fused attention")
    return wanted


def gpu_checks(bundle: Bundle, records: list[Record]) -> Iterator[Check]:
    """By what is recorded of the plans that were made. A part agrees if the fastest of its plans was accepted; tactics are
    those of that plan, integer ones those of any accepted INT8 plan."""
    for part in parts_of(bundle):
        accepted = sorted((r for r in records if r.part == part and r.accepted), key=lambda record: record.milliseconds)
        for what in _wanted(bundle, part):
            if not accepted:
                reasons = [f"{r.recipe}: {r.verdict.reason}" for r in records if r.part == part and r.verdict is not None]
                yield Check(what, "failed", "; ".join(reasons) or "no engine was made")
            elif what.endswith("integer tactics"):
                yield _tactics(what, [r for r in accepted if r.graph == "int8"], "integer_gemms", "integer products")
            elif what.endswith("fused attention"):
                yield _tactics(what, accepted, "fused_attention", "fused attention kernels")
            else:
                best = accepted[0]
                distance = best.verdict.distance if best.verdict is not None else None
                found = f"cosine {distance.cosine}, relative error {distance.relative_error}" if distance is not None else ""
                yield Check(what, "passed", f"{best.recipe}: {found}")


def _tactics(what: str, records: list[Record], count: str, said: str) -> Check:
    found = {r.recipe: getattr(r.layers, count) for r in records if r.layers is not None and r.layers.detailed}
    if not found:
        return Check(what, "failed", "the engine inspector named no kernels")
    passed = any(found.values())
    return Check(what, "passed" if passed else "failed", ", ".join(f"{name}: {n} {said}" for name, n in found.items()))


def machine_facts(root: Path = Path("/")) -> dict[str, str]:
    """What timings depend on, without anything that names its owner."""
    jetson = find_jetson(root)
    packages = ("numpy", "onnxruntime", "opencv-python-headless", "pycuda", "cuda-python", "cuda-bindings")
    facts = {
        "processor": _processor(root),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "Python": platform.python_version(),
    }
    if jetson is not None:
        facts |= {"Jetson": jetson.model, "L4T": jetson.l4t, "JetPack": str(jetson.jetpack or "unknown")}
    mode = root / "var/lib/nvpmodel/status"
    if mode.is_file():
        facts["power mode"] = mode.read_text(errors="replace").strip()
    for name in packages:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return facts


def _processor(root: Path) -> str:
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return f"{names[0] if names else 'unknown'}, {platform.machine()}"
