"""The process that owns the port and the controller: ``python -m firmware_bridge.process.child SOCKET HEARTBEAT TARGETS``,
three descriptors.

It does what the parent says and nothing else. When the parent is gone, or closes the socket, it disarms, closes and ends. When
the parent merely stalls, the deadline of its last heartbeat passes, and the controller stops the motors by itself. Ctrl-C in a
terminal reaches this process too: it disarms at once and goes on, because the parent has yet to close. SIGTERM disarms and ends.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from firmware_bridge.controller import BridgeError, MotorController, Telemetry, TrajectoryController
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.process.datagrams import (
    LONGEST,
    Answer,
    Ask,
    LogLine,
    Plan,
    Report,
    Settings,
    ToParent,
    encode,
    read_by_child,
)
from firmware_bridge.process.heartbeat import HeartbeatWord
from firmware_bridge.process.targets import TargetPipe

log = logging.getLogger("firmware_bridge.process.child")  # also as __main__

TURN_MS = 10
"""How soon a heartbeat is seen and new telemetry goes to the parent; sooner where the device reports more often than that."""
SIGN_OF_LIFE_NS = 100_000_000
RETRY_S = 1.0


class Child:
    """Serves one parent."""

    def __init__(self, parent: socket.socket, heartbeat: int, targets: int) -> None:
        """Waits for the settings. heartbeat, targets: descriptors. Raises BridgeError where the settings describe no
        controller."""
        given = read_by_child(parent.recv(LONGEST))
        assert isinstance(given, Settings)
        self._parent = parent
        self._heartbeat = HeartbeatWord(heartbeat)
        self._beaten: tuple[int, bool] | None = None
        self._targets = TargetPipe(len(given.axes), targets)
        self._heard = select.poll()
        self._heard.register(parent, select.POLLIN)
        self._heard.register(targets, select.POLLIN)
        logging.basicConfig(level=given.log_level, handlers=[_ToParent(self.tell)])
        parent.setblocking(False)
        self._controller: MotorController = make_controller(
            given.spec,
            given.axes,
            baud=given.baud,
            lease_s=given.lease_s,
            state_hz=given.state_hz,
            settings=given.settings,
        )
        self._turn_ms = min(TURN_MS, max(1, round(500 / given.state_hz)))
        self._order = 0
        """Of the newest targets or plan."""
        self._told: Telemetry | None = None
        self._told_ns = 0
        self._ended = False
        self._disarm = False
        """Set by a signal; carried out between two turns, when no lock is held."""

    def serve(self) -> None:
        """Until the parent or a SIGTERM ends it; the motors are then disarmed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal is gone: the parent decides what that means
        try:
            while not self._ended:
                came = [descriptor for descriptor, _ in self._heard.poll(self._turn_ms)]
                self._pass_on_heartbeat()
                if self._parent.fileno() in came:
                    self._hear()
                if self._targets.descriptor in came and not self._ended:
                    self._send()
                if self._disarm:
                    self._disarm = False
                    self._controller.disarm()
                self._report()
        finally:
            self._controller.close()

    def tell(self, what: ToParent) -> None:
        """Never waits: a parent that does not listen misses it."""
        try:
            self._parent.send(encode(what))
        except OSError:
            pass  # its end is noticed when reading

    # -- from the parent -------------------------------------------------------------------------------------------

    def _pass_on_heartbeat(self) -> None:
        newest = self._heartbeat.read()
        if newest != self._beaten:
            self._beaten = newest
            self._controller.heartbeat(*newest)

    def _send(self) -> None:
        """The newest targets."""
        try:
            targets, valid_until_ns, order = self._targets.newest()
            if self._is_newer(order):
                self._controller.send(targets, valid_until_ns)
        except EOFError:
            self._ended = True
        except BridgeError as error:  # the parent has checked what it can
            log.warning("%s", error)

    def _follow(self, plan: Plan) -> None:
        if self._is_newer(plan.order) and isinstance(self._controller, TrajectoryController):
            try:
                self._controller.follow(plan.knots, plan.replace_from_ns)
            except BridgeError as error:
                log.warning("%s", error)

    def _is_newer(self, order: int) -> bool:
        """Targets and plans come different ways; of the two only the newest counts."""
        newer = order > self._order
        self._order = max(order, self._order)
        return newer

    def _hear(self) -> None:
        """One datagram."""
        try:
            said = self._parent.recv(LONGEST)
        except OSError:
            said = b""
        what = read_by_child(said) if said else None
        if what is None:
            self._ended = True
        elif isinstance(what, Plan):
            self._follow(what)
        else:
            assert isinstance(what, Ask)
            self._do(what)

    def _do(self, ask: Ask) -> None:
        controller = self._controller
        if ask.verb == "disarm":
            controller.disarm()
            self.tell(Answer(ask.number))
        elif ask.verb == "estop":
            controller.estop(int(ask.argument))
            self.tell(Answer(ask.number))
        elif ask.verb == "close":
            controller.close()
            self._report()
            self.tell(Answer(ask.number))
            self._ended = True
        else:  # these may wait for the device, and heartbeats must not wait for them
            calls: dict[str, Callable[[], None]] = {
                "connect": lambda: controller.connect(ask.argument),
                "identify": lambda: None,
                "arm": lambda: controller.arm(ask.argument),
                "clear_estop": controller.clear_estop,
                "keep_connecting": lambda: self._keep_connecting(ask.argument),
            }
            threading.Thread(target=self._call, args=(ask, calls[ask.verb]), daemon=True).start()

    def _call(self, ask: Ask, call: Callable[[], None]) -> None:
        try:
            call()
            answer = self._answer(ask)
        except BridgeError as error:
            answer = Answer(ask.number, refused=str(error))
        except Exception:
            log.exception("%s failed on a bug", ask.verb)
            answer = Answer(ask.number, refused=f"{ask.verb} failed on a bug in the bridge: see the log")
        self.tell(Report(self._controller.telemetry()))  # first, so that who asked finds what it led to
        self.tell(answer)

    def _answer(self, ask: Ask) -> Answer:
        """Raises BridgeError."""
        controller = self._controller
        if ask.verb == "identify":
            return Answer(ask.number, identity=controller.identity())
        if "connect" not in ask.verb:
            return Answer(ask.number)
        most = controller.most_knots() if isinstance(controller, TrajectoryController) else 0
        return Answer(ask.number, axes=controller.describe(), most_knots=most)

    def _keep_connecting(self, timeout_s: float) -> None:
        """After an earlier child has died. What is plugged in may have changed meanwhile."""
        said = ""
        while not self._ended:
            try:
                self._controller.connect(timeout_s)
                log.info("connected again; not armed")
                return
            except BridgeError as error:
                if str(error) != said:
                    log.warning("%s", error)
                said = str(error)
                time.sleep(RETRY_S)

    def _report(self) -> None:
        telemetry, now_ns = self._controller.telemetry(), time.monotonic_ns()
        if telemetry is not self._told or now_ns - self._told_ns > SIGN_OF_LIFE_NS:
            self._told, self._told_ns = telemetry, now_ns
            self.tell(Report(telemetry))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._disarm = True
        self._ended = self._ended or number == signal.SIGTERM


class _ToParent(logging.Handler):
    """Log lines go to the parent's log."""

    def __init__(self, tell: Callable[[ToParent], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(LogLine(record.levelno, record.name, self.format(record)))


def _refuse(parent: socket.socket, why: str) -> None:
    """Answer the first question with it."""
    parent.setblocking(True)
    while said := parent.recv(LONGEST):
        asked = read_by_child(said)
        if isinstance(asked, Ask):
            parent.send(encode(Answer(asked.number, refused=why)))
            return


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        try:
            child = Child(parent, int(sys.argv[2]), int(sys.argv[3]))
        except BridgeError as error:
            _refuse(parent, str(error))
            return
        try:
            child.serve()
        except Exception:
            log.exception("the bridge process ends on a bug")
            sys.exit(1)


if __name__ == "__main__":
    main()
