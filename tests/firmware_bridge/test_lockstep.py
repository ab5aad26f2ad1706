"""The C core and the Python reference do the same, bit for bit, whatever happens to them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import framing
from firmware_bridge.board import ROVER, Board
from firmware_bridge.evidence.life import BOOT, STARTS, Life
from firmware_bridge.framing import ACK_REQ, Frame
from firmware_bridge.messages import (
    MAGIC,
    SCHEMA_ID,
    Arm,
    Estop,
    EstopClear,
    Hello,
    Lease,
    Message,
    Mode,
    SetNow,
    State,
    StateReport,
    Stats,
    Subscribe,
)
from tests.firmware_bridge.cores import MIXED, U32, CCore, PythonCore

T = TypeVar("T")


class Drawn:
    """The choices of a life, made by hypothesis, which looks for the shortest life that fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def among(self, options: Sequence[T]) -> T:
        return self._draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def data(self, most: int) -> bytes:
        return self._draw(st.binary(max_size=most))


class Pair:
    """Both cores, fed alike; after every step everything that can be seen of them must be equal."""

    def __init__(self, library: ctypes.CDLL, now_us: int, board: Board = ROVER, reset_cause: int = 0) -> None:
        self.board = board
        self.c = CCore(library, BOOT, now_us, board, reset_cause)
        self.python = PythonCore(BOOT, now_us, board, reset_cause)
        self.reference = self.python.core
        self.states: set[State] = set()
        self._ticked_us = now_us

    def receive(self, data: bytes, now_us: int) -> None:
        self.c.receive(data, now_us)
        self.python.receive(data, now_us)
        self.compare()

    def tick(self, now_us: int) -> None:
        outputs, speeds = self.python.outputs(), self.python.speeds()
        self.c.tick(now_us)
        self.python.tick(now_us)
        self.compare()
        self.check_step(outputs, speeds, (now_us - self._ticked_us) & U32)
        self._ticked_us = now_us

    def set_faults(self, present: int) -> None:
        self.c.set_faults(present)
        self.python.set_faults(present)
        self.compare()

    def press_estop(self) -> None:
        self.c.press_estop()
        self.python.press_estop()
        self.compare()

    def measure(
        self, position: Sequence[int], velocity: Sequence[int], current: Sequence[int], supply_mv: int, temperature_dc: int
    ) -> None:
        for core in (self.c, self.python):
            core.measure(position, velocity, current, supply_mv, temperature_dc)

    def run_task(self, task: int) -> None:
        for core in (self.c, self.python):
            core.task_ran(task)
        assert self.c.watchdog_due() is self.python.watchdog_due()

    def take(self, most: int) -> bytes:
        said = self.python.take(most)
        assert self.c.take(most) == said
        return said

    def compare(self) -> None:
        c, python = self.c, self.python
        assert c.state() is python.state()
        assert c.outputs() == python.outputs()
        assert c.drives() == python.drives()
        assert c.counters() == python.counters()
        assert c.faults() == python.faults()
        self.states.add(python.state())
        if python.state() not in (State.ACTIVE, State.SAFE_STOP):
            assert not any(python.speeds())

    def check_step(self, outputs: tuple[int, ...], speeds: tuple[int, ...], us: int) -> None:
        """The limits, for what one control step made of the outputs and speeds before it."""
        us = min(us, self.board.max_tick_us)
        now = zip(self.python.outputs(), self.python.speeds(), outputs, speeds, strict=True)
        for part, (output, speed, before, slower) in zip(self.board.parts, now, strict=True):
            limits = part.limits
            assert abs(speed) <= limits.max_speed
            if self.python.state() not in (State.ESTOP, State.FAULT):  # which cut
                assert abs(speed - slower) <= limits.max_acceleration * us // 1_000_000 + 1
            if part.mode is Mode.POSITION:
                assert abs(output - before) <= limits.max_speed * us // 1_000_000 + 1
                assert abs((output - before) * 1_000_000 - speed * us) <= 1_500_000  # the limit was met by braking
                low, high = limits.min_position, limits.max_position
                assert max(low - output, output - high, 0) <= max(low - before, before - high, 0)


starts = st.sampled_from(STARTS)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), start=starts)
def test_lockstep(library: ctypes.CDLL, data: st.DataObject, start: int) -> None:
    live(Pair(library, start), Drawn(data.draw), start)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), start=starts)
def test_lockstep_of_joints_and_trajectories(mixed_library: ctypes.CDLL, data: st.DataObject, start: int) -> None:
    cause = data.draw(st.sampled_from([0, 0, 0, 1]))
    live(Pair(mixed_library, start, MIXED, cause), Drawn(data.draw), start)


def live(pair: Pair, choose: Drawn, start: int) -> None:
    life = Life(pair, pair.board, choose, start)
    for _ in range(choose.integer(1, 40)):
        life.step()


def test_every_state_is_reached_in_lockstep(library: ctypes.CDLL) -> None:
    """A scripted life, so that the comparison is known to have seen every state."""
    pair = Pair(library, 2**32 - 150_000)
    now_us, seq = 2**32 - 150_000, 0

    def say(message: Message, flags: int = 0, session: int = 0x43) -> None:
        nonlocal seq
        seq += 1
        pair.receive(framing.encode(Frame(message.TYPE, seq, session, message.pack(), flags), SCHEMA_ID), now_us)
        pair.take(1000)

    def run(ms: int) -> None:
        nonlocal now_us
        for _ in range(ms):
            now_us = (now_us + 1000) & U32
            pair.tick(now_us)
            pair.take(1000)

    run(1)
    say(Hello(MAGIC, 1, 1, 1), session=0)
    say(Subscribe(StateReport.TYPE, 5), ACK_REQ)
    say(Subscribe(Stats.TYPE, 50), ACK_REQ)
    for _ in range(2):
        say(Lease((now_us + 400_000) & U32, 0, 1, 0, 0))
        say(Arm(ROVER.limits_crc, BOOT), ACK_REQ)
        say(SetNow(1, 3, (20_000, -7_777), (now_us + 200_000) & U32), ACK_REQ)
        run(300)
    pair.set_faults(4)
    say(Estop(1), session=0)
    run(5)
    pair.set_faults(0)
    say(EstopClear(pair.reference.challenge), ACK_REQ)
    assert pair.python.state() is State.IDLE
    assert pair.states == set(State) - {State.OFFLINE, State.BOOT}
