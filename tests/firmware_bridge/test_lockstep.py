"""The C core and the Python reference do the same, bit for bit, whatever happens to them."""

from __future__ import annotations

import ctypes

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import framing
from firmware_bridge.board import ROVER, Board
from firmware_bridge.framing import ACK_REQ, Decoder, Frame
from firmware_bridge.messages import (
    MAGIC,
    SCHEMA_ID,
    Arm,
    AxisGet,
    Disarm,
    Estop,
    EstopClear,
    Event,
    EventAck,
    Hello,
    HelloAck,
    Lease,
    LimitsSet,
    Message,
    Mode,
    Parameter,
    ParamGet,
    ParamSet,
    Ping,
    Point,
    SetNow,
    State,
    StateReport,
    Stats,
    Subscribe,
    TimeReq,
    TrajPush,
)
from tests.firmware_bridge.conftest import BOOT
from tests.firmware_bridge.cores import MIXED, U32, CCore, PythonCore, Raw

small = st.integers(-3, 3)
u8 = st.integers(0, 255)
i32 = st.integers(-(2**31), 2**31 - 1)
LIMITS_MS = [0, 1, 20, 50, 100, 500, 1000, 2000, 2**31 // 1000]
"""Milliseconds at which something changes."""
near = st.builds(lambda ms, us: 1000 * ms + us, st.sampled_from(LIMITS_MS), small)
usual = st.integers(20_000, 450_000)
positions = st.sampled_from([0, 1, -1, 200, -200, 900, 901, 1_500, -1_500, 1_501]) | i32
speeds = st.sampled_from([0, 1, -1, 500, 20_000, -20_000, 20_001, -20_001]) | i32


class Pair:
    """Both cores, fed alike; after every step everything that can be seen of them must be equal."""

    def __init__(self, library: ctypes.CDLL, now_us: int, board: Board = ROVER, reset_cause: int = 0) -> None:
        self.board = board
        self.n = len(board.axes)
        self.limits = list(board.limits)
        self.now_us = now_us
        self.c = CCore(library, BOOT, now_us, board, reset_cause)
        self.python = PythonCore(BOOT, now_us, board, reset_cause)
        self.limits_crc = board.limits_crc
        self.event = 0
        self.session = 0
        self.seq = 0
        self.challenge = 0
        self.states: set[State] = set()
        self._decoder = Decoder(SCHEMA_ID)
        self.step(0)

    def send(self, message: Message, flags: int = 0, session: int | None = None, back: int = 0) -> None:
        if back == 0:
            self.seq = (self.seq + 1) & 0xFF
        session = self.session if session is None else session
        self.line(framing.encode(Frame(message.TYPE, (self.seq - back) & 0xFF, session, message.pack(), flags), SCHEMA_ID))

    def line(self, data: bytes) -> None:
        self.c.receive(data, self.now_us)
        self.python.receive(data, self.now_us)
        self.compare()

    def step(self, us: int) -> None:
        self.now_us = (self.now_us + us) & U32
        outputs, speeds = self.python.outputs(), self.python.speeds()
        self.c.tick(self.now_us)
        self.python.tick(self.now_us)
        self.compare()
        self.check_step(outputs, speeds, us)

    def compare(self) -> None:
        c, python = self.c, self.python
        assert c.state() is python.state()
        assert c.outputs() == python.outputs()
        assert c.drives() == python.drives()
        assert c.counters() == python.counters()
        assert c.faults() == python.faults()
        said = python.take()
        assert c.take() == said
        self.states.add(python.state())
        for frame in self._decoder.feed(said):
            if frame.type == HelloAck.TYPE:
                ack = HelloAck.unpack(frame.payload)
                self.session, self.limits_crc = ack.session, ack.limits_crc
            elif frame.type == Event.TYPE:
                self.event = Event.unpack(frame.payload).number
            elif frame.type == StateReport.TYPE:
                self.challenge = StateReport.unpack(frame.payload).challenge

        self.check_still()

    def check_still(self) -> None:
        """Only a control step moves anything, and nothing moves but in ACTIVE and SAFE_STOP."""
        if self.python.state() not in (State.ACTIVE, State.SAFE_STOP):
            assert not any(self.python.speeds())

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

    def point(self, draw: st.DrawFn, t_us: int) -> Point:
        position = tuple(draw(positions) for _ in range(self.n))
        return Point(t_us, position, tuple(draw(st.sampled_from([0, 0, 500, -500]) | speeds) for _ in range(self.n)))

    def push(self, draw: st.DrawFn) -> TrajPush:
        ahead = draw(st.sampled_from([-10_000, 0, 15_000, 30_000, 100_000, 500_000, 1_990_000]))
        points = []
        for _ in range(draw(st.integers(1, 4))):
            ahead += draw(st.sampled_from([0, 1, 5_000, 20_000, 50_000, 50_000, 300_000]))
            points.append(self.point(draw, (self.now_us + ahead) & U32))
        room = (120 - TrajPush.size(self.n)) // Point.size(self.n)
        replace = draw(st.sampled_from([0, 25_000, 60_000, 400_000, 2_000_000, -(2**31)]))
        return TrajPush((self.now_us + replace) & U32, tuple(points[:room]))

    def set_now(self, draw: st.DrawFn, until_us: int) -> SetNow:
        """Mostly one that is accepted: the axes of one mode."""
        mode = draw(st.sampled_from([p.mode for p in self.board.parts]))
        mask = sum((p.mode is mode) << i for i, p in enumerate(self.board.parts))
        odd = draw(st.sampled_from([None] * 5 + ["mode", "mask"]))
        mode = Mode(3 - mode) if odd == "mode" else mode
        mask = draw(st.sampled_from([1, 2, 0, 4, 7, 255])) if odd == "mask" else mask
        values = speeds if mode is Mode.VELOCITY else positions
        return SetNow(mode, mask, tuple(draw(values) for _ in range(self.n)), until_us)

    def do(self, draw: st.DrawFn) -> None:
        """One step that a host, a line or a board may take."""
        what = draw(st.sampled_from(STEPS))
        flags = draw(st.sampled_from([0, ACK_REQ, ACK_REQ]))
        back = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 40]))
        soon = (self.now_us + draw(usual | usual | near | near.map(lambda us: -us))) & U32
        if what == "tick":
            for _ in range(draw(st.integers(1, 40))):
                self.step(1000)
        elif what == "pause":
            self.step(draw(near.filter(lambda us: 0 <= us < 2**30) | st.integers(0, 3_000_000)))
        elif what == "hello":
            version = draw(st.sampled_from([1, 1, 1, 0, 2]))
            self.send(Hello(draw(st.sampled_from([MAGIC, MAGIC, MAGIC, 5])), version, version, draw(u8)), session=0)
        elif what == "live":
            self.send(Lease((self.now_us + 100_000) & U32, 0, 1, 0, 0))
            self.send(self.set_now(draw, (self.now_us + 100_000) & U32))
            self.step(1000)
        elif what == "push":
            self.send(Lease((self.now_us + 400_000) & U32, 0, 1, 0, 0))
            self.send(self.push(draw), flags, back=back)
            for _ in range(draw(st.integers(0, 60))):
                self.step(draw(st.sampled_from([1000, 1000, 1000, 7, 5_000])))
        elif what == "limits":
            axis = draw(st.integers(0, self.n))
            compiled = self.board.limits[axis % self.n]
            less = draw(st.sampled_from([0, 1, -1, 100, compiled.max_speed]))
            rise = draw(st.sampled_from([0, 0, 1, -1, 150]))
            low = compiled.min_position + (rise if compiled.max_position else 0)
            m = LimitsSet(axis, compiled.max_speed - less, compiled.max_acceleration - abs(rise), low, compiled.max_position)
            self.send(m, flags, back=back)
            self.send(Hello(MAGIC, 1, 1, draw(u8)), session=0)  # brings the new checksum
        elif what == "parameter":
            number = draw(st.sampled_from([*map(int, Parameter), 4, 15, 22, 255]))
            axis = draw(st.sampled_from([0, 0, 1, self.n, 255]))
            value = draw(st.sampled_from([0, 1, 2, 3, 50, 100, 500, 1_000, 2_000, 2_001, 6_000, 65_535, 65_536]) | i32)
            self.send(ParamSet(number, axis, value), flags, back=back)
            self.send(ParamGet(number, axis), flags)
        elif what == "measure":
            where = self.python.outputs() if draw(st.booleans()) else tuple(draw(positions) for _ in range(self.n))
            current = tuple(draw(st.sampled_from([0, 2_000, -2_001, 32_767, -32_768])) for _ in range(self.n))
            supply = draw(st.sampled_from([0, 0, 5_999, 6_000, 12_000]))
            for core in (self.c, self.python):
                core.measure(where, where, current, supply)
            for _ in range(draw(st.integers(1, 250))):
                self.step(1000)
        elif what == "event":
            self.send(EventAck(self.event + draw(st.sampled_from([0, 0, 0, 1])) & 0xFF), flags, back=back)
        elif what == "lease":
            self.send(Lease(soon, draw(u8), draw(st.sampled_from([1, 1, 0, 255])), draw(u8), 0), flags, back=back)
        elif what == "arm":
            if draw(st.booleans()):
                self.send(Lease((self.now_us + 400_000) & U32, 0, 1, 0, 0))
            wrong = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
            self.send(Arm(self.limits_crc ^ (wrong & 1), BOOT ^ (wrong & 2)), flags, back=back)
        elif what == "set":
            self.send(self.set_now(draw, soon), flags, back=back)
        elif what == "disarm":
            self.send(Disarm(), flags, back=back)
        elif what == "estop":
            self.send(Estop(draw(u8)), flags, session=0)
        elif what == "clear":
            self.send(EstopClear(self.challenge ^ draw(st.sampled_from([0, 0, 0, 1]))), flags, back=back)
        elif what == "faults":
            faults = draw(st.sampled_from([0, 0, 1, 16, 17]))
            self.c.set_faults(faults)
            self.python.set_faults(faults)
            self.compare()
        elif what == "ask":
            questions: list[Message] = [TimeReq(draw(u8)), AxisGet(draw(st.integers(0, 3))), Ping()]
            self.send(draw(st.sampled_from(questions)), flags, back=back)
        elif what == "subscribe":
            stream = draw(st.sampled_from([StateReport.TYPE, StateReport.TYPE, Stats.TYPE, 9]))
            self.send(Subscribe(stream, draw(st.sampled_from([0, 4, 5, 20, 1000]))), flags)
        elif what == "odd":
            session = draw(st.sampled_from([0, self.session, (self.session + 1) & 0xFF]))
            self.send(Raw(draw(u8), draw(st.binary(max_size=60))), draw(st.integers(0, 3)), session)
        elif what == "noise":
            self.line(draw(st.binary(max_size=200)))


