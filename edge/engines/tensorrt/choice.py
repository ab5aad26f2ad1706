"""Which plan of a part may be used here, and why not the others."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from edge.bundle import Bundle, Part, Precision
from edge.engines.engine import Engine, EngineError
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.library import Library, Machine, find_library
from edge.engines.tensorrt.making import load_plan
from edge.engines.tensorrt.record import Record, mismatches

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """usable: accepted plans that fit, fastest first. refused: every other record of the part with its reason."""

    usable: tuple[Record, ...]
    refused: tuple[tuple[Record, str], ...]


def choose(records: list[Record], bundle: Bundle, part: Part, machine: Machine) -> Choice:
    """Sort the records of a part. A plan that was not faster than onnxruntime in its own trial is refused too, because the
    fastest wins. Raises OSError if a graph cannot be read."""
    hashes = graph_hashes(bundle, part)
    usable, refused = [], []
    for record in records:
        if (record.bundle, record.part) != (bundle.manifest.name, part):
            continue
        wanted = hashes.get(record.graph, "")
        verdict = record.verdict
        reasons = list(mismatches(record.key, machine, wanted))
        if verdict is None:
            reasons.append("its build or its trial ended without a word")
        elif not verdict.accepted:
            reasons.append(verdict.reason)
        elif (verdict.milliseconds or 0.0) >= (verdict.reference_milliseconds or 0.0):
            reasons.append(f"it takes {verdict.milliseconds} ms and onnxruntime {verdict.reference_milliseconds} ms")
        if reasons:
            refused.append((record, "; ".join(reasons)))
        else:
            usable.append(record)
    return Choice(tuple(sorted(usable, key=lambda record: record.milliseconds)), tuple(refused))


def graph_hashes(bundle: Bundle, part: Part) -> dict[Precision, str]:
    """sha256 of the graphs that a part has. Raises OSError."""
    graph = bundle.graph(part)
    files: tuple[tuple[Precision, str | None], ...] = (("int8", graph.file), ("fp32", graph.fp32))
    return {kind: hashlib.sha256((bundle.folder / file).read_bytes()).hexdigest() for kind, file in files if file is not None}


def accepted_engine(
    bundle: Bundle,
    part: Part,
    cache: PlanCache | None = None,
    *,
    library: Callable[[], Library] = find_library,
) -> Engine | None:
    """The fastest accepted plan of a part, loaded, or None; then the reasons are in the log.

    TensorRT is not even imported where nothing was ever built. A plan that does not load gives way to the next one.
    """
    cache = PlanCache() if cache is None else cache
    records = [record for record in cache.records() if (record.bundle, record.part) == (bundle.manifest.name, part)]
    if not records:
        return None
    try:
        found = library()
        choice = choose(records, bundle, part, found.machine)
    except (EngineError, OSError) as error:
        log.warning("the TensorRT engines of %s are not used: %s", part, error)
        return None
    for record, reason in choice.refused:
        log.info("%s %s is not used: %s", part, record.recipe, reason)
    for record in choice.usable:
        try:
            return load_plan(record, found, cache.plan(record))
        except EngineError as error:
            log.warning("%s %s is not used: %s", part, record.recipe, error)
    return None
