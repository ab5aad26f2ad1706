"""Latentloop's firmware, led by hand on the wire: without the host's own carefulness, so that it is the firmware that is proved."""

from __future__ import annotations

import time
from collections.abc import Sequence

from edge.bridge.hand import PATIENCE_S, Hand, Seen
from firmware_bridge.controller import FirmwareState
from firmware_bridge.device import Device
from firmware_bridge.messages import Arm, Code, Disarm, Estop, EstopClear, Message, Mode, SetNow, State, StopCause

ESTOP_COPIES = 3


class ByHand(Hand):
    """One session. Ends and times are in us of the device."""

    margin_ms = 20.0
    causes = (StopCause.LEASE_EXPIRED.name.lower(), StopCause.COMMAND_EXPIRED.name.lower())

    def __init__(self, device: Device) -> None:
        super().__init__(device.where, device.describe(), min(200, device.session.lease_cap_us // 1000))
        self.device = device
        self._take_in()

    def feed(self, until_ns: int) -> None:
        self.device.lease(until_ns, True)
        self.lease_end = self.device.session.clock.to_device_us(until_ns)

    def say(self, targets: Sequence[float], until_ns: int) -> None:
        session = self.device.session
        self.command_end = session.clock.to_device_us(until_ns)
        values = tuple(round(1000 * target) for target in targets)
        for mode in (Mode.VELOCITY, Mode.POSITION):
            mask = sum(1 << i for i, axis in enumerate(session.axes) if axis.mode == mode)
            if mask:
                self.device.link.send(SetNow(mode, mask, values, self.command_end), session.id)

    def listen(self, until_ns: int) -> None:
        device = self.device
        while (now_ns := time.monotonic_ns()) < until_ns:
            for frame in device.link.receive((until_ns - now_ns) / 1e9):
                before = device.reports.newest
                device.hear([frame])
                if device.reports.newest is not before:
                    self._take_in()
            device.repeat(time.monotonic_ns())

    def ask_to_arm(self) -> str:
        session = self.device.session
        code = self._ask(Arm(session.limits_crc, session.boot_id))
        return "it gives no answer" if code is None else "" if code == Code.OK else self.device.reason(code)

    def disarm(self) -> None:
        self.device.request(Disarm())

    def stop(self) -> None:
        for _ in range(ESTOP_COPIES):
            self.device.link.send(Estop(1), 0)

    def clear(self) -> bool:
        """And begin a new session, as the firmware wants one. Raises BridgeError."""
        newest = self.device.reports.newest
        assert newest is not None
        if self._ask(EstopClear(newest.challenge)) != Code.OK:
            return False
        deadline_ns = time.monotonic_ns() + int(PATIENCE_S * 1e9)
        self.device = Device.begin(self.device.link, self.where, None, 20, deadline_ns)
        self._take_in()
        return True

    def late_ms(self, at: int, end: int) -> float:
        return ((at - end + (1 << 31)) % (1 << 32) - (1 << 31)) / 1000

    def _ask(self, message: Message) -> int | None:
        """The code of the answer; None without one."""
        request = self.device.request(message)
        self.until(request.done.is_set)
        return request.code

    def _take_in(self) -> None:
        report = self.device.reports.newest
        assert report is not None
        self.note(
            Seen(
                report.t_us,
                report.t_us / 1000,
                FirmwareState(State(report.state).name.lower()),
                tuple(value / 1000 for value in report.position),
                tuple(value / 1000 for value in report.velocity),
                StopCause(report.stop_cause).name.lower(),
                frozenset(i for i in range(len(self.axes)) if report.clamped >> i & 1),
            )
        )
