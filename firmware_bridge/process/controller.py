"""The parent's side: a motor controller whose port and driver live in a child process.

``send`` costs one system call, ``heartbeat`` none, and neither ever waits. A thread listens to the child. When the child dies
or falls silent, telemetry says OFFLINE and why, a new child is started with growing pauses, and nothing is armed by that. When
this process dies or stalls, the child stops the motors (see :mod:`firmware_bridge.process.child`).
"""

from __future__ import annotations

import itertools
import logging
import select
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from firmware_bridge.board_settings import NONE, Value, checked
from firmware_bridge.controller import Axis, BridgeError, FirmwareState, Identity, Knot, Telemetry
from firmware_bridge.process import spawn
from firmware_bridge.process.datagrams import (
    LONGEST,
    Answer,
    Ask,
    Plan,
    Report,
    Settings,
    ToChild,
    Verb,
    encode,
    read_by_parent,
)
from firmware_bridge.process.heartbeat import HeartbeatWord
from firmware_bridge.process.targets import TargetPipe
from firmware_bridge.serial_controller import check_targets
from firmware_bridge.trajectory import check_knots

log = logging.getLogger(__name__)

SILENT_MS = 500
"""A child says something every 100 ms. Two waits of this length in a row without a word, and it is killed; two, because this
process may have been the one that stood still."""
BACKOFF_S = (0.1, 2.0)
STEADY_S = 10.0
"""A child that lived for so long starts the pauses anew."""
START_S, RECONNECT_S = 10.0, 3.0
"""How long a child may take to start on a busy machine, and to connect again before it pauses."""
PATIENCE_S = 1.0
"""For answers that need no device, and for a child to end."""
CLEARING_S = 4.0
"""A device that must show its watchdog before its stop is cleared takes a second or two (docs/drivers.md)."""


@dataclass(slots=True)
class _Waiting:
    """Somebody waits for the answer to a question."""

    answer: Answer | None = None
    done: threading.Event = field(default_factory=threading.Event)


