"""From a bundle to plans: build each part in every way worth a try, hold it against onnxruntime, keep what passed."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator

import msgspec

from edge.bundle import Bundle, Part, signatures
from edge.engines import onnx_file
from edge.engines.engine import EngineError, EngineInfo
from edge.engines.feeds import feeds_for
from edge.engines.onnx_half import with_half_floats
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.peers import exact_engine, usual_engine
from edge.engines.tensorrt.builder import NORMAL, Effort, Progress, build_plan
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.layers import Layers, count_layers
from edge.engines.tensorrt.library import Library, Machine
from edge.engines.tensorrt.recipe import Recipe, recipes
from edge.engines.tensorrt.record import Key, Record
from edge.engines.tensorrt.telling import BUILDING, Plan
from edge.engines.tensorrt.tensorrt_engine import TensorRtEngine
from edge.engines.trial import Verdict, judge

log = logging.getLogger(__name__)

Say = Callable[[str], None]
ATTEMPTS = 2
"""A build that took its process down is tried once more: it may have been the power that went."""


class Candidate(msgspec.Struct, frozen=True):
    """One plan that could be made. path: of the graph's file. model: its bytes, in the form that the recipe asks for."""

    part: Part
    recipe: Recipe
    path: str
    model: bytes
    key: Key


def parts_of(bundle: Bundle) -> list[Part]:
    """The parts that a bundle has."""
    return [part for part in signatures(bundle.manifest) if getattr(bundle.manifest.graphs, part) is not None]


def candidates(bundle: Bundle, machine: Machine, effort: Effort = NORMAL, *, dla: int | None = None) -> Iterator[Candidate]:
    """Every plan worth making of a bundle on a machine. A recipe for the FP32 graph is left out where the bundle carries
    none. Raises EngineError."""
    for part in parts_of(bundle):
        graph = bundle.graph(part)
        for recipe in recipes(machine.tensorrt, dla=dla):
            file = graph.file if recipe.graph == "int8" else graph.fp32
            if file is None:
                continue
            path = bundle.folder / file
            try:
                model = path.read_bytes()
            except OSError as error:
                raise EngineError(f"{path} cannot be read ({error.strerror}): copy or export the bundle again") from None
            digest = hashlib.sha256(model).hexdigest()
            flags = (recipe.name, f"level {effort.level}", f"workspace {effort.workspace_mb} MB")
            if recipe.half:
                try:
                    model = with_half_floats(model)
                except onnx_file.OnnxFileError as error:
                    log.warning("%s is not tried as %s: %s", path, recipe.name, error)
                    continue
            yield Candidate(part, recipe, str(path), model, Key(machine, digest, flags))


def settled(record: Record | None) -> str:
    """Why there is nothing to do for a plan, one clause; empty if there is."""
    if record is None:
        return ""
    if record.verdict is None:
        return "its builds ended without a word, so it is not tried by itself" if record.attempts >= ATTEMPTS else ""
    return "it is there" if record.accepted else f"it was refused: {record.verdict.reason}"


def make_engines(
    bundle: Bundle,
    library: Library,
    cache: PlanCache,
    effort: Effort = NORMAL,
    *,
    dla: int | None = None,
    force: bool = False,
    say: Say = lambda sentence: None,
    progress: Progress = lambda phase, share: None,
) -> list[Record]:
    """Make all plans of a bundle that are not settled yet, or all if forced. Blocks for minutes.

    One that cannot be built, or fails its trial, is recorded with the reason and the others go on. Returns the records of
    all, made or found. Raises EngineError if a graph or the cache cannot be used.
    """
    found = []
    encoder: OnnxRuntimeEngine | None = None
    with cache.building():
        for candidate in candidates(bundle, library.machine, effort, dla=dla):
            label = f"{candidate.part} as {candidate.recipe.name}"
            record = cache.find(candidate.key)
            reason = settled(record)
            if record is not None and reason and not force:
                say(str(Plan(label, reason)))
                found.append(record)
                continue
            say(str(Plan(label, BUILDING)))
            if encoder is None:
                encoder = usual_engine(bundle, "encoder")
            record = _make(bundle, candidate, library, cache, effort, encoder, progress)
            found.append(record)
            say(str(Plan(label, said(record))))
            library.must_answer()  # or the next ones would be refused for this one's fault
    return found


