"""TensorRT engines built in a child process while the runtime runs on onnxruntime; the next start uses them.

Never while the robot is armed. A build takes most of the GPU and, on a Jetson, of the memory that CPU and GPU share, and no
priority of a process changes that; so arming ends the build, and disarming begins it anew with the plan that was broken off.
"""

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
from edge.engines.tensorrt.telling import BUILDING, Plan, Step, read
from edge.messages import EngineBuild

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "edge.cli", "engines", "build")
BEGINNING = "building TensorRT engines"
READY = "TensorRT engines are built, the next start uses those that are faster"
LACKING = "TensorRT engines are not complete, see 'latentloop engines list'"
WAITING = "TensorRT engines that are missing are built while the robot is disarmed, or by 'latentloop engines build'"
PATIENCE_S = 5.0
"""For a child that was asked to end; then it is killed. What it has finished is in the cache already."""


class BackgroundBuild:
    """``latentloop engines build`` as a child at the lowest priority. Where everything is built it says so and ends.

    command: what to run, with the bundle's folder after it. cache: where it puts what it builds.
    """

    def __init__(self, bundle: Bundle, command: tuple[str, ...] = COMMAND, cache: PlanCache | None = None) -> None:
        self._command = ("nice", "-n", "19", *command, str(bundle.folder))
        self._cache = PlanCache() if cache is None else cache
        self._state = EngineBuild(BEGINNING)
        self._child: subprocess.Popen[str] | None = None
        self._disarmed = threading.Event()
        self._disarmed.set()
        self._closing = self._broken_off = False
        self._worker = threading.Thread(target=self._work, name="engine build", daemon=True)
        self._worker.start()

    @property
    def state(self) -> EngineBuild:
        """How far it is, or what came of it; its text is empty if there was nothing to build."""
        return self._state

    def armed(self, is_armed: bool) -> None:
        """Told whether motors may move, as often as one likes: ends the build, or lets it begin again. Never blocks."""
        if not is_armed:
            self._disarmed.set()
        elif self._disarmed.is_set():
            self._disarmed.clear()
            self._end_child()

    def close(self) -> None:
        """End it if it still runs, within :data:`PATIENCE_S`. Safe to call twice."""
        self._closing = True
        self._disarmed.set()
        self._end_child()
        self._worker.join(PATIENCE_S)
        child = self._child
        if self._worker.is_alive() and child is not None:
            child.kill()
            self._worker.join(PATIENCE_S)

    def _work(self) -> None:
        while not self._closing:
            if not self._disarmed.is_set():
                self._state = EngineBuild(WAITING, outcomes=self._state.outcomes)
                self._disarmed.wait()
                continue
            child = self._start()
            if self._unwanted:  # since before there was a child to end
                self._end_child()
            built, outcomes = self._listen(child)
            code = child.wait()
            if not self._broken_off or code >= 0:
                self._state = EngineBuild((READY if code == 0 else LACKING) if built else "", outcomes=outcomes)
                if built:
                    log.info("%s", self._state.text)
                return
            # Only now can the builder, which may be deep in C++, no longer write that it goes on.
            with contextlib.suppress(EngineError), self._cache.building():
                for record in self._cache.records():
                    self._cache.forget(record)
        self._state = EngineBuild("")

    @property
    def _unwanted(self) -> bool:
        return self._closing or not self._disarmed.is_set()

    def _start(self) -> subprocess.Popen[str]:
        self._broken_off = False
        # Its own session, because Ctrl-C is for the runtime, which stops the motors first.
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        return self._child

    def _end_child(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            self._broken_off = True
            child.terminate()

    def _listen(self, child: subprocess.Popen[str]) -> tuple[bool, tuple[str, ...]]:
        """Follow its lines to their end: whether anything was built since the start, and what came of each plan."""
        assert child.stderr is not None
        outcomes = list(self._state.outcomes)
        label, built = "", bool(outcomes)
        with child.stderr as lines:
            for line in lines:
                told = read(line.rstrip())
                if isinstance(told, Step):
                    self._state = EngineBuild(f"building TensorRT engine {label}, {told.phase}", told.share, tuple(outcomes))
                    continue
                log.info("%s", line.strip())
                if not isinstance(told, Plan):
                    continue
                if told.outcome == BUILDING:
                    label, built = told.label, True
                    self._state = EngineBuild(f"building TensorRT engine {label}", 0.0, tuple(outcomes))
                elif told.label == label:  # the others were there before
                    outcomes.append(str(told))
                    self._state = EngineBuild(BEGINNING, outcomes=tuple(outcomes))
        return built, tuple(outcomes)


def build_in_background(bundle: Bundle, root: Path = Path("/")) -> BackgroundBuild | None:
    """Start it where there is an NVIDIA GPU, None elsewhere. root: where the system's files lie."""
    if not any((root / file).exists() for file in GPU_FILES):
        return None
    return BackgroundBuild(bundle)
