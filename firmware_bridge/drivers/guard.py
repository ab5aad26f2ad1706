"""Whether motors may move now: the firmware's states, kept on the host for controllers that have none."""

from __future__ import annotations

from firmware_bridge.controller import BridgeError, FirmwareState

ENGAGE_WITHIN_NS = 1_000_000_000
"""A loop that does not engage and command by then after arming is not there."""

_LATCHED = (FirmwareState.ESTOP, FirmwareState.FAULT)


class Guard:
    """The states of docs/protocol.md, with the heartbeat in place of the lease. Time is an argument; not thread-safe."""

    def __init__(self) -> None:
        self.state = FirmwareState.OFFLINE
        self.cause = ""
        """Why it stopped last, for a person; empty while nothing has."""
        self.faults: tuple[str, ...] = ()
        """As latched, while the state is FAULT."""
        self._present: tuple[str, ...] = ()
        self._stopped = False
        self._alive_until_ns = 0
        self._engaged = False
        self._engage_by_ns = 0
        self._command_until_ns: int | None = None
        self._afterwards = FirmwareState.SAFE

    def linked(self) -> None:
        """The device answers (again). Never armed by this."""
        self.state = FirmwareState.ESTOP if self._stopped else FirmwareState.LINKED

    def lost(self) -> None:
        """The device is gone."""
        self.state, self.faults, self._present = FirmwareState.OFFLINE, (), ()

    def may_arm(self, now_ns: int) -> None:
        """Raises BridgeError with the reason why not."""
        if self.state is FirmwareState.OFFLINE:
            raise BridgeError("the motors do not answer: see to power, cable and port first")
        if self.state is FirmwareState.ESTOP:
            raise BridgeError("the motors were stopped with estop: clear it first")
        if self.state is FirmwareState.FAULT or self._present:
            raise BridgeError(f"there is a fault ({', '.join(self.faults or self._present)}): mend it and clear it first")
        if now_ns >= self._alive_until_ns:
            raise BridgeError("the motors cannot be armed because no control loop is alive: start it first")
        if self.state is FirmwareState.SAFE_STOP:
            raise BridgeError("the motors are still coming to a stand: try again")

    def armed(self, now_ns: int) -> None:
        self.state, self.cause = FirmwareState.ACTIVE, ""
        self._engage_by_ns = now_ns + ENGAGE_WITHIN_NS
        self._command_until_ns = None

    def disarm(self) -> None:
        self._afterwards = FirmwareState.LINKED
        if self.state is FirmwareState.ACTIVE:
            self._stop("disarmed", FirmwareState.LINKED)
        elif self.state is FirmwareState.SAFE:
            self.state = FirmwareState.LINKED

    def estop(self) -> None:
        self._stopped = True
        self.cause = "emergency stop"
        if self.state is not FirmwareState.OFFLINE:
            self.state = FirmwareState.ESTOP

    def may_clear(self) -> None:
        """Raises BridgeError: nothing to clear, or the fault is still there."""
        if self.state not in _LATCHED and not self._stopped:
            raise BridgeError("the motors have no stop or fault to clear")

    def clear(self) -> None:
        """Raises BridgeError while a fault is present; the stop then stays."""
        if self._present:
            raise BridgeError(f"the fault is still there ({', '.join(self._present)}): mend it, then clear again")
        self._stopped = False
        self.faults = ()
        if self.state in _LATCHED:
            self.state = FirmwareState.LINKED

    def beat(self, alive_until_ns: int, engaged: bool) -> None:
        self._alive_until_ns, self._engaged = alive_until_ns, engaged

    def commanded(self, valid_until_ns: int) -> None:
        self._command_until_ns = valid_until_ns

    def fault(self, faults: tuple[str, ...]) -> None:
        """What is wrong now; empty for nothing. A fault that goes away by itself stays latched."""
        self._present = faults
        if faults and self.state not in (FirmwareState.ESTOP, FirmwareState.OFFLINE):
            if self.state is not FirmwareState.FAULT:
                self.state, self.cause, self.faults = FirmwareState.FAULT, ", ".join(faults), ()
            self.faults = tuple(dict.fromkeys((*self.faults, *faults)))

    def step(self, now_ns: int, standing: bool) -> None:
        """Look at the time. standing: every axis has been told to stand still."""
        if self._engaged and self._command_until_ns is not None:
            self._engage_by_ns = 0  # it has begun: from now on neither may lapse
        if self.state is FirmwareState.ACTIVE and (why := self._expired(now_ns)):
            self._stop(why, FirmwareState.SAFE)
        if self.state is FirmwareState.SAFE_STOP and standing:
            self.state = self._afterwards

    def _expired(self, now_ns: int) -> str:
        if now_ns >= self._alive_until_ns:
            return "the control loop is no longer alive"
        if now_ns < self._engage_by_ns and (not self._engaged or self._command_until_ns is None):
            return ""
        if not self._engaged:
            return "the control loop is not engaged"
        if self._command_until_ns is None or now_ns >= self._command_until_ns:
            return "the newest command has run out"
        return ""

    def _stop(self, why: str, afterwards: FirmwareState) -> None:
        self.state, self.cause, self._afterwards = FirmwareState.SAFE_STOP, why, afterwards
