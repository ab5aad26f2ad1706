"""Real processes around the bridge: a plant that listens, and waiting for what must come."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.messages import State
from firmware_bridge.plant import MotorFeedback, MotorOutput


def until(true: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    """Wait until it is true; the time only guards against hanging."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"waited {timeout_s} s in vain: {what}"
        time.sleep(0.002)


class RecordingPlant:
    """Motors that never move, report what they are told to report, and keep every packet of the firmware."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packets: list[MotorOutput] = []
        self.feedback = MotorFeedback((0, 0), (0, 0), (0, 0))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def newest(self) -> MotorOutput:
        until(lambda: self.packets, "a packet of the firmware")
        return self.packets[-1]

    def wait_for(self, state: State) -> MotorOutput:
        until(lambda: self.newest.state is state, f"{state.name}, at the motors")
        return self.newest

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._ending.is_set():
            if not select.select([self._listener], [], [], 0.02)[0]:
                continue
            with self._listener.accept()[0] as connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        while not self._ending.is_set():
            if not select.select([connection], [], [], 0.02)[0]:
                continue
            try:
                packet = connection.recv(256)
                if not packet:
                    return
                self.packets.append(MotorOutput.unpack(packet))
                connection.send(self.feedback.pack())
            except OSError:
                return
