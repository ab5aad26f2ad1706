"""The two firmware cores behind one interface, and a host that talks to one of them by hand."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import pytest

from firmware_bridge import framing, generate, messages
from firmware_bridge.board import ROVER, Board
from firmware_bridge.evidence.build import BOARDS, FULL, TRAPPED
from firmware_bridge.framing import ACK_REQ, Decoder, Frame
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE
from firmware_bridge.messages import (
    SCHEMA_ID,
    Ack,
    Arm,
    Code,
    Disarm,
    Drive,
    Estop,
    EstopClear,
    Hello,
    HelloAck,
    Lease,
    Message,
    SetNow,
    State,
    StateReport,
    Stats,
    StopCause,
    Subscribe,
)
from firmware_bridge.reference import Core, Identity

M = TypeVar("M", bound=Message)
U32 = 0xFFFFFFFF
NAME = "latentloop-test 0.1"
STRICT = ("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fPIC", "-shared")


MIXED = FULL
"""Two joints and a belt, with everything compiled in."""
READY_MADE = "LATENTLOOP_CORE_LIBRARIES"
"""A folder with NAME.so of each board: what the tests are to be run with, by whoever measures them."""


class AnyCore(Protocol):
    """What the tests see of a firmware core."""

    def receive(self, data: bytes, now_us: int) -> None: ...
    def tick(self, now_us: int) -> None: ...
    def set_faults(self, present: int) -> None: ...
    def press_estop(self) -> None: ...
    def measure(
        self,
        position: Sequence[int],
        velocity: Sequence[int],
        current: Sequence[int],
        supply_mv: int = 0,
        temperature_dc: int = -32_768,
    ) -> None: ...
    def task_ran(self, task: int) -> None: ...
    def watchdog_due(self) -> bool: ...
    def drives(self) -> tuple[Drive, ...]: ...
    def state(self) -> State: ...
    def faults(self) -> int: ...
    def outputs(self) -> tuple[int, ...]: ...
    def counters(self) -> dict[str, int]: ...
    def take(self, most: int = 1000) -> bytes: ...


class PythonCore:
    def __init__(self, boot_id: int, now_us: int, board: Board = ROVER, reset_cause: int = 0) -> None:
        self.core = Core(board, Identity(boot_id, NAME, reset_cause), now_us)
        self.receive = self.core.receive
        self.tick = self.core.tick
        self.set_faults = self.core.set_faults
        self.press_estop = self.core.estop
        self.task_ran = self.core.task_ran
        self.watchdog_due = self.core.watchdog_due

    def measure(
        self,
        position: Sequence[int],
        velocity: Sequence[int],
        current: Sequence[int],
        supply_mv: int = 0,
        temperature_dc: int = -32_768,
    ) -> None:
        self.core.position[:], self.core.velocity[:], self.core.current[:] = position, velocity, current
        self.core.supply_mv, self.core.temperature_dc = supply_mv, temperature_dc

    def drives(self) -> tuple[Drive, ...]:
        return tuple(self.core.drives)

    def speeds(self) -> tuple[int, ...]:
        return self.core.speeds

    def state(self) -> State:
        return self.core.state

    def faults(self) -> int:
        return self.core.faults

    def outputs(self) -> tuple[int, ...]:
        return tuple(self.core.outputs)

    def counters(self) -> dict[str, int]:
        return dict(self.core.counters)

    def take(self, most: int = 1000) -> bytes:
        data = bytes(self.core.tx[:most])
        self.core.sent(len(data))
        return data


class CCore:
    def __init__(
        self, library: ctypes.CDLL, boot_id: int, now_us: int, board: Board = ROVER, reset_cause: int = 0
    ) -> None:
        self._c = library
        self._core = ctypes.c_void_p(library.shim_new(boot_id, NAME.encode(), now_us, reset_cause))
        self._n = len(board.axes)

    def __del__(self) -> None:
        self._c.shim_free(self._core)

    def receive(self, data: bytes, now_us: int) -> None:
        self._c.fb_receive(self._core, data, ctypes.c_size_t(len(data)), now_us)

    def tick(self, now_us: int) -> None:
        self._c.fb_tick(self._core, now_us)

    def set_faults(self, present: int) -> None:
        self._c.fb_set_faults(self._core, present)

    def press_estop(self) -> None:
        self._c.fb_estop(self._core)

    def task_ran(self, task: int) -> None:
        self._c.fb_task_ran(self._core, task)

    def watchdog_due(self) -> bool:
        return bool(self._c.fb_watchdog_due(self._core))

    def measure(
        self,
        position: Sequence[int],
        velocity: Sequence[int],
        current: Sequence[int],
        supply_mv: int = 0,
        temperature_dc: int = -32_768,
    ) -> None:
        n = self._n
        self._c.shim_measure(
            self._core,
            (ctypes.c_int32 * n)(*position),
            (ctypes.c_int32 * n)(*velocity),
            (ctypes.c_int16 * n)(*current),
            supply_mv,
            temperature_dc,
        )

    def drives(self) -> tuple[Drive, ...]:
        return tuple(Drive(d) for d in self._c.shim_drives(self._core)[: self._n])

    def state(self) -> State:
        return State(self._c.shim_state(self._core))

    def faults(self) -> int:
        return int(self._c.shim_faults(self._core))

    def outputs(self) -> tuple[int, ...]:
        return tuple(self._c.shim_outputs(self._core)[: self._n])

    def counters(self) -> dict[str, int]:
        payload = ctypes.create_string_buffer(Stats.size(0))
        self._c.shim_stats(self._core, payload)
        return msgspec.structs.asdict(Stats.unpack(payload.raw))

    def take(self, most: int = 1000) -> bytes:
        out = ctypes.create_string_buffer(1024)
        length = self._c.shim_take(self._core, out, ctypes.c_size_t(most))
        return out.raw[:length]


def build_library(folder: Path, board: Board = ROVER) -> ctypes.CDLL:
    """The C core of a board with the shim, warnings as errors, undefined behaviour trapped where the compiler can."""
    ready_made = os.environ.get(READY_MADE)
    if ready_made is not None:
        return declare(Path(ready_made) / next(f"{name}.so" for name, known in BOARDS.items() if known == board))
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) on this machine")
    (folder / "board.h").write_text(generate.board_header(board))
    sources = [*(str(FIRMWARE / source) for source in CORE_SOURCES), str(Path(__file__).parent / "shim.c")]
    includes = ["-I", str(FIRMWARE), "-I", str(folder)]
    target = folder / "core.so"
    for extra in (TRAPPED, ()):
        command = [compiler, *STRICT, *extra, *includes, *sources, "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    return declare(target)


def declare(target: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(target))
    u32, size, pointer = ctypes.c_uint32, ctypes.c_size_t, ctypes.c_void_p
    library.shim_new.argtypes = [u32, ctypes.c_char_p, u32, ctypes.c_uint8]
    library.shim_new.restype = pointer
    library.shim_outputs.restype = ctypes.POINTER(ctypes.c_int32)
    library.shim_drives.restype = ctypes.POINTER(ctypes.c_uint8)
    library.shim_faults.restype = u32
    library.fb_watchdog_due.restype = ctypes.c_bool
    library.shim_live.argtypes = [pointer, ctypes.c_uint8, u32, u32]
    library.shim_live.restype = u32
    library.shim_take.restype = library.shim_encode.restype = library.shim_decode.restype = size
    library.fb_receive.argtypes = [pointer, ctypes.c_char_p, size, u32]
    library.fb_tick.argtypes = [pointer, u32]
    library.fb_set_faults.argtypes = [pointer, u32]
    return library


class Bench:
    """A core on a bench: a host that can do everything, also what no host should, and a clock moved by hand.

    Times given are milliseconds from now. ``run`` ticks once a millisecond.
    """

    def __init__(self, core: AnyCore, boot_id: int, now_us: int = 0) -> None:
        self.core = core
        self.boot_id = boot_id
        self.limits_crc = ROVER.limits_crc
        self.now_us = now_us
        self.session = 0
        self.seq = 0
        self.heard: list[Frame] = []
        self._decoder = Decoder(SCHEMA_ID)
        core.tick(now_us)

    @property
    def state(self) -> State:
        return self.core.state()

    def wire(self, message: Message, *, session: int | None = None, flags: int = 0, seq: int | None = None) -> bytes:
        if seq is None:
            seq = self.seq = (self.seq + 1) & 0xFF
        session = self.session if session is None else session
        return framing.encode(Frame(message.TYPE, seq, session, message.pack(), flags), SCHEMA_ID)

    def receive(self, data: bytes) -> None:
        self.core.receive(data, self.now_us)
        self._listen()

    def ask(self, message: Message, *, session: int | None = None, seq: int | None = None) -> Code | None:
        """Send with ACK_REQ and return the code of the answer."""
        self.receive(self.wire(message, session=session, flags=ACK_REQ, seq=seq))
        answers = [f for f in self.heard if f.type == Ack.TYPE]
        return Code(Ack.unpack(answers[-1].payload).code) if answers else None

    def last(self, kind: type[M]) -> M:
        return next(kind.unpack(f.payload) for f in reversed(self.heard) if f.type == kind.TYPE)

    def hello(self, nonce: int = 1) -> HelloAck:
        self.receive(self.wire(Hello(messages.MAGIC, 1, 1, nonce), session=0))
        ack = self.last(HelloAck)
        self.session = ack.session
        assert self.ask(Subscribe(StateReport.TYPE, 5)) is Code.OK
        return ack

    def lease(self, ms: float = 100.0, engaged: int = 1) -> Code | None:
        return self.ask(Lease(self.after(ms), 0, engaged, 0, 0))

    def arm(self) -> Code | None:
        return self.ask(Arm(self.limits_crc, self.boot_id))

    def set_now(self, left: int, right: int, ms: float = 400.0, mode: int = 1, mask: int = 3) -> Code | None:
        return self.ask(SetNow(mode, mask, (left, right), self.after(ms)))

    def disarm(self) -> Code | None:
        return self.ask(Disarm())

    def estop(self) -> None:
        self.receive(self.wire(Estop(1), session=0))

    def clear(self, challenge: int | None = None) -> Code | None:
        return self.ask(EstopClear(self.report().challenge if challenge is None else challenge))

    def report(self) -> StateReport:
        """The newest STATE; waits for one."""
        self.heard.clear()
        while not any(f.type == StateReport.TYPE for f in self.heard):
            self.run(1)
        return self.last(StateReport)

    def cause(self) -> StopCause:
        return StopCause(self.report().stop_cause)

    def activate(self, ms: float = 500.0) -> None:
        """Hello, lease, arm; engaged."""
        self.hello()
        assert self.lease(ms) is Code.OK
        assert self.arm() is Code.OK
        assert self.lease(ms) is Code.OK
        assert self.state is State.ACTIVE

    def run(self, ms: int, each: Callable[[], object] | None = None) -> None:
        for _ in range(ms):
            self.now_us = (self.now_us + 1000) & U32
            if each is not None:
                each()
            self.core.tick(self.now_us)
            self._listen()

    def after(self, ms: float) -> int:
        return (self.now_us + round(ms * 1000)) & U32

    def _listen(self) -> None:
        self.heard += self._decoder.feed(self.core.take())
        del self.heard[:-200]
        assert self._decoder.crc_errors == self._decoder.cobs_errors == 0
