"""A host that feeds lease and commands only as it is told to, so that what the firmware does by itself can be seen.

The host's own carefulness is left out on purpose: commands go out whatever the state and however large.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from firmware_bridge.controller import BridgeError
from firmware_bridge.device import Device
from firmware_bridge.messages import Arm, Code, Disarm, EstopClear, Message, Mode, SetNow, State, StateReport

TURN_NS = 20_000_000
PATIENCE_S = 3.0
STILL = 50
"""mrad/s, at which a wheel counts as standing."""


class ByHand:
    """One session. leased: feed the lease at every turn, lease_ms long. speed: mrad/s for every axis; None sends no commands.
    valid_ms: of commands. reports: every STATE since ``forget``. lease_us, command_us: device time at which the newest ends."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.leased = False
        self.lease_ms = min(200, device.session.lease_cap_us // 1000)
        self.speed: int | None = None
        self.valid_ms = 200
        self.lease_us = self.command_us = 0
        self.reports: list[StateReport] = []

    @property
    def state(self) -> State:
        return self.device.state

    @property
    def newest(self) -> StateReport:
        report = self.device.reports.newest
        assert report is not None
        return report

    def fastest(self) -> int:
        """mrad/s, of any axis in the reports."""
        return max((abs(speed) for report in self.reports for speed in report.velocity), default=0)

    def standing(self) -> bool:
        return all(abs(speed) <= STILL for speed in self.newest.velocity)

    def turn(self) -> None:
        """Send what is to be sent, and listen for 20 ms. Raises LinkLost."""
        device, now_ns = self.device, time.monotonic_ns()
        to_device_us = device.session.clock.to_device_us
        if self.leased:
            until_ns = now_ns + self.lease_ms * 1_000_000
            device.lease(until_ns, True)
            self.lease_us = to_device_us(until_ns)
        if self.speed is not None:
            self.command_us = to_device_us(now_ns + self.valid_ms * 1_000_000)
            axes = len(device.session.axes)
            command = SetNow(Mode.VELOCITY, (1 << axes) - 1, (self.speed,) * axes, self.command_us)
            device.link.send(command, device.session.id)
        end_ns = now_ns + TURN_NS
        while (now_ns := time.monotonic_ns()) < end_ns:
            for frame in device.link.receive((end_ns - now_ns) / 1e9):
                before = device.reports.newest
                device.hear([frame])
                if device.reports.newest is not before:
                    self.reports.append(self.newest)
            device.repeat(time.monotonic_ns())

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 1e9 / TURN_NS)):
            self.turn()

    def until(self, true: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        """Turn until it is true; False if it does not become so."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                return False
            self.turn()
        return True

    def ask(self, message: Message) -> int | None:
        """The code of the answer; None without one."""
        request = self.device.request(message)
        self.until(request.done.is_set)
        return request.code

    def arm(self) -> None:
        """To ACTIVE, at rest. Raises BridgeError."""
        self.leased, self.speed, self.valid_ms = True, 0, 200
        self.turn()
        session = self.device.session
        code = self.ask(Arm(session.limits_crc, session.boot_id))
        if code != Code.OK or not self.until(lambda: self.state is State.ACTIVE):
            why = "it gives no answer" if code is None else self.device.reason(code)
            raise BridgeError(f"the firmware on {self.device.where} does not arm: {why}")
        self.reports.clear()

    def rest(self) -> None:
        """Disarmed and standing. Raises BridgeError."""
        self.leased, self.speed = False, None
        self.ask(Disarm())
        if not self.until(lambda: self.state in (State.LINKED, State.SAFE) and self.standing()):
            raise BridgeError(f"the wheels of {self.device.where} do not come to rest: cut the power")
        self.reports.clear()

    def clear_estop(self) -> bool:
        """And begin a new session, as the firmware wants one. False if it is still latched. Raises BridgeError."""
        self.leased, self.speed = False, None
        if self.ask(EstopClear(self.newest.challenge)) != Code.OK:
            return False
        deadline_ns = time.monotonic_ns() + int(PATIENCE_S * 1e9)
        self.device = Device.begin(self.device.link, self.device.where, None, 20, deadline_ns)
        self.reports.clear()
        return True