STEPS = (
    *["tick"] * 3, "pause", "hello", *["live"] * 3, *["lease"] * 2, *["arm"] * 3, *["set"] * 3, "disarm", "estop",
    *["clear"] * 2, "faults", "ask", "subscribe", "odd", "noise", *["push"] * 3, "limits", "parameter", "measure", "event",
)  # fmt: skip


starts = st.sampled_from([0, 2**32 - 1, 2**32 - 200_000, 2**31 - 100_000])


@settings(max_examples=120, deadline=None)
@given(data=st.data(), start=starts)
def test_lockstep(library: ctypes.CDLL, data: st.DataObject, start: int) -> None:
    live(Pair(library, start), data)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), start=starts)
def test_lockstep_of_joints_and_trajectories(mixed_library: ctypes.CDLL, data: st.DataObject, start: int) -> None:
    live(Pair(mixed_library, start, MIXED, data.draw(st.sampled_from([0, 0, 0, 1]))), data)


def live(pair: Pair, data: st.DataObject) -> None:
    pair.send(Hello(MAGIC, 1, 1, 1), session=0)
    pair.send(Subscribe(StateReport.TYPE, 5))
    if data.draw(st.booleans()):
        pair.send(Lease((pair.now_us + 400_000) & U32, 0, 1, 0, 0))
        pair.send(Arm(pair.limits_crc, BOOT))
    for _ in range(data.draw(st.integers(1, 40))):
        pair.do(data.draw)


