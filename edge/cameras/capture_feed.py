"""Keeps a capture process running: starts it, listens to it, and starts it again when it dies or hangs."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path

import msgspec

import edge
from edge.cameras.camera import CameraError
from edge.cameras.capture_messages import Job, Said
from edge.cameras.frame_ring import FrameRing
from edge.cameras.restarts import RestartPolicy, Restarts
from edge.cameras.source import Source
from edge.clock import NS_PER_S, Clock

SELECT_S = 0.1
LAST_WORDS = 3


class CaptureFeed:
    """The parent's side of one source. A thread of its own does all that can block.

    The ring is a file without a name, so that nothing is left behind however this process ends.
    """

    def __init__(
        self, source: Source, *, clock: Clock, lossless: bool, loop: bool, fps: float, policy: RestartPolicy
    ) -> None:
        self.ended = False
        self.failed = False
        self.detail = ""
        self.ring: FrameRing | None = None
        self._source = source
        self._clock = clock
        self._lossless = lossless
        self._loop = loop
        self._fps = fps
        self._restarts = Restarts(policy, source.live)
        self._pass = Said("pass")
        self._descriptor = -1
        self._closing = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    @property
    def restarts(self) -> int:
        return self._restarts.count

    @property
    def child_pid(self) -> int | None:
        """The process that captures now, None between two."""
        child = self._child
        return None if child is None else child.pid

    def start(self) -> None:
        """Returns at once. Raises CameraError if there is no room for the ring."""
        self._descriptor = _nameless_file()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.ident is not None:
            child = self._child
            if child is not None:
                child.kill()
            self._thread.join()
        if self.ring is not None:
            self.ring.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _run(self) -> None:
        while not self._closing.is_set():
            started_ns = self._clock.now_ns()
            try:
                self._child = child = self._spawn()
            except OSError as error:
                self.detail = f"the capture process cannot be started ({error.strerror}): free memory or processes"
            else:
                self._listen(child, started_ns)
                self._child = None
            if self.ended or self.failed or self._closing.is_set():
                return
            last = -1 if self.ring is None else self.ring.last_sequence
            wait_s = self._restarts.after_failure(self._clock.now_ns() - started_ns, last)
            if wait_s is None:
                self.failed = True
                self.detail += f"; given up after {self._restarts.policy.attempts} attempts at the same place"
                return
            self._closing.wait(wait_s)

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self.ring is None:
            os.ftruncate(self._descriptor, 0)  # a predecessor may have died while making it
        last = -1 if self.ring is None else self.ring.last_sequence
        job = Job(
            source=self._source,
            ring=self._descriptor,
            parent=os.getpid(),
            lossless=self._lossless,
            loop=self._loop,
            fps=self._fps,
            first_sequence=self._pass.first_sequence,
            offset_ns=self._pass.offset_ns,
            skip=max(0, last + 1 - self._pass.first_sequence),
        )
        root = str(Path(edge.__file__).parent.parent)
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
        child = subprocess.Popen(
            [sys.executable, "-m", "edge.cameras.capture"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=(self._descriptor,),
            env={**os.environ, "PYTHONPATH": path},
        )
        assert child.stdin is not None
        try:
            child.stdin.write(msgspec.json.encode(job))
            child.stdin.close()
        except BrokenPipeError:
            pass  # it died already, which listening to it will tell
        return child

    def _listen(self, child: subprocess.Popen[bytes], started_ns: int) -> None:
        """Until the process is gone; then :attr:`detail` says why."""
        assert child.stdout is not None and child.stderr is not None
        words: deque[str] = deque(maxlen=LAST_WORDS)
        said_error = ""
        hung = ""
        rest = {child.stdout: b"", child.stderr: b""}
        with child, selectors.DefaultSelector() as selector:
            for pipe in rest:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                if self._closing.is_set() and not hung:
                    child.kill()
                for key, _ in selector.select(SELECT_S):
                    pipe = child.stdout if key.fileobj is child.stdout else child.stderr
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(pipe)
                    *lines, rest[pipe] = (rest[pipe] + data).split(b"\n")
                    for line in lines:
                        if pipe is child.stderr:
                            words.append(line.decode(errors="replace").strip())
                        else:
                            said_error = self._hear(line) or said_error
                if not hung and (hung := self._hang(started_ns)):
                    child.kill()
            code = child.wait()
        if self.ended or self._closing.is_set():
            return
        self.detail = hung or said_error or _how_it_died(self._source.label, code, self.ring, list(words))

    def _hear(self, line: bytes) -> str:
        """Act on one line of the process; an error it reports is returned."""
        try:
            said = msgspec.json.decode(line, type=Said)
        except msgspec.MsgspecError:
            return ""  # a library wrote to standard output
        if said.event == "ring" and self.ring is None:
            self.ring = FrameRing(self._descriptor, "the shared memory")
        elif said.event == "pass":
            self._pass = said
        elif said.event == "ended":
            self.ended = True
        elif said.event == "error":
            self.detail = said.message  # before `failed`, which others look at first
            self.failed = said.final
            return said.message
        return ""

    def _hang(self, started_ns: int) -> str:
        """Why the process counts as hanging, empty if it does not."""
        policy = self._restarts.policy
        now_ns = self._clock.now_ns()
        alive_ns = 0 if self.ring is None else self.ring.alive_ns
        if alive_ns <= started_ns:
            limit_s, since_ns, what = policy.open_s, started_ns, "to open"
        else:
            limit_s, since_ns, what = policy.hang_s, alive_ns, "to give the next picture"
        if now_ns - since_ns <= limit_s * NS_PER_S:
            return ""
        return f"{self._source.label} took more than {limit_s:g} s {what}: its capture process was started again"


def _nameless_file() -> int:
    """An open file in memory if there is such a place, that vanishes with the last process that has it open."""
    shared = Path("/dev/shm")
    folder = shared if os.access(shared, os.W_OK | os.X_OK) else None
    try:
        descriptor, name = tempfile.mkstemp(prefix="latentloop-", suffix=".ring", dir=folder)
    except OSError as error:
        raise CameraError(
            f"{folder or tempfile.gettempdir()} has no room for pictures ({error.strerror}): free some there"
        ) from None
    os.unlink(name)
    return descriptor


def _how_it_died(label: str, code: int, ring: FrameRing | None, words: list[str]) -> str:
    try:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"stopped with code {code}"
    except ValueError:
        how = f"stopped with code {code}"
    where = "before its first picture" if ring is None else f"after picture {ring.last_sequence}"
    last = f": {words[-1]}" if words and words[-1] else ""
    return f"the capture process of {label} {how} {where}{last}"