class ProcessController:
    """A :class:`~firmware_bridge.controller.TrajectoryController` in a process of its own. All calls are thread-safe.

    spec: what to drive, see :func:`firmware_bridge.drivers.registry.make_controller`. axes, baud, lease_s, state_hz, settings: for
    it. Whether what it drives can follow a plan is told by :meth:`most_knots`.
    """

    def __init__(
        self,
        spec: str,
        axes: Sequence[str] = ("left", "right"),
        *,
        baud: int = 115_200,
        lease_s: float = 0.1,
        state_hz: float = 50.0,
        settings: Mapping[str, Value] = NONE,
    ) -> None:
        if not 0.05 <= lease_s <= 0.5:
            raise ValueError(f"a lease lasts 0.05 to 0.5 s, not {lease_s}")
        if not 1.0 <= state_hz <= 200.0:
            raise ValueError(f"state_hz lies between 1 and 200, not {state_hz}")
        self._spec = spec
        self._axes = tuple(axes)
        self._settings = (spec, self._axes, baud, lease_s, state_hz, checked(settings))
        self._heartbeat = HeartbeatWord()
        self._order = itertools.count(1)
        """Of targets and plans, which go to the child by different ways."""

        self._lock = threading.Lock()  # guards everything down to the blank line
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._targets = TargetPipe(len(self._axes))
        self._telemetry = Telemetry(FirmwareState.OFFLINE, (), (), (), 0)
        self._described: tuple[Axis, ...] = ()
        self._most_knots = 0
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self._dropped = 0
        self._stop_reason: int | None = None
        """Of an emergency stop until it is cleared; a new child is told."""

        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    # -- MotorController -------------------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[str, ...]:
        return self._axes

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def describe(self) -> tuple[Axis, ...]:
        if not self._described:
            raise BridgeError(f"not connected to {self._spec}: call connect first")
        return self._described

    def identity(self) -> Identity:
        """Asked of the child each time: it may have connected to another device meanwhile."""
        answer = self._ask("identify", 0.0, PATIENCE_S)
        assert answer.identity is not None
        return answer.identity

    def connect(self, timeout_s: float = 3.0) -> None:
        """Start the child and have it connect. Blocks for timeout_s and the start of the child at most. Raises BridgeError."""
        if self._closing.is_set():
            raise BridgeError(f"the link to {self._spec} was closed: make a new one")
        if self._thread is not None:
            return
        self._start()
        self._thread = threading.Thread(target=self._listen, name="bridge-process", daemon=True)
        self._thread.start()
        try:
            self._ask("connect", timeout_s, timeout_s + START_S)
        except BridgeError:
            self._end()
            self._closing.clear()
            raise

    def arm(self, timeout_s: float = 1.0) -> None:
        self._ask("arm", timeout_s, 2 * timeout_s + PATIENCE_S)

    def disarm(self) -> None:
        self._tell_or_kill(Ask(self._next_number(), "disarm"))

    def estop(self, reason: int = 1) -> None:
        self._stop_reason = reason
        self._tell_or_kill(Ask(self._next_number(), "estop", reason))

    def clear_estop(self) -> None:
        """Blocks until the child has passed it on, a millisecond or so; with some devices up to two seconds."""
        self._ask("clear_estop", 0.0, CLEARING_S)
        self._stop_reason = None

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        check_targets(self._axes, targets)
        offline = self._telemetry.state is FirmwareState.OFFLINE
        if offline or not self._targets.write(targets, valid_until_ns, next(self._order)):
            self._dropped += 1

    def most_knots(self) -> int:
        self.describe()
        return self._most_knots

    def follow(self, knots: Sequence[Knot], replace_from_ns: int | None = None) -> None:
        check_knots(self._axes, knots, self.most_knots(), time.monotonic_ns())
        if not self._tell(Plan(tuple(knots), replace_from_ns, next(self._order))):
            self._dropped += 1

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        self._heartbeat.write(alive_until_ns, engaged)

    def telemetry(self) -> Telemetry:
        seen = self._telemetry
        if not self._dropped:
            return seen
        return replace(seen, counts=replace(seen.counts, dropped=seen.counts.dropped + self._dropped))

    def close(self) -> None:
        """See MotorController. Waits for the child, a second or so; one that does not end is killed, and the lease with it."""
        if self._socket is not None and not self._closing.is_set():
            self._closing.set()
            try:
                self._ask("close", 0.0, PATIENCE_S)
            except BridgeError:
                pass  # gone already
        self._closing.set()
        self._heartbeat.write(0, False)
        self._end()

    # -- talking to the child --------------------------------------------------------------------------------------

    def _tell(self, what: ToChild) -> bool:
        """False if there is no child, or it has not listened for so long that no more fits."""
        connection = self._socket
        if connection is None:
            return False
        try:
            connection.send(encode(what))
        except OSError:
            return False
        return True

    def _tell_or_kill(self, what: ToChild) -> None:
        """For what must not be lost: a child that does not listen is killed, and then nobody feeds the lease."""
        process = self._process
        if process is not None and (self._targets.full or not self._tell(what)):
            process.kill()

    def _next_number(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    def _ask(self, verb: Verb, argument: float, patience_s: float) -> Answer:
        number, waiting = self._next_number(), _Waiting()
        with self._lock:
            self._waiting[number] = waiting
        if self._tell(Ask(number, verb, argument)):
            waiting.done.wait(patience_s)
        elif not self._telemetry.trouble:  # it has just ended, and the listener finds out how
            waiting.done.wait(PATIENCE_S)
        with self._lock:
            self._waiting.pop(number, None)
        if waiting.answer is None:
            raise BridgeError(self._telemetry.trouble or f"the bridge process for {self._spec} does not answer: try again")
        if waiting.answer.refused:
            raise BridgeError(waiting.answer.refused)
        return waiting.answer

    # -- listening to the child ------------------------------------------------------------------------------------

    def _start(self) -> None:
        settings = Settings(*self._settings, log.getEffectiveLevel())
        try:
            self._targets = TargetPipe(len(self._axes))  # nothing of what was said to an earlier child
            self._process, self._socket = spawn.start(encode(settings), self._heartbeat.descriptor, self._targets.descriptor)
        except OSError as error:
            raise BridgeError(f"the bridge process cannot be started ({error}): free memory and file handles") from None

    def _listen(self) -> None:
        backoff_s = BACKOFF_S[0]
        while True:
            began = time.monotonic()
            how = self._hear_until_it_ends()
            if self._closing.is_set():
                return
            if not self._described:  # the first connect tells its caller
                self._lost(f"the bridge process for {self._spec} {how} before it was connected: see the log")
                return
            if time.monotonic() - began > STEADY_S:
                backoff_s = BACKOFF_S[0]
            self._lost(f"the bridge process for {self._spec} {how}: it is started again, and then has to be armed again")
            log.warning("%s", self._telemetry.trouble)
            while True:
                if self._closing.wait(backoff_s):
                    return
                backoff_s = min(2 * backoff_s, BACKOFF_S[1])
                try:
                    self._start()
                    break
                except BridgeError as error:
                    self._lost(str(error))
            if (reason := self._stop_reason) is not None:
                self._tell(Ask(self._next_number(), "estop", reason))
            self._tell(Ask(self._next_number(), "keep_connecting", RECONNECT_S))

    def _hear_until_it_ends(self) -> str:
        """Take in what the child says. How it ended, for people."""
        process, connection = self._process, self._socket
        assert process is not None and connection is not None
        heard = select.poll()
        heard.register(connection, select.POLLIN)
        silences = 0
        while silences < 2:
            if not heard.poll(SILENT_MS):
                silences += 1
                continue
            silences = 0
            try:
                said = connection.recv(LONGEST)
            except BlockingIOError:
                continue
            except OSError:
                said = b""
            if not said:
                break
            self._take_in(said)
        if silences:
            process.kill()
        how = spawn.ending(process, PATIENCE_S)
        with self._lock:
            self._socket = None
            connection.close()
        return "fell silent and was killed" if silences else how

    def _take_in(self, said: bytes) -> None:
        what = read_by_parent(said)
        if isinstance(what, Report):
            seen = what.telemetry
            if seen.state is FirmwareState.OFFLINE and not seen.trouble:  # a new child knows no reason yet
                seen = replace(seen, trouble=self._telemetry.trouble)
            self._telemetry = seen
        elif isinstance(what, Answer):
            if what.axes:
                self._described, self._most_knots = what.axes, what.most_knots
            with self._lock:
                waiting = self._waiting.pop(what.number, None)
            if waiting is not None:
                waiting.answer = what
                waiting.done.set()
        else:
            logging.getLogger(what.name).log(what.level, "%s", what.text)

    def _lost(self, trouble: str) -> None:
        self._telemetry = replace(self._telemetry, state=FirmwareState.OFFLINE, trouble=trouble)
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), {}
        for each in waiting:
            each.done.set()

    def _end(self) -> None:
        """The child and its listener. A closed socket ends the child."""
        self._closing.set()
        thread, self._thread = self._thread, None
        while thread is not None and thread.is_alive():
            with self._lock:
                if self._socket is not None:
                    try:
                        self._socket.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass  # the child was faster
            thread.join(0.1)
        self._lost("")
