"""What can happen to a motor firmware, step by step: what hosts, lines and boards do, honest and otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import ClassVar, Protocol, TypeVar

from firmware_bridge import framing
from firmware_bridge.board import Board
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
from firmware_bridge.reference import Core

T = TypeVar("T")
U32 = 0xFFFFFFFF
BOOT = 0xB0071D42
STARTS = (0, 0, 2**32 - 1, 2**32 - 200_000, 2**31 - 100_000)
"""Device times at which a life begins: also shortly before the clock wraps, or seems to be in the past."""
LIMITS_MS = (0, 1, 20, 40, 50, 100, 200, 300, 500, 1000, 2000, 2**31 // 1000)
"""Milliseconds at which something changes."""
STEPS = (
    *["tick"] * 3, "pause", *["edge"] * 4, "hello", *["live"] * 3, *["lease"] * 2, *["arm"] * 3, *["set"] * 3, "disarm",
    "estop", "button", *["clear"] * 2, "faults", "ask", "subscribe", "odd", "noise", "short", *["push"] * 3, "limits",
    "parameter", *["measure"] * 2, *["event"] * 2, "deaf", "tasks", "idle", "version", *["queue"] * 2, "move", "creep",
)  # fmt: skip


class Choose(Protocol):
    """Makes the choices: at random, or as a search for the smallest failing case wants them."""

    def among(self, options: Sequence[T]) -> T: ...

    def integer(self, low: int, high: int) -> int:
        """low to high, both included."""
        ...

    def data(self, most: int) -> bytes:
        """Up to so many bytes."""
        ...


class AtRandom:
    """The same choices for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def among(self, options: Sequence[T]) -> T:
        return options[self._random.randrange(len(options))]

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def data(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randint(0, most))


class Subject(Protocol):
    """What the steps are done to: the Python reference, and whatever else is to do the same.

    reference: knows what a host would know, so that a life gets somewhere.
    """

    reference: Core

    def receive(self, data: bytes, now_us: int) -> None: ...
    def tick(self, now_us: int) -> None: ...
    def set_faults(self, present: int) -> None: ...
    def press_estop(self) -> None: ...
    def measure(
        self, position: Sequence[int], velocity: Sequence[int], current: Sequence[int], supply_mv: int, temperature_dc: int
    ) -> None: ...
    def run_task(self, task: int) -> None:
        """The task has run; then the watchdog is asked after."""
        ...

    def take(self, most: int) -> bytes:
        """Up to so many bytes of what it has said."""
        ...


class Raw(Message, frozen=True):
    """A message of any type with any payload, as no honest host would send it."""

    NAME: ClassVar[str] = "raw"
    TYPE: int  # type: ignore[misc]
    payload: bytes

    def pack(self) -> bytes:
        return self.payload


