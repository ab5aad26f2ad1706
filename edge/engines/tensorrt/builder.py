"""From an ONNX graph to a plan, by what all of TensorRT 10.3 to 11 have in common.

``trt`` is the module, ``tensorrt`` on a device; the compile check of the tests gives ``tensorrt_rtx`` to the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.engines.engine import EngineError
from edge.engines.tensorrt.listener import complaints, listener
from edge.engines.tensorrt.phases import Phases
from edge.engines.tensorrt.recipe import Recipe

Progress = Callable[[str, float], None]
"""Told the builder's phase, and the share of the whole build that is done (edge.engines.tensorrt.phases)."""
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Effort:
    """level: of optimisation, 0 to 5; 3 is TensorRT's own choice, 5 takes many times as long. workspace_mb: memory that
    one layer may use while it runs; with less, some tactics are out of reach."""

    level: int = 3
    workspace_mb: int = 1024


NORMAL = Effort()


@dataclass(frozen=True, slots=True)
class Built:
    """timing_cache: what the builder learned, for the next build on this machine."""

    plan: bytes
    timing_cache: bytes


def build_plan(
    trt: Any,
    model: bytes,
    recipe: Recipe,
    effort: Effort = NORMAL,
    *,
    timing_cache: bytes = b"",
    progress: Progress = lambda phase, share: None,
    adjust: Callable[[Any], None] = lambda config: None,
) -> Built:
    """Build a plan. Blocks for seconds to many minutes.

    model: an ONNX file with fixed shapes. timing_cache: of an earlier build; one that does not fit is left unused.
    adjust: last word on the builder's configuration, for a GPU that is not there. An exception raised by progress ends
    the build and comes out here. Raises EngineError with what the parser or the builder said.
    """
    kept = listener(trt)
    builder = trt.Builder(kept)
    typed = 0 if recipe.flags else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, kept)
    if not parser.parse(model):
        raise EngineError(f"TensorRT {trt.__version__} cannot read the graph ({_complaint(parser, kept)})")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, effort.workspace_mb * MB)
    config.builder_optimization_level = effort.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.max_aux_streams = 0  # one stream, which a CUDA graph can capture
    for flag in recipe.flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if recipe.dla is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = recipe.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    _use_timing_cache(config, timing_cache)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    adjust(config)
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped is not None:
        raise monitor.stopped
    if plan is None:
        raise EngineError(f"TensorRT {trt.__version__} cannot build the graph as {recipe.name} ({complaints(kept)})")
    learned = config.get_timing_cache()
    return Built(bytes(plan), bytes(learned.serialize()) if learned is not None else b"")


def _use_timing_cache(config: Any, saved: bytes) -> None:
    for blob in (saved, b"") if saved else (b"",):
        cache = config.create_timing_cache(blob)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped: BaseException | None = None
            self._phases = Phases()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases.begin(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:  # nothing may be raised into the builder, Ctrl-C included
                progress(phase_name, self._phases.step(phase_name, step + 1))
            except BaseException as error:  # noqa: BLE001
                self.stopped = error
            return self.stopped is None

        def phase_finish(self, phase_name: str) -> None:
            self._phases.end(phase_name)

    return Monitor()


def _complaint(parser: Any, kept: Any) -> str:
    if not parser.num_errors:
        return complaints(kept)
    error = parser.get_error(0)
    said = " ".join(str(error.desc()).split())
    return f"{error.node_operator()} (node {error.node_name()}): {said}" if error.node_operator() else said
