"""The packets between the host-process firmware and what stands in for motors, over an AF_UNIX SOCK_SEQPACKET socket.

The plant listens, the firmware connects. This is wiring, not protocol: a real board has a motor driver here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from firmware_bridge.messages import Drive, State

SEND_EVERY_NS = 10_000_000
"""The firmware reports its outputs at least this often, and at once when they change."""

_OUTPUT_HEAD = struct.Struct("<QQBBH")


@dataclass(frozen=True, slots=True)
class MotorOutput:
    """What the motor driver gets. mono_ns: CLOCK_MONOTONIC. last_lease_mono_ns: when the last valid LEASE arrived, 0 if
    never. output_mrad_s: per axis, after limits and slew; mrad for a position axis. drive: what to do with each axis,
    two bits of the packet each; () from a firmware that does not say."""

    mono_ns: int
    last_lease_mono_ns: int
    state: State
    output_mrad_s: tuple[int, ...]
    drive: tuple[Drive, ...] = ()

    def pack(self) -> bytes:
        n = len(self.output_mrad_s)
        drives = sum(drive << 2 * i for i, drive in enumerate(self.drive))
        head = _OUTPUT_HEAD.pack(self.mono_ns, self.last_lease_mono_ns, self.state, n, drives)
        return head + struct.pack(f"<{n}i", *self.output_mrad_s)

    @classmethod
    def unpack(cls, packet: bytes) -> MotorOutput:
        """Raises ValueError on a packet that is not one."""
        if len(packet) < _OUTPUT_HEAD.size:
            raise ValueError(f"a motor output has at least {_OUTPUT_HEAD.size} bytes, not {len(packet)}")
        mono_ns, lease_ns, state, n, drives = _OUTPUT_HEAD.unpack_from(packet)
        if len(packet) != _OUTPUT_HEAD.size + 4 * n:
            raise ValueError(f"a motor output of {n} axes has {_OUTPUT_HEAD.size + 4 * n} bytes, not {len(packet)}")
        output = struct.unpack_from(f"<{n}i", packet, _OUTPUT_HEAD.size)
        return cls(mono_ns, lease_ns, State(state), output, tuple(Drive(drives >> 2 * i & 3) for i in range(n)))


@dataclass(frozen=True, slots=True)
class MotorFeedback:
    """What the encoders and current sensors say, per axis."""

    position_mrad: tuple[int, ...]
    velocity_mrad_s: tuple[int, ...]
    current_ma: tuple[int, ...]

    def pack(self) -> bytes:
        n = len(self.position_mrad)
        return struct.pack(f"<{n}q{n}i{n}h", *self.position_mrad, *self.velocity_mrad_s, *self.current_ma)

    @classmethod
    def unpack(cls, packet: bytes, axes: int) -> MotorFeedback:
        """Raises ValueError on a packet that is not one for that many axes."""
        if len(packet) != 14 * axes:
            raise ValueError(f"feedback of {axes} axes has {14 * axes} bytes, not {len(packet)}")
        values = struct.unpack(f"<{axes}q{axes}i{axes}h", packet)
        return cls(values[:axes], values[axes : 2 * axes], values[2 * axes :])