class Life:
    """The life of one firmware: a session, perhaps armed, and then whatever :meth:`step` does."""

    def __init__(self, subject: Subject, board: Board, choose: Choose, now_us: int) -> None:
        self.subject = subject
        self.board = board
        self.now_us = now_us
        self._choose = choose
        self._n = len(board.axes)
        self._limits_crc = board.limits_crc
        self._session = 0
        self._seq = 0
        self._challenge = 0
        self._event = 0
        self._deaf = 0
        self._edges: deque[int] = deque(maxlen=10)
        self._decoder = Decoder(SCHEMA_ID)
        if choose.integer(0, 9) == 0:  # before the first tick
            self._say(choose.among([Ping(), Estop(1), self._hello()]), ACK_REQ, session=0)
        self._wait(0)
        self._say(self._hello(nonce=1), session=0)
        self._say(Subscribe(StateReport.TYPE, 5))
        if choose.integer(0, 1):
            self._lease()
            self._say(Arm(self._limits_crc, BOOT))

    def step(self) -> None:
        """One thing that a host, a line or a board may do, or some time."""
        if self._deaf > 0:
            self._deaf -= 1
        if self.subject.reference.state is not State.ACTIVE and self._choose.integer(0, 2) == 0:
            self._revive()
        getattr(self, f"_step_{self._choose.among(STEPS)}")()

    def _revive(self) -> None:
        """Whatever has stopped it: as an honest host and a mended board would, up to ARM."""
        reference = self.subject.reference
        if reference.state in (State.ESTOP, State.FAULT):
            self.subject.measure(reference.outputs, reference.outputs, [0] * self._n, 0, 0)
            self.subject.set_faults(0)
            self._wait(1)
            self._say(EstopClear(reference.challenge))
        if reference.state is State.IDLE or self._session == 0:
            self._say(self._hello(nonce=self._choose.integer(0, 9)), session=0)
            self._say(Subscribe(StateReport.TYPE, 5))
        self._lease(self._choose.among([1, 1, 1, 0]))
        self._at(self.board.engage_within_us)
        self._say(Arm(self._limits_crc, BOOT))

    # -- time --------------------------------------------------------------------------------------------------

    def _wait(self, us: int) -> None:
        self.now_us = (self.now_us + us) & U32
        self.subject.tick(self.now_us)
        self._listen()

    def _at(self, us: int) -> int:
        """The device time so far from now, which is a time of interest from now on."""
        at_us = (self.now_us + us) & U32
        self._edges.append(at_us)
        return at_us

    def _soon(self) -> int:
        how = self._choose.integer(0, 4)
        if how < 3:
            return self._choose.integer(20_000, 450_000)
        return self._choose.among([1, 1, 1, -1]) * (1000 * self._choose.among(LIMITS_MS) + self._choose.integer(-3, 3))

    def _step_tick(self) -> None:
        us = self._choose.among([1000, 1000, 1000, 1, 777, 5_000])
        for _ in range(self._choose.integer(1, 40)):
            self._wait(us)

    def _step_pause(self) -> None:
        if self._choose.integer(0, 1):
            self._wait(self._choose.integer(0, 3_000_000))
        else:
            self._wait(max(0, 1000 * self._choose.among(LIMITS_MS[:-1]) + self._choose.integer(-3, 3)))

    def _step_edge(self) -> None:
        """To just before, at or just after a time at which something is due."""
        if not self._edges:
            return
        target = self._choose.among(sorted(self._edges)) + self._choose.integer(-1, 1)
        us = (target - self.now_us) & U32
        if us > 3_000_000:
            return
        whole = self._choose.among([us, 20_000, 5_000, 1_000])
        while us > 0 and us // max(1, whole) < 400:
            part = min(us, whole)
            us -= part
            if us == 0 and self._choose.integer(0, 1):  # the line comes first
                self.now_us = (self.now_us + part) & U32
                self._say(self._choose.among([Ping(), TimeReq(1)]), ACK_REQ)
            else:
                self._wait(part)

    # -- a host ------------------------------------------------------------------------------------------------

    def _say(self, message: Message, flags: int = 0, session: int | None = None, back: int = 0) -> None:
        """back: 0 for a new frame, else the sequence number of the frame so many before."""
        if back == 0:
            self._seq = (self._seq + 1) & 0xFF
        session = self._session if session is None else session
        frame = Frame(message.TYPE, (self._seq - back) & 0xFF, session, message.pack(), flags)
        self._line(framing.encode(frame, SCHEMA_ID))
        if flags:
            self._at(1_000_000)  # so long an answer is remembered

    def _ask(self, message: Message) -> None:
        """Now and then again, or without a wish for an answer."""
        flags = self._choose.among([0, ACK_REQ, ACK_REQ])
        if self._choose.integer(0, 30) == 0:
            self._seq = (self._seq + self._choose.among([1, 2, 100, 126, 127, 128, 200, 255])) & 0xFF
        self._say(message, flags, back=self._choose.among([0, 0, 0, 0, 0, 0, 1, 2, 40]))

    def _line(self, data: bytes) -> None:
        self.subject.receive(data, self.now_us)
        self._listen()

    def _listen(self) -> None:
        self._hear(0 if self._deaf else 1 << 15)

    def _hear(self, most: int) -> None:
        for frame in self._decoder.feed(self.subject.take(most)):
            if frame.type == HelloAck.TYPE:
                ack = HelloAck.unpack(frame.payload)
                self._session, self._limits_crc = ack.session, ack.limits_crc
            elif frame.type == Event.TYPE:
                self._event = Event.unpack(frame.payload).number
            elif frame.type == StateReport.TYPE:
                self._challenge = StateReport.unpack(frame.payload).challenge

    def _hello(self, nonce: int | None = None) -> Hello:
        if nonce is not None:
            return Hello(MAGIC, 1, 1, nonce)
        low, high = self._choose.among([(1, 1), (1, 1), (0, 9), (0, 0), (2, 2)])
        return Hello(self._choose.among([MAGIC, MAGIC, MAGIC, 5]), low, high, self._choose.integer(0, 3))

    def _lease(self, engaged: int = 1) -> None:
        self._say(Lease(self._at(400_000), 0, engaged, 0, 0))

    def _step_hello(self) -> None:
        self._say(self._hello(), self._choose.among([0, ACK_REQ]), session=0)

    def _step_live(self) -> None:
        self._lease()
        self._say(self._command(self._at(100_000)))
        self._wait(1000)

    def _step_lease(self) -> None:
        engaged = self._choose.among([1, 1, 0, 0, 255])
        for _ in range(self._choose.among([1, 1, 2, 3])):
            self._ask(Lease(self._at(self._soon()), self._choose.integer(0, 255), engaged, 0, 0))

    def _step_arm(self) -> None:
        engaged = self._choose.among([1, 0, None])
        if engaged is not None:
            self._lease(engaged)
        wrong = self._choose.among([0, 0, 0, 0, 1, 2])
        self._at(self.board.engage_within_us)
        self._ask(Arm(self._limits_crc ^ (wrong & 1), BOOT ^ (wrong & 2)))

    def _step_idle(self) -> None:
        """Armed, but the loop does not engage, for longer than it may."""
        self._say(Disarm())
        self._wait(1000)
        self._lease(0)
        self._at(self.board.engage_within_us)
        self._say(Arm(self._limits_crc, BOOT))
        for _ in range(self._choose.integer(1, 11)):
            self._wait(self._choose.among([99_999, 100_000, 90_000]))
            self._lease(0)

    def _step_move(self) -> None:
        """A while of honest driving."""
        until_us = self._at(400_000)
        self._lease()
        self._say(self._command(until_us))
        us = self._choose.among([1000, 1000, 3_001, 10_000])
        for k in range(self._choose.integer(10, 120)):
            if k % 20 == 0:
                self._lease()
                self._say(self._command(self._at(400_000)))
            self._wait(us)

    def _step_creep(self) -> None:
        """A short way with a small acceleration, in steps that make a unit of speed less or more by one millionth."""
        axis = self._choose.integer(0, self._n - 1)
        part, (acceleration, us) = self.board.parts[axis], self._choose.among([(101, 9_901), (333, 3_003)])
        self._say(Disarm())
        self._wait(1000)
        limits = part.limits
        self._say(LimitsSet(axis, limits.max_speed, acceleration, limits.min_position, limits.max_position))
        self._say(self._hello(nonce=self._choose.integer(10, 20)), session=0)
        self._lease()
        self._say(Arm(self._limits_crc, BOOT))
        way = self._choose.among([1, -1]) * self._choose.integer(1, 12)
        target = way + (self.subject.reference.outputs[axis] if part.mode is Mode.POSITION else 0)
        for k in range(120):
            if k % 20 == 0:
                self._lease()
                self._say(SetNow(part.mode, 1 << axis, (target,) * self._n, self._at(400_000)))
            self._wait(us)

    def _step_disarm(self) -> None:
        self._ask(Disarm())
        for part in self.board.parts:
            self._at(1000 * part.release_after_ms)

    def _step_estop(self) -> None:
        self._say(Estop(self._choose.integer(0, 255)), self._choose.among([0, ACK_REQ]), session=0)

    def _step_clear(self) -> None:
        self._ask(EstopClear(self._challenge ^ self._choose.among([0, 0, 0, 0, 1, 0x100])))
        if self._choose.integer(0, 1):
            self._say(self._hello(nonce=self._choose.integer(0, 9)), session=0)

    def _step_ask(self) -> None:
        number = self._choose.among([0, 1, self._n - 1, self._n, self._n + 1, 255])
        t_ns = self._choose.integer(0, 2**64 - 1)
        self._ask(self._choose.among([TimeReq(t_ns), AxisGet(number), Ping()]))

    def _step_subscribe(self) -> None:
        stream = self._choose.among([StateReport.TYPE, StateReport.TYPE, Stats.TYPE, Stats.TYPE, 9])
        period_ms = self._choose.among([0, 4, 5, 6, 20, 1000, 65_535])
        self._at(1000 * period_ms)
        self._ask(Subscribe(stream, period_ms))

    def _step_event(self) -> None:
        self._ask(EventAck(self._event + self._choose.among([0, 0, 0, 1]) & 0xFF))
        self._at(200_000)

    def _step_odd(self) -> None:
        """Any type, flags, session and payload; mostly of a length that a message has."""
        kind = self._choose.integer(0, 255)
        if self._choose.integer(0, 1):
            kind = self._choose.among([*range(0x01, 0x08), 0x10, 0x11, *range(0x20, 0x24), 0x30, 0x31, 0x7E, 0x7F, 0x80, 0x81])
        session = self._choose.among([0, self._session, self._session, (self._session + 1) & 0xFF])
        self._say(Raw(kind, self._choose.data(60)), self._choose.among([0, 1, 1, 2, 3]), session)

    def _step_version(self) -> None:
        """A frame of another version of the protocol, or with flags that do not exist."""
        self._say(Ping(), self._choose.among([4, 8, 0x20, 0x80, 0x21]))

    def _step_short(self) -> None:
        """A message of this session, a byte too short or too long."""
        message = self._choose.among([
            TimeReq(1), Lease(self._at(50_000), 0, 1, 0, 0), Arm(self._limits_crc, BOOT), EstopClear(self._challenge),
            self._command(self._at(50_000)), ParamGet(0, 0), ParamSet(0, 0, 1), AxisGet(0), EventAck(self._event),
            Subscribe(StateReport.TYPE, 5), self._hello(nonce=1), Disarm(), Ping(), self._points(),
        ])  # fmt: skip
        payload = message.pack()
        payload = self._choose.among([payload[:-1], payload + b"\0", payload[:4], b""])
        self._say(Raw(message.TYPE, payload[:120]), ACK_REQ, 0 if message.TYPE == Hello.TYPE else None)

    # -- commands ----------------------------------------------------------------------------------------------

    def _position(self) -> int:
        if self._choose.integer(0, 7) == 0:
            return self._choose.integer(-(2**31), 2**31 - 1)
        limits = self._choose.among(self.board.limits)
        edge = self._choose.among([limits.min_position, limits.max_position])
        return self._choose.among([0, 1, -1, 150, -150, edge, edge + 1, edge - 1, self._choose.integer(-2_000, 2_000)])

    def _speed(self) -> int:
        if self._choose.integer(0, 7) == 0:
            return self._choose.integer(-(2**31), 2**31 - 1)
        edge = self._choose.among(self.board.limits).max_speed
        sign = self._choose.among([1, -1])
        return sign * self._choose.among([0, 1, 500, edge, edge + 1, self._choose.integer(0, 6_000)])

    def _command(self, until_us: int) -> SetNow:
        """Mostly one that is accepted: the axes of one mode."""
        mode = self._choose.among(self.board.parts).mode
        mask = sum((part.mode is mode) << i for i, part in enumerate(self.board.parts))
        odd = self._choose.integer(0, 9)
        if odd == 0:
            mode = Mode(3 - mode)
        if odd in (1, 2, 3):
            mask = self._choose.among([1, 2, 4, mask & 1, mask & 6, 0, 1 << self._n, 1 << self._n | mask, 7, 255])
        value = self._speed if mode is Mode.VELOCITY else self._position
        number = self._choose.among([0, 3, 255]) if odd == 4 else int(mode)
        return SetNow(number, mask, tuple(value() for _ in range(self._n)), until_us)

    def _step_set(self) -> None:
        for _ in range(self._choose.among([1, 1, 1, 1, 4, 5])):
            self._ask(self._command(self._at(self._soon())))

    def _point(self, ahead_us: int) -> Point:
        speed = [self._choose.among([0, 0, 500, -500]) if self._choose.integer(0, 2) else self._speed() for _ in range(self._n)]
        return Point(self._at(ahead_us), tuple(self._position() for _ in range(self._n)), tuple(speed))

    def _points(self) -> TrajPush:
        ahead = self._choose.among([-10_000, 0, 15_000, 20_000, 20_001, 30_000, 100_000, 500_000, 1_990_000])
        points = []
        for _ in range(self._choose.integer(1, 4)):
            ahead += self._choose.among([0, 1, 5_000, 10_000, 20_000, 50_000, 65_535, 65_535, 300_000])
            points.append(self._point(ahead))
        room = (120 - TrajPush.size(self._n)) // Point.size(self._n)
        replace = self._choose.among([0, 20_000, 25_000, 60_000, 400_000, 2_000_000, -(2**31)])
        if self._choose.integer(0, 2) == 0 and self._edges:
            return TrajPush(self._choose.among(sorted(self._edges)), tuple(points[:room]))
        return TrajPush((self.now_us + replace) & U32, tuple(points[:room]))

    def _step_queue(self) -> None:
        """Pushes behind one another, until the buffer is full."""
        self._lease()
        ahead = 50_000
        for _ in range(self._choose.integer(2, 4)):
            points = [self._point(ahead + k * 60_000) for k in range(min(2, (120 - 4) // Point.size(self._n)))]
            ahead += 150_000
            self._ask(TrajPush((self.now_us + ahead) & U32, tuple(points)))
        if self._choose.integer(0, 1):
            replace = self._choose.integer(20_000, ahead)
            self._ask(TrajPush((self.now_us + replace) & U32, (self._point(ahead),)))
        for _ in range(self._choose.integer(0, 40)):
            self._lease()
            self._wait(self._choose.among([5_000, 10_000, 20_000]))

    def _step_push(self) -> None:
        self._lease()
        self._ask(self._points())
        self._at(1000 * self.board.underrun_ms)
        for _ in range(self._choose.integer(0, 60)):
            self._wait(self._choose.among([1000, 1000, 1000, 7, 5_000]))

    # -- settings ----------------------------------------------------------------------------------------------

    def _step_limits(self) -> None:
        axis = self._choose.integer(0, self._n)
        compiled = self.board.limits[axis % self._n]
        speed = compiled.max_speed - self._choose.among([0, 0, 1, -1, 100, compiled.max_speed])
        acceleration = self._choose.among([0, 1, 1, compiled.max_acceleration, compiled.max_acceleration + 1, 2_000])
        low, high = compiled.min_position, compiled.max_position
        if self._choose.integer(0, 1):
            low, high = self._choose.among([(low - 1, high), (low, high + 1), (0, 0), (1, 0), (low + 150, high - 150), (1, 1)])
        self._ask(LimitsSet(axis, speed, acceleration, low, high))
        self._say(self._hello(nonce=self._choose.integer(0, 3)), session=0)  # brings the new checksum

    def _step_parameter(self) -> None:
        for _ in range(self._choose.integer(1, 6)):
            self._parameter()

    def _parameter(self) -> None:
        number = self._choose.among([*map(int, Parameter), *map(int, Parameter), 4, 15, 22, 255])
        axis = self._choose.among([0, 0, 0, 1, self._n - 1, self._n, 255])
        value = self._choose.among([0, 1, 2, 3, 4, 50, 100, 500, 1_000, 6_000, 60_000, 60_001, 65_535, 65_536, 1_000_000])
        known = number in list(map(int, Parameter))
        if known and axis < self._n and self._choose.integer(0, 1):
            value = self._choose.among(self.board.range(Parameter(number), axis)) + self._choose.integer(-1, 1)
        self._ask(ParamSet(number, axis, value))
        self._ask(ParamGet(number, axis))

    # -- a board -----------------------------------------------------------------------------------------------

    def _step_button(self) -> None:
        if self._choose.integer(0, 1):
            self.subject.press_estop()
            self._listen()

    def _step_faults(self) -> None:
        self.subject.set_faults(self._choose.among([0, 0, 1, 4, 16, 17]))
        self._listen()

    def _step_measure(self) -> None:
        """Something is not as it should be, or just as it still may be, for a while; often with the motors on."""
        reference, parts, choose = self.subject.reference, self.board.parts, self._choose
        wrong = choose.among(["encoder", "encoder", "current", "supply", "place"])
        here, current, supply = list(reference.outputs), [0] * self._n, 0
        if wrong == "encoder":
            sign = choose.among([1, -1])
            here = [o + sign * (p.encoder_limit + choose.integer(0, 1)) for o, p in zip(here, parts, strict=True)]
        elif wrong == "place":
            here = [self._position() for _ in parts]
        elif wrong == "current":
            current = [choose.among([0, 1, -1]) * (p.over_current_ma + choose.integer(0, 1)) for p in parts]
            current[0] = choose.among([0, 32_767, -32_768])
        else:
            low_mv = self.board.under_voltage_mv
            supply = choose.among([0, 1, max(0, low_mv - 1), max(0, low_mv - 1), low_mv, low_mv + 1, 65_535])
        self.subject.measure(here, list(reversed(here)), current, supply, choose.among([-32_768, 0, 451]))
        for ms in (self.board.over_current_ms, self.board.encoder_ms, self.board.under_voltage_ms):
            self._at(1000 * ms)
        us = choose.among([1000, 1000, 10_000])
        for _ in range(choose.integer(1, 60)):
            self._lease()
            self._wait(us)
        if choose.integer(0, 1):
            self.subject.measure(reference.outputs, reference.outputs, [0] * self._n, 0, 0)

    def _step_deaf(self) -> None:
        """Nobody reads for a while; or only a part of what there is."""
        self._deaf = self._choose.among([0, 1, 2, 3])
        self._hear(self._choose.integer(0, 60))

    def _step_tasks(self) -> None:
        for _ in range(self._choose.integer(1, 4)):
            self.subject.run_task(self._choose.among([1, 2, 4]))

    def _step_noise(self) -> None:
        if self._choose.integer(0, 2) == 0:
            self._line(bytes([self._choose.integer(0, 255)]) * self._choose.integer(0, 140) + b"\0")
        else:
            self._line(self._choose.data(200))
