"""CANSimple, ODrive's protocol on CAN: 11 bits of identifier, six of the node over five of the command; little endian.

Layouts from ODrive's own description files: odrive-cansimple.dbc of firmware 0.5 and can_simple_messages.hpp of firmware 0.6.
What is used here is the same in both, but for the bits of the errors and for SDO and version, which only 0.6 has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

VERSION, HEARTBEAT, ESTOP, WRITE_SDO, SDO, AXIS_STATE = 0x00, 0x01, 0x02, 0x04, 0x05, 0x07
ESTIMATES, CONTROLLER_MODE, INPUT_POS, INPUT_VEL, BUS_VOLTAGE, CLEAR_ERRORS = 0x09, 0x0B, 0x0C, 0x0D, 0x17, 0x18
IDLE, CLOSED_LOOP = 1, 8
VELOCITY_CONTROL, POSITION_CONTROL, PASS_THROUGH = 2, 3, 1
LAST_NODE = 62
"""63 is where firmware 0.6 waits for a number."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of CAN. data: 0 to 8 bytes. remote: a question, without data. arrived_s: host monotonic, 0 for one to send."""

    id: int
    data: bytes = b""
    remote: bool = False
    arrived_s: float = 0.0

    @property
    def node(self) -> int:
        return self.id >> 5

    @property
    def command(self) -> int:
        return self.id & 0x1F


def question(node: int, command: int) -> Frame:
    """Asks for what the command stands for; answered under the same identifier."""
    return Frame(node << 5 | command, remote=True)


def axis_state(node: int, state: int) -> Frame:
    return Frame(node << 5 | AXIS_STATE, struct.pack("<I4x", state))


def controller_mode(node: int, control: int, source: int) -> Frame:
    """source: where the input comes from; PASS_THROUGH for this bus, as it is."""
    return Frame(node << 5 | CONTROLLER_MODE, struct.pack("<II", control, source))


def input_pos(node: int, turns: float) -> Frame:
    """Without feed-forward of velocity and torque."""
    return Frame(node << 5 | INPUT_POS, struct.pack("<fhh", turns, 0, 0))


def input_vel(node: int, turns_s: float) -> Frame:
    """Without feed-forward of torque."""
    return Frame(node << 5 | INPUT_VEL, struct.pack("<ff", turns_s, 0.0))


def estop(node: int) -> Frame:
    return Frame(node << 5 | ESTOP)


def clear_errors(node: int) -> Frame:
    """The byte is for firmware 0.6: no blinking. 0.5 does not look at it."""
    return Frame(node << 5 | CLEAR_ERRORS, bytes(1))


def read_endpoint(node: int, endpoint: int) -> Frame:
    """Firmware 0.6. Answered by SDO."""
    return Frame(node << 5 | WRITE_SDO, struct.pack("<BHB", 0, endpoint, 0))


def write_endpoint(node: int, endpoint: int, value: float | bool) -> Frame:
    """Firmware 0.6. value: a float32, or one byte of truth."""
    kind = "?" if isinstance(value, bool) else "f"
    return Frame(node << 5 | WRITE_SDO, struct.pack(f"<BHB{kind}", 1, endpoint, 0, value))


def endpoint_of(frame: Frame, endpoint: int, boolean: bool) -> float | None:
    """The value in an answer; None in a frame that is something else."""
    size = 5 if boolean else 8
    if frame.command != SDO or frame.remote or len(frame.data) < size:
        return None
    if int.from_bytes(frame.data[1:3], "little") != endpoint:
        return None
    return float(frame.data[4]) if boolean else float(struct.unpack_from("<f", frame.data, 4)[0])


def heartbeat_of(frame: Frame) -> tuple[int, int] | None:
    """Errors and state of the axis; None for another frame. Both firmwares begin with these; what follows differs."""
    if frame.command != HEARTBEAT or frame.remote or len(frame.data) < 5:
        return None
    error, state = struct.unpack_from("<IB", frame.data)
    return error, state


def pair_of(frame: Frame, command: int) -> tuple[float, float] | None:
    """Two floats: position and velocity in turns (ESTIMATES), volts and amperes (BUS_VOLTAGE); None for another frame."""
    if frame.command != command or frame.remote or len(frame.data) < 8:
        return None
    first, second = struct.unpack_from("<ff", frame.data)
    return first, second


def firmware_of(frame: Frame) -> tuple[int, int, int] | None:
    """Major, minor, revision; None for another frame. Firmware 0.5 does not answer the question."""
    if frame.command != VERSION or frame.remote or len(frame.data) < 8:
        return None
    return frame.data[4], frame.data[5], frame.data[6]
