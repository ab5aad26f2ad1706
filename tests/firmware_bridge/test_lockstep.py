"""The C core and the Python reference do the same, bit for bit, whatever happens to them."""

from __future__ import annotations

import ctypes

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import framing
from firmware_bridge.board import ROVER
from firmware_bridge.framing import ACK_REQ, Decoder, Frame
from firmware_bridge.messages import (
    MAGIC,
    SCHEMA_ID,
    Arm,
    AxisGet,
    Disarm,
    Estop,
    EstopClear,
    Hello,
    HelloAck,
    Lease,
    Message,
    Ping,
    SetNow,
    State,
    StateReport,
    Stats,
    Subscribe,
    TimeReq,
)
from tests.firmware_bridge.conftest import BOOT
from tests.firmware_bridge.cores import U32, CCore, PythonCore, Raw

small = st.integers(-3, 3)
u8 = st.integers(0, 255)
i32 = st.integers(-(2**31), 2**31 - 1)
LIMITS_MS = [0, 1, 20, 50, 100, 500, 1000, 2000, 2**31 // 1000]
"""Milliseconds at which something changes."""
near = st.builds(lambda ms, us: 1000 * ms + us, st.sampled_from(LIMITS_MS), small)
usual = st.integers(20_000, 450_000)
speeds = st.sampled_from([0, 1, -1, 500, 20_000, -20_000, 20_001, -20_001]) | i32


class Pair:
    """Both cores, fed alike; after every step everything that can be seen of them must be equal."""

    def __init__(self, library: ctypes.CDLL, now_us: int) -> None:
        self.now_us = now_us
        self.c = CCore(library, BOOT, now_us)
        self.python = PythonCore(BOOT, now_us)
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
        self.c.tick(self.now_us)
        self.python.tick(self.now_us)
        self.compare()

    def compare(self) -> None:
        c, python = self.c, self.python
        assert c.state() is python.state()
        assert c.outputs() == python.outputs()
        assert c.counters() == python.counters()
        assert c.faults() == python.faults()
        said = python.take()
        assert c.take() == said
        self.states.add(python.state())
        for frame in self._decoder.feed(said):
            if frame.type == HelloAck.TYPE:
                self.session = HelloAck.unpack(frame.payload).session
            elif frame.type == StateReport.TYPE:
                self.challenge = StateReport.unpack(frame.payload).challenge

        if python.state() not in (State.ACTIVE, State.SAFE_STOP):
            assert python.outputs() == (0, 0)
        for output, limit in zip(python.outputs(), ROVER.max_speed, strict=True):
            assert abs(output) <= limit

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
            self.send(SetNow(1, 3, (draw(speeds), draw(speeds)), (self.now_us + 100_000) & U32))
            self.step(1000)
        elif what == "lease":
            self.send(Lease(soon, draw(u8), draw(st.sampled_from([1, 1, 0, 255])), draw(u8), 0), flags, back=back)
        elif what == "arm":
            if draw(st.booleans()):
                self.send(Lease((self.now_us + 400_000) & U32, 0, 1, 0, 0))
            wrong = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
            self.send(Arm(ROVER.limits_crc ^ (wrong & 1), BOOT ^ (wrong & 2)), flags, back=back)
        elif what == "set":
            mode, mask = draw(st.sampled_from([1, 1, 1, 1, 0, 2])), draw(st.sampled_from([3, 3, 1, 2, 0, 4, 255]))
            self.send(SetNow(mode, mask, (draw(speeds), draw(speeds)), soon), flags, back=back)
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
    *["clear"] * 2, "faults", "ask", "subscribe", "odd", "noise",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data(), start=st.sampled_from([0, 2**32 - 1, 2**32 - 200_000, 2**31 - 100_000]))
def test_lockstep(library: ctypes.CDLL, data: st.DataObject, start: int) -> None:
    pair = Pair(library, start)
    pair.send(Hello(MAGIC, 1, 1, 1), session=0)
    pair.send(Subscribe(StateReport.TYPE, 5))
    if data.draw(st.booleans()):
        pair.send(Lease((start + 400_000) & U32, 0, 1, 0, 0))
        pair.send(Arm(ROVER.limits_crc, BOOT))
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
