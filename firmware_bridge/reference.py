"""The motor firmware in Python: the same core as the C files in firmware/, byte for byte.

The two are kept in lock-step by tests; this one also runs where there is no C compiler. Bytes and time go in, outputs
and bytes come out; ``now_us`` is device time in microseconds modulo 2**32 and the object must be called at least every
35 minutes. This file is the state machine of firmware/core.c; the files ``reference_*`` beside it are the others.
"""

from __future__ import annotations

from firmware_bridge.messages import Mode, Parameter, State, StopCause
from firmware_bridge.reference_link import handle
from firmware_bridge.reference_sending import send_periodic
from firmware_bridge.reference_state import CoreState, Identity
from firmware_bridge.reference_stopping import cut, estop, ramp_down, release, settle
from firmware_bridge.reference_trajectory import U32, Aim, left

__all__ = ["Core", "Identity"]


class Core(CoreState):
    """One firmware. Not thread-safe. What may be read and written of it is said at :class:`CoreState`."""

    # -- the interface ---------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes from the line. Answers are in ``tx`` afterwards; an ESTOP has already cut the outputs."""
        self._advance(now_us)
        for frame in self.decoder.feed(data):
            handle(self, frame)
        for name in ("crc_errors", "cobs_errors", "overruns"):
            self.counters[name] = getattr(self.decoder, name)
        self.counters["unknown"] = self.decoder.unknown + self.not_understood

    def tick(self, now_us: int) -> None:
        """One control step: deadlines, faults, motion, periodic messages. Call every millisecond or so."""
        elapsed_us = (now_us - self.ticked_us) & U32
        self.ticked_us = now_us
        self.counters["longest_tick_us"] = max(self.counters["longest_tick_us"], elapsed_us)
        elapsed_us = min(elapsed_us, self.board.max_tick_us)
        self._advance(now_us)
        if self.state is State.BOOT:
            self.state = State.IDLE
            if self.faults:
                cut(self, State.FAULT, StopCause.FAULT)
        measured = list(zip(self.position, self.velocity, self.current, strict=True))
        self.fault_measured = self.measured_faults.look(
            self.settings, self.motions, self.drives, measured, self.supply_mv, elapsed_us
        )
        self._raise_faults()
        self._move(elapsed_us)
        if self.state is State.SAFE_STOP and not any(motion.speed for motion in self.motions):
            settle(self)
        release(self)
        send_periodic(self)

    def set_faults(self, present: int) -> None:
        """The faults that the port sees at this moment; each latches FAULT and cuts the outputs at once."""
        self.fault_inputs = present
        self._raise_faults()

    def task_ran(self, task: int) -> None:
        """One of the three tasks that the hardware watchdog waits for: 1 control, 2 link, 4 safety."""
        self.tasks |= task

    def watchdog_due(self) -> bool:
        """Feed the hardware watchdog now? True once after all three tasks have run."""
        if self.tasks != 7:
            return False
        self.tasks = 0
        return True

    def estop(self) -> None:
        """The hardware stop button; latches like the ESTOP message."""
        estop(self)

    def sent(self, count: int) -> None:
        """Forget the first bytes of ``tx``: they are on the line."""
        del self.tx[:count]

    # -- time ------------------------------------------------------------------------------------------------------

    def _advance(self, now_us: int) -> None:
        if now_us < self.now_us:
            self.epoch += 1
        self.now_us = now_us
        if self.lease_until is not None and left(self.lease_until, now_us) <= 0:
            self.lease_until = None
            if self.state is State.ACTIVE:
                ramp_down(self, StopCause.LEASE_EXPIRED)
        if self.state is State.ACTIVE and any(t is not None and left(t, now_us) <= 0 for t in self.valid_until):
            ramp_down(self, StopCause.COMMAND_EXPIRED)
        engage_by = (self.armed_us + self.board.engage_within_us) & U32
        if self.state is State.ACTIVE and not self.engaged_once and left(engage_by, now_us) <= 0:
            ramp_down(self, StopCause.DISENGAGED)

    def _raise_faults(self) -> None:
        present = self.fault_inputs | self.fault_measured
        self.faults |= present
        if present and not self.latched:
            cut(self, State.FAULT, StopCause.FAULT)

    def _move(self, elapsed_us: int) -> None:
        if self.trajectory.moving:
            patience_us = 1000 * self.settings.of_device(Parameter.UNDERRUN_MS)
            if not self.trajectory.follow(self.now_us, patience_us):
                self.count("underruns")
                ramp_down(self, StopCause.UNDERRUN)
        active = self.state is State.ACTIVE
        for i, motion in enumerate(self.motions):
            limits = self.settings.limits[i]
            acceleration = (limits if active else self.board.limits[i]).max_acceleration
            motion.step(self._wanted_speed(i, elapsed_us), acceleration, limits, elapsed_us)

    def _wanted_speed(self, i: int, elapsed_us: int) -> int:
        motion, limits = self.motions[i], self.settings.limits[i]
        if self.state is not State.ACTIVE:
            return 0
        if self.trajectory.moving:
            aim = self.trajectory.aim(i, self.now_us)
            return aim.speed if motion.mode is Mode.VELOCITY else motion.pursue(aim, limits, elapsed_us)
        if self.valid_until[i] is None:
            return 0
        if motion.mode is Mode.VELOCITY:
            return self.targets[i]
        return motion.pursue(Aim(self.targets[i] * 1_000_000, 0), limits, elapsed_us)
