"""Everything that one core of the reference firmware knows, as firmware/core.h has it for the C core."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from firmware_bridge import messages
from firmware_bridge.board import Board
from firmware_bridge.framing import Decoder
from firmware_bridge.messages import Drive, Fault, State, StopCause
from firmware_bridge.reference_faults import MeasuredFaults
from firmware_bridge.reference_motion import AxisMotion
from firmware_bridge.reference_settings import Settings
from firmware_bridge.reference_trajectory import U32, Trajectory

ANSWERS = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the firmware is. boot_id: random per start. uid: 12 bytes. firmware: name and version, at most 40 bytes."""

    boot_id: int
    firmware: str
    reset_cause: int = 0
    uid: bytes = b"host-process"


@dataclass(slots=True)
class Stream:
    """A message that is sent again and again. period_us: 0 for never."""

    period_us: int = 0
    sent_us: int = 0

    def due(self, now_us: int) -> bool:
        if self.period_us == 0 or (now_us - self.sent_us) & U32 < self.period_us:
            return False
        self.sent_us = (self.sent_us + self.period_us) & U32
        if (now_us - self.sent_us) & U32 >= self.period_us:
            self.sent_us = now_us
        return True


@dataclass(slots=True)
class Answer:
    """One that was given, for whoever asks the same again."""

    seq: int
    type: int
    code: int
    at_us: int


class CoreState:
    """state, outputs (mrad/s or mrad per axis), drives, counters (the fields of STATS), tx (bytes for the line) are there to be
    read; position, velocity, current, supply_mv, temperature_dc are written by whoever measures them. The rest, below the blank
    line, is between the files of the reference firmware.
    """

    def __init__(self, board: Board, identity: Identity, now_us: int) -> None:
        n = len(board.axes)
        self.board = board
        self.identity = identity
        self.now_us = now_us
        self.epoch = 0
        self.state = State.BOOT
        self.stop_cause = StopCause.NONE
        self.faults = int(Fault.WATCHDOG_RESET) if identity.reset_cause == 1 else 0
        self.challenge = 0
        self.session = 0
        self.drives = [Drive.OFF] * n
        self.position = [0] * n
        self.velocity = [0] * n
        self.current = [0] * n
        self.supply_mv = 0
        self.temperature_dc = -32768
        self.counters = dict.fromkeys(messages.Stats.__struct_fields__, 0)
        self.tx = bytearray()

        self.settings = Settings(board)
        self.motions = [AxisMotion(part.mode) for part in board.parts]
        self.trajectory = Trajectory(board)
        self.fault_inputs = 0
        self.fault_measured = 0
        self.measured_faults = MeasuredFaults(n)
        self.tasks = 0
        self.ticked_us = now_us
        self.reported_state = State.BOOT
        self.after_stop = State.SAFE
        self.stopped_us = 0
        self.random = identity.boot_id | 1
        self.last_session = identity.boot_id & 0xFF
        self.nonce = 0
        self.last_seq: int | None = None
        self.answers: deque[Answer] = deque(maxlen=ANSWERS)
        self.lease_until: int | None = None
        self.engaged_once = False
        self.disengaged = 0
        self.armed_us = 0
        self.targets = [0] * n
        self.valid_until: list[int | None] = [None] * n
        self.command_seq = 0
        self.clamped = 0
        self.rejected = 0
        self.applied_us = 0
        self.events: deque[messages.Event] = deque()
        self.event_number = 0
        self.event_stream = Stream()
        self.streams = {messages.StateReport.TYPE: Stream(), messages.Stats.TYPE: Stream()}
        self.decoder = Decoder(messages.SCHEMA_ID)
        self.not_understood = 0
        self.tx_seq = 0

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(motion.output for motion in self.motions)

    @property
    def speeds(self) -> tuple[int, ...]:
        """How fast the outputs change (position axis) or are (velocity axis), mrad/s."""
        return tuple(motion.speed for motion in self.motions)

    @property
    def latched(self) -> bool:
        """Stopped until a person clears it."""
        return self.state in (State.ESTOP, State.FAULT)

    def count(self, name: str) -> None:
        self.counters[name] = (self.counters[name] + 1) & U32