def test_every_state_is_reached_in_lockstep(library: ctypes.CDLL) -> None:
    """A scripted life, so that the comparison is known to have seen every state."""
    pair = Pair(library, 2**32 - 150_000)
    pair.step(1000)
    pair.send(Hello(MAGIC, 1, 1, 1), session=0)
    pair.send(Subscribe(StateReport.TYPE, 5), ACK_REQ)
    pair.send(Subscribe(Stats.TYPE, 50), ACK_REQ)
    for _ in range(2):
        pair.send(Lease((pair.now_us + 400_000) & U32, 0, 1, 0, 0))
        pair.send(Arm(ROVER.limits_crc, BOOT), ACK_REQ)
        pair.send(SetNow(1, 3, (20_000, -7_777), (pair.now_us + 200_000) & U32), ACK_REQ)
        for _ in range(300):
            pair.step(1000)
    pair.c.set_faults(4)
    pair.python.set_faults(4)
    pair.compare()
    pair.send(Estop(1), session=0)
    pair.step(5000)
    pair.c.set_faults(0)
    pair.python.set_faults(0)
    pair.send(EstopClear(pair.challenge), ACK_REQ)
    assert pair.python.state() is State.IDLE
    assert pair.states == set(State) - {State.OFFLINE, State.BOOT}
