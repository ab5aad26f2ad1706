"""Keeps one device connected: opens its port, reads, feeds the lease, begins new sessions, and backs off when it is gone.

One thread. A new session never inherits a permission to move.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from firmware_bridge.board_settings import Value
from firmware_bridge.controller import BridgeError, FirmwareState, LinkCounts, Telemetry
from firmware_bridge.device import Device
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import Arm, Estop, State, Stats
from firmware_bridge.permission import Permission
from firmware_bridge.serial_port import open_port

log = logging.getLogger(__name__)

LEASE_EVERY_NS = 20_000_000
EARLY_NS = 4_000_000
"""A lease may be fed this much before its time when the thread is awake anyway."""
TIME_EVERY_NS = 983_900_000
"""Not a round second, so as not to beat with anything periodic."""
SILENCE_NS = 300_000_000
"""Without a STATE for so long the link counts as lost."""
HANDSHAKE_NS = 1_000_000_000
BACKOFF_S = (0.1, 2.0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to connect to. port, baud: see :func:`~firmware_bridge.serial_port.open_port`. axes: the names that the device must
    report. lease_ns: length of a lease. period_ms: of the device's reports. settings: to be in force in every session before
    anything can be armed."""

    port: str
    baud: int
    axes: tuple[str, ...]
    lease_ns: int
    period_ms: int
    settings: Mapping[str, Value]


class LinkKeeper:
    """Whoever uses ``device`` or changes ``permission`` holds ``lock`` meanwhile. telemetry and stats are replaced, never
    changed, and may be read without."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.lock = threading.RLock()
        self.permission = Permission()
        self.device: Device | None = None
        self.telemetry = Telemetry(FirmwareState.OFFLINE, (), (), (), 0)
        self.stats: Stats | None = None
        self.trouble = ""
        self._boot_id: int | None = None
        self._past = LinkCounts()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    def start(self, timeout_s: float) -> None:
        """Connect once; from then on the link is kept up. Does nothing the second time. Raises BridgeError."""
        if self._thread is not None:
            return
        try:
            self._open(time.monotonic_ns() + int(timeout_s * 1e9))
        except BridgeError as error:
            with self.lock:
                self.trouble = str(error)
                self._drop_device()
            raise
        self._thread = threading.Thread(target=self._keep, name="bridge-link", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for the thread, half a second at most."""
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=0.5)
        with self.lock:
            self._drop_device()

    # -- under the lock --------------------------------------------------------------------------------------------

    def online(self) -> Device:
        """Raises BridgeError with the reason while there is none."""
        if self.device is None:
            raise BridgeError(f"not connected to {self._wanted.port}: {self.trouble or 'call connect first'}")
        return self.device

    def feed_lease(self, device: Device, now_ns: int) -> None:
        """If there is one to be had. Raises LinkLost."""
        until_ns = self.permission.lease_until(now_ns, self._wanted.lease_ns)
        if until_ns is not None:
            device.lease(until_ns, self.permission.engaged)

    def withdraw(self) -> None:
        """No permission any more, and no ARM or motion that might be repeated after a later stop."""
        self.permission.permitted = False
        if self.device is not None:
            self.device.requests.withdraw(Arm)
            self.device.drop_plan()

    def hold_back(self) -> None:
        """Count a command that was not sent."""
        self._past = replace(self._past, dropped=self._past.dropped + 1)
        if self.device is None:
            self.telemetry = replace(self.telemetry, counts=self._past)

    def _publish(self, device: Device) -> None:
        """Made here and not when asked for, which stands in the way of every command."""
        self.telemetry = device.telemetry(self._past, self.trouble)
        self.stats = device.stats or self.stats

    def _drop_device(self, keep: Link | None = None) -> None:
        """The session is over: let everybody who waits for an answer go."""
        self.permission.permitted = False
        device, self.device = self.device, None
        if device is not None:
            device.requests.withdraw()
            if device.link is keep:
                self._past = replace(self._past, acked=self._past.acked + device.acked)
            else:
                device.link.close()
                self._past = device.counts(self._past)
        self.telemetry = replace(self.telemetry, state=FirmwareState.OFFLINE, counts=self._past, trouble=self.trouble)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _open(self, deadline_ns: int) -> None:
        port = self._wanted.port
        link = Link(open_port(port, self._wanted.baud))
        try:
            self._begin(link, deadline_ns)
        except LinkLost as error:
            raise BridgeError(f"the link to {port} broke during the handshake: {error}") from None

    def _begin(self, link: Link, deadline_ns: int) -> None:
        """A new session on this link, or none and no link: nothing of the one before counts, and nothing is permitted."""
        wanted = self._wanted
        with self.lock:
            self._drop_device(keep=link)
        try:
            device = Device.begin(link, wanted.port, wanted.axes, wanted.period_ms, deadline_ns, wanted.settings)
        except (BridgeError, LinkLost):
            link.close()
            raise
        with self.lock:
            if self._boot_id not in (None, device.session.boot_id):
                log.warning("the firmware on %s has restarted; it is not armed", wanted.port)
            self._boot_id, self.device, self.trouble = device.session.boot_id, device, ""
            self._publish(device)

    def _keep(self) -> None:
        port, backoff_s = self._wanted.port, BACKOFF_S[0]
        while not self._closing.is_set():
            try:
                if self.device is None:
                    self._open(time.monotonic_ns() + HANDSHAKE_NS)
                    log.info("connected again to %s; not armed", port)
                backoff_s = BACKOFF_S[0]
                self._serve()
            except Exception as error:
                if self._closing.is_set():
                    return
                if not isinstance(error, (BridgeError, LinkLost)):
                    log.exception("the link to %s broke on a bug: it is made anew, it must not only look alive", port)
                with self.lock:
                    changed, self.trouble = self.trouble != str(error), str(error)
                    self._drop_device()
                if changed:
                    log.warning("the link to %s is down: %s", port, error)
                self._closing.wait(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S[1])

    def _serve(self) -> None:
        """Read and feed the lease until the link is lost; begin a new session where the device needs one."""
        lease_ns = time.monotonic_ns()
        time_ns = lease_ns + TIME_EVERY_NS
        while not self._closing.is_set():
            device = self.device
            if device is None:
                return
            frames = device.link.receive(max(0, lease_ns - time.monotonic_ns()) / 1e9)
            now_ns = time.monotonic_ns()
            with self.lock:
                if frames:
                    device.hear(frames)
                    self._publish(device)
                device.repeat(now_ns)  # under the lock, or a repeated ARM could overtake a DISARM
                if now_ns >= lease_ns - EARLY_NS:
                    lease_ns = max(lease_ns + LEASE_EVERY_NS, now_ns)
                    self.feed_lease(device, now_ns)
                    reason = self.permission.stop_reason
                    if reason is not None and device.state is not State.ESTOP:
                        device.link.send(Estop(reason), 0)
                if now_ns >= time_ns:
                    time_ns = now_ns + TIME_EVERY_NS
                    device.ask_time(now_ns)
            silent = not frames and now_ns - device.reports.received_ns > SILENCE_NS
            if silent:
                self.trouble = f"the firmware on {self._wanted.port} has fallen silent: check power and cable"
            settles = not device.session.settled and device.state is State.LINKED  # now it takes its settings
            if silent or settles or device.state is State.IDLE:
                self._begin(device.link, now_ns + HANDSHAKE_NS)
