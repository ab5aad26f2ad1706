"""Which CPU runtime runs a part: onnxruntime, or OpenVINO where that was measured to be faster and to compute the same.

Measured once and kept beside the state, one file per part; measured anew where the graph, the processor, a version or the
number of threads is another.
"""

from __future__ import annotations

import hashlib
import logging
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from edge.bundle import Bundle, Part
from edge.cpu_name import cpu_name
from edge.engines.engine import Engine, EngineError
from edge.engines.feeds import feeds_for
from edge.engines.openvino_engine import OpenVinoEngine, openvino_installed
from edge.engines.peers import exact_engine, usual_engine
from edge.engines.trial import Verdict, judge
from edge.state_folder import state_folder
from edge.whole_file import write_whole

log = logging.getLogger(__name__)

CpuRuntime = Literal["onnxruntime", "openvino"]
Choice = Literal["onnxruntime", "openvino", "auto"]
FASTER = 0.95
"""OpenVINO must take at most so much of onnxruntime's time: what is closer is noise, and onnxruntime is what is tested most."""


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a measurement depends on. versions: of onnxruntime and OpenVINO."""

    onnx_sha256: str
    cpu: str
    versions: tuple[str, str]
    threads: int


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One comparison: OpenVINO's verdict beside onnxruntime, which is the reference in it."""

    setting: Setting
    verdict: Verdict

    @property
    def winner(self) -> CpuRuntime:
        """OpenVINO only if its outputs passed and its time is clearly less."""
        own, other = self.verdict.milliseconds, self.verdict.reference_milliseconds
        faster = own is not None and other is not None and own <= FASTER * other
        return "openvino" if self.verdict.accepted and faster else "onnxruntime"


def choose_cpu_runtime(bundle: Bundle, part: Part, threads: int, folder: Path | None = None) -> CpuRuntime:
    """The faster runtime of an INT8 part. The first time it is measured, which takes seconds, with a large model up to a
    minute; without OpenVINO there is nothing to choose. folder: of the measurements, by default in this user's state.
    Raises OSError if the graph cannot be read."""
    if not openvino_installed():
        return "onnxruntime"
    graph = (bundle.folder / bundle.graph(part).file).read_bytes()
    versions = (metadata.version("onnxruntime"), metadata.version("openvino"))
    setting = Setting(hashlib.sha256(graph).hexdigest(), cpu_name(), versions, threads)
    digest = hashlib.sha256(msgspec.json.encode(setting)).hexdigest()[:16]
    path = (state_folder() / "runtimes" if folder is None else folder) / f"{part}-{digest}.json"
    found = _read(path, setting)
    if found is None:
        log.warning("%s of bundle %s: measuring onnxruntime and OpenVINO, once", part, bundle.manifest.name)
        found = Measured(setting, compare(bundle, part, graph, threads))
        try:
            write_whole(path, msgspec.json.encode(found))
        except OSError as error:
            log.warning("%s cannot be written (%s): the next start measures again", path, error.strerror)
    log.info("%s runs in %s: %s", part, found.winner, said(found.verdict))
    return found.winner


def compare(bundle: Bundle, part: Part, graph: bytes, threads: int) -> Verdict:
    """Hold OpenVINO against onnxruntime as a TensorRT engine is. What cannot be compared is refused with the reason."""
    path = str(bundle.folder / bundle.graph(part).file)
    engines: list[Engine] = []
    try:
        encoder = usual_engine(bundle, "encoder", threads)
        engines.append(encoder)
        feeds = feeds_for(bundle, part, encoder)
        exact = exact_engine(bundle, part)
        engines.append(exact)
        reference = usual_engine(bundle, part, threads)
        engines.append(reference)
        candidate = OpenVinoEngine(graph, path, threads=threads)
        engines.append(candidate)
        if candidate.info.integer_gemms < reference.info.integer_gemms:
            counts = f"{candidate.info.integer_gemms} products in integers and onnxruntime {reference.info.integer_gemms}"
            return Verdict(False, f"it runs {counts}")
        return judge(exact, reference, candidate, feeds)
    except (EngineError, OSError) as error:
        log.warning("%s was not compared in OpenVINO: %s", part, error)
        return Verdict(False, str(error))
    finally:
        for engine in engines:
            engine.close()


def said(verdict: Verdict) -> str:
    """A measurement for people."""
    if not verdict.accepted:
        return f"OpenVINO is refused, {verdict.reason}"
    return f"OpenVINO {verdict.milliseconds:.2f} ms, onnxruntime {verdict.reference_milliseconds:.2f} ms"


def _read(path: Path, setting: Setting) -> Measured | None:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Measured)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s is no measurement (%s): it is taken again", path, error)
        return None
    return found if found.setting == setting else None
