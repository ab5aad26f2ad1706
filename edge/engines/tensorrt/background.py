"""TensorRT engines built in a child process while the runtime already runs on onnxruntime; the next start uses them."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
from pathlib import Path

from edge.bundle import Bundle
from edge.engines.engine import EngineError
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.library import GPU_FILES

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "edge.cli", "engines", "build")
READY = "TensorRT engines are built, the next start uses them"
LACKING = "TensorRT engines are not complete, see 'latentloop engines list'"
PATIENCE_S = 5.0
"""For a child that was asked to end; then it is killed. What it has finished is in the cache already."""


class BackgroundBuild:
    """``latentloop engines build`` as a child at the lowest priority. Where everything is built it says so and ends.

    command: what to run, with the bundle's folder after it. cache: where it puts what it builds.
    """

    def __init__(self, bundle: Bundle, command: tuple[str, ...] = COMMAND, cache: PlanCache | None = None) -> None:
        self._cache = PlanCache() if cache is None else cache
        self._status = "building TensorRT engines"
        # Its own session, because Ctrl-C is for the runtime, which stops the motors first.
        self._child = subprocess.Popen(
            ["nice", "-n", "19", *command, str(bundle.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name="engine build", daemon=True)
        self._listener.start()

    @property
    def status(self) -> str:
        """How far it is, or what came of it, one clause; empty if there was nothing to build."""
        return self._status

    def close(self) -> None:
        """End it if it still runs, within :data:`PATIENCE_S`. Safe to call twice."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            # Only now can the builder, which may be deep in C++, no longer write that it goes on.
            with contextlib.suppress(EngineError), self._cache.building():
                for record in self._cache.records():
                    self._cache.forget(record)
        self._listener.join(PATIENCE_S)

    def _listen(self) -> None:
        assert self._child.stderr is not None
        built = False
        stage = ""
        with self._child.stderr as lines, contextlib.suppress(ValueError):
            for line in lines:
                if not line.startswith(" "):
                    log.info("%s", line.strip())
                    stage, built = line.strip(), built or line.rstrip().endswith(": building")
                    self._status = f"TensorRT: {stage}"
                else:
                    self._status = f"TensorRT: {stage}, {line.strip()}"
        accepted = self._child.wait() == 0
        self._status = ""
        if built:
            self._status = READY if accepted else LACKING
            log.info("%s", self._status)


def build_in_background(bundle: Bundle, root: Path = Path("/")) -> BackgroundBuild | None:
    """Start it where there is an NVIDIA GPU, None elsewhere. root: where the system's files lie."""
    if not any((root / file).exists() for file in GPU_FILES):
        return None
    return BackgroundBuild(bundle)
