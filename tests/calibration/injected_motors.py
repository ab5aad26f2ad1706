"""Motors in injected time: the real firmware core, worn wheels behind it, and a host that talks frames to it by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edge.clock import NS_PER_MS, FakeClock
from edge.worlds.rover import SPEC
from edge.worlds.wheels import Drivetrain, Wheel
from firmware_bridge.board import ROVER
from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState, Identity, Telemetry
from firmware_bridge.messages import Code, Fault, State, StateReport, StopCause
from tests.firmware_bridge.cores import AnyCore, Bench

BOOT = 0xB0071D42
STEP_S = 0.001
LEASE_EVERY_MS = 20
REPORT_EVERY_MS = 5


class InjectedMotors:
    """A MotorController whose time is that of a fake clock: each call first lives through what has passed.

    at: things that happen at a time, by milliseconds since the start.
    """

    def __init__(self, core: AnyCore, clock: FakeClock, wheels: Sequence[Wheel], seed: int = 0) -> None:
        self.clock = clock
        self._bench = Bench(core, BOOT)
        self._train = Drivetrain(wheels, STEP_S, seed)
        self.speeds = [0.0, 0.0]
        self.angles = [0.0, 0.0]
        self.fastest = 0.0
        self.most_commanded = 0.0
        self.at: dict[int, Callable[[], object]] = {}
        self.plugged = True
        self.armings = 0
        self._swapped = self._only_up = False
        self._pushed = 0.0
        self._stuck_at: float | None = None
        self._stalled_until_ms = 0
        self._lived_ms = clock.now_ns() // NS_PER_MS
        self._alive_until_ns = 0
        self._engaged = False
        self._telemetry = Telemetry(FirmwareState.OFFLINE, (), (), (), 0)
        self._bench.hello()
        self._bench.heard.clear()

    # -- the contract --------------------------------------------------------------------------------------------

    axes = ROVER.axes

    def describe(self) -> tuple[Axis, ...]:
        return tuple(
            Axis(name, AxisMode.VELOCITY, "rad/s", -speed / 1e3, speed / 1e3, speed / 1e3, acceleration / 1e3)
            for name, speed, acceleration in zip(self.axes, ROVER.max_speed, ROVER.max_acceleration, strict=True)
        )

    def identity(self) -> Identity:
        return Identity("latentloop", "injected", True, "latentloop-host", "00000000", True, "injected")

    def connect(self, timeout_s: float = 3.0) -> None: ...

    def arm(self, timeout_s: float = 1.0) -> None:
        self._live()
        self.armings += 1
        if not self.plugged:
            raise BridgeError("the port is gone")
        assert self._bench.lease(100.0, 0) is Code.OK
        code = self._bench.arm()
        if code is not Code.OK:
            raise BridgeError(f"the firmware refuses to arm: {code}")
        self.clock.advance_ns(10 * NS_PER_MS)
        self._live()

    def disarm(self) -> None:
        self._live()
        self._engaged = False
        if self.plugged:
            self._bench.disarm()

    def estop(self, reason: int = 1) -> None:
        self._bench.estop()

    def clear_estop(self) -> None:
        self._bench.clear()

    def send(self, targets: Sequence[float], valid_until_ns: int) -> None:
        self._live()
        self.most_commanded = max(self.most_commanded, *map(abs, targets))
        if self.plugged and self._bench.state is State.ACTIVE:
            left, right = (round(1e3 * target) for target in targets)
            self._bench.set_now(left, right, (valid_until_ns - self.clock.now_ns()) / NS_PER_MS)

    def heartbeat(self, alive_until_ns: int, engaged: bool) -> None:
        self._alive_until_ns, self._engaged = alive_until_ns, engaged

    def telemetry(self) -> Telemetry:
        self._live()
        return self._telemetry

    def close(self) -> None:
        self.disarm()

    # -- time ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The firmware's own."""
        return self._bench.state

    def run(self, ms: int) -> None:
        """Let time pass."""
        self.clock.advance_ns(ms * NS_PER_MS)
        self._live()

    @property
    def outputs(self) -> tuple[int, ...]:
        """The firmware's, mrad/s."""
        return self._bench.core.outputs()

    def stall(self, ms: int) -> None:
        """The host does not run for so long; motors and firmware do."""
        self.clock.advance_ns(ms * NS_PER_MS)
        self._stalled_until_ms = self._lived_ms + ms

    def swap(self) -> None:
        """Each driver has the other's motor."""
        self._swapped = True

    def one_way(self) -> None:
        """The driver ignores the direction."""
        self._only_up = True

    def push(self, speed: float) -> None:
        """Somebody turns the left wheel, rad/s."""
        self._pushed = speed

    def lose_encoder(self) -> None:
        """That of the left wheel says for ever what it says now."""
        self._stuck_at = self.angles[0]

    def fail(self, fault: Fault) -> None:
        self._bench.core.set_faults(fault)

    def _live(self) -> None:
        """Every millisecond since the last call: wheels, firmware, lease, report."""
        now_ms = self.clock.now_ns() // NS_PER_MS
        decay = 1.0 - 2.718281828459045 ** (-STEP_S / SPEC.motor_time_constant)
        while self._lived_ms < now_ms:
            self._lived_ms += 1
            if self._lived_ms in self.at:
                self.at.pop(self._lived_ms)()
            outputs = [output / 1e3 for output in self._bench.core.outputs()]
            if self._swapped:
                outputs.reverse()
            if self._only_up:
                outputs = [abs(output) for output in outputs]
            strive = self._train.step(outputs, self.speeds)
            strive = [strive[0] + self._pushed, strive[1]]
            for i, goal in enumerate(strive):
                before = self.speeds[i]
                self.speeds[i] += (goal - before) * decay
                self.angles[i] += 0.5 * (before + self.speeds[i]) * STEP_S
            self.fastest = max(self.fastest, *map(abs, self.speeds))
            angles, speeds = self._train.encoders(self.angles, self.speeds)
            if self._stuck_at is not None:
                angles[0] = self._stuck_at
            self._bench.core.measure([round(1e3 * a) for a in angles], [round(1e3 * s) for s in speeds], [0, 0])
            if self._lived_ms % LEASE_EVERY_MS == 0 and self.plugged and self._lived_ms >= self._stalled_until_ms:
                alive_ms = self._alive_until_ns / NS_PER_MS - self._lived_ms
                if alive_ms > 0:
                    self._bench.lease(min(100.0, alive_ms), int(self._engaged))
            self._bench.run(1)
            if self._lived_ms % REPORT_EVERY_MS == 0:
                self._hear()

    def _hear(self) -> None:
        if not self.plugged:
            self._telemetry = replace(self._telemetry, state=FirmwareState.OFFLINE)
            return
        if not any(frame.type == StateReport.TYPE for frame in self._bench.heard):
            return
        report = self._bench.last(StateReport)
        self._bench.heard.clear()
        at_ns = self._lived_ms * NS_PER_MS
        self._telemetry = Telemetry(
            state=FirmwareState(State(report.state).name.lower()),
            position=tuple(value / 1e3 for value in report.position),
            velocity=tuple(value / 1e3 for value in report.velocity),
            current=tuple(value / 1e3 for value in report.current),
            received_ns=at_ns,
            firmware="injected",
            faults=tuple(fault.name.lower() for fault in Fault if fault.name and fault & report.faults),
            measured_ns=at_ns,
            stop_cause=StopCause(report.stop_cause).name.lower(),
        )
