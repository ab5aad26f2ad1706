"""What a trial holds a candidate against: onnxruntime in float arithmetic, and onnxruntime as it would run otherwise."""

from __future__ import annotations

from edge.bundle import Bundle, Part
from edge.engines.engine import EngineError
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine


def exact_engine(bundle: Bundle, part: Part) -> OnnxRuntimeEngine:
    """Float arithmetic: the FP32 graph, or where the bundle carries none the INT8 graph with its activations left in
    float. Raises EngineError."""
    graph = bundle.graph(part)
    return _loaded(bundle, graph.fp32 or graph.file, threads=1, integers=False)


def usual_engine(bundle: Bundle, part: Part, threads: int = 1) -> OnnxRuntimeEngine:
    """The INT8 graph, which runs where no candidate is better. threads: for one operator. Raises EngineError."""
    return _loaded(bundle, bundle.graph(part).file, threads=threads, integers=True)


def _loaded(bundle: Bundle, file: str, *, threads: int, integers: bool) -> OnnxRuntimeEngine:
    path = bundle.folder / file
    try:
        model = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}): copy or export the bundle again") from None
    return OnnxRuntimeEngine(model, str(path), threads=threads, integers=integers)
