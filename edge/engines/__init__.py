"""Inference engines: one contract, and the choice of what stands behind it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.bundle import Bundle, Part, Precision
from edge.engines.engine import Engine, EngineError, EngineInfo, TensorSpec, write_input
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.tensorrt.choice import accepted_engine

__all__ = ["Engine", "EngineError", "EngineInfo", "EngineSettings", "TensorSpec", "load_engine", "write_input"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """threads: CPU threads for one operator. spinning: idle threads poll instead of sleeping; costs a core, saves some
    10 µs. precision: ``"fp32"`` runs the graph from before quantization where the bundle carries it, and otherwise the
    quantized weights in float arithmetic. tensorrt: use a TensorRT engine that passed its trial on this machine, if there
    is one and not ``"fp32"`` is wanted."""

    threads: int = 1
    spinning: bool = False
    precision: Precision = "int8"
    tensorrt: bool = False


def load_engine(bundle: Bundle, part: Part, settings: EngineSettings = EngineSettings()) -> Engine:
    """Load one part of a bundle and check it against the manifest. Blocks: the rollout takes about a second.

    Raises EngineError, and BundleError if the bundle has no such part.
    """
    if settings.threads < 1:
        raise EngineError(f"engine threads are {settings.threads} and must be 1 or more: change the configuration")
    graph = bundle.graph(part)
    twin = graph.fp32 if settings.precision == "fp32" else None
    path = bundle.folder / (twin or graph.file)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}): copy or export the bundle again") from None
    integers = settings.precision == "int8"
    engine = accepted_engine(bundle, part) if settings.tensorrt and integers else None
    if engine is None:
        engine = OnnxRuntimeEngine(
            model, str(path), threads=settings.threads, spinning=settings.spinning, integers=integers
        )
    for promised, found in ((graph.inputs, engine.inputs), (graph.outputs, engine.outputs)):
        wanted = {t.name: TensorSpec(t.name, t.dtype, t.shape) for t in promised}
        if wanted != dict(found):
            engine.close()
            raise EngineError(f"{path} has {_say(found)} and its manifest says {_say(wanted)}: export the bundle again")
    return engine


def _say(tensors: object) -> str:
    specs = tensors.values() if isinstance(tensors, dict) else ()
    return ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs)