def _make(
    bundle: Bundle,
    candidate: Candidate,
    library: Library,
    cache: PlanCache,
    effort: Effort,
    encoder: OnnxRuntimeEngine,
    progress: Progress,
) -> Record:
    machine = library.machine
    record = Record(
        candidate.key,
        bundle.manifest.name,
        candidate.part,
        candidate.recipe.name,
        candidate.recipe.graph,
        built=time.time(),
        quantized_linears=onnx_file.quantized_linears(candidate.model),
    )
    cache.begin(record)
    plan = b""
    try:
        started = time.perf_counter()
        with library.current():
            built = build_plan(
                library.trt,
                candidate.model,
                candidate.recipe,
                effort,
                timing_cache=cache.timing_cache(machine),
                progress=progress,
            )
        plan = built.plan
        record = msgspec.structs.replace(record, build_seconds=round(time.perf_counter() - started, 1))
        cache.keep_timing_cache(machine, built.timing_cache)
        record = msgspec.structs.replace(record, layers=inspect_plan(record, library, plan))
        record = msgspec.structs.replace(record, verdict=check_engine(bundle, record, library, plan, encoder))
    except EngineError as error:
        record = msgspec.structs.replace(record, verdict=Verdict(False, str(error)))
    except BaseException:
        cache.forget(record)
        raise
    if not cache.finish(record, plan):
        log.warning("%s %s: the new plan was refused and the earlier one stays", candidate.part, candidate.recipe.name)
    return record


def inspect_plan(record: Record, library: Library, plan: bytes) -> Layers | None:
    """What kernels a plan consists of, None if the inspector's words are not understood. Raises EngineError."""
    engine = load_plan(record, library, plan)
    try:
        return count_layers(engine.inspected())
    except ValueError as error:
        log.warning("the layers of %s as %s cannot be read: %s", record.part, record.recipe, error)
        return None
    finally:
        engine.close()


def check_engine(bundle: Bundle, record: Record, library: Library, plan: bytes, encoder: OnnxRuntimeEngine) -> Verdict:
    """Hold a plan against onnxruntime: against float arithmetic for what is right, and beside the INT8 that would run
    otherwise for what is usual. encoder: the bundle's, for inputs. Raises EngineError."""
    exact, reference = exact_engine(bundle, record.part), usual_engine(bundle, record.part)
    engine = load_plan(record, library, plan)
    try:
        return judge(exact, reference, engine, feeds_for(bundle, record.part, encoder))
    finally:
        engine.close()


def load_plan(record: Record, library: Library, plan: bytes) -> TensorRtEngine:
    """The engine of a plan. Raises EngineError."""
    return TensorRtEngine(library, plan, f"the plan {record.part} {record.recipe} of bundle {record.bundle}", engine_info(record))


def engine_info(record: Record) -> EngineInfo:
    """What a plan's engine says of itself."""
    machine = record.key.machine
    integers = record.layers.integer_gemms if record.layers is not None else 0
    runtime = f"TensorRT {machine.tensorrt} {machine.gpu} {record.recipe}"
    return EngineInfo(runtime, record.precision, record.quantized_linears, integers)


def said(record: Record) -> str:
    """What came of a plan, for people."""
    verdict = record.verdict
    if verdict is None:
        return "its build ended without a word"
    if not verdict.accepted:
        return f"refused, {verdict.reason}"
    error = f"error {verdict.distance.relative_error:.4f}" if verdict.distance is not None else "not compared"
    times = f"{verdict.milliseconds:.2f} ms, onnxruntime {verdict.reference_milliseconds:.2f} ms"
    faster = (verdict.reference_milliseconds or 0.0) / record.milliseconds
    return f"{faster:.1f} times as fast ({times}), {error} on {verdict.made_of}, {record.precision}"
