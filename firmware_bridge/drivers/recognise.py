"""Which make of controller is on a port? Only questions that read; nothing that moves a motor or changes a setting.

Nobody's protocol says "who is there" for all makes, so each is asked in its own words at its usual speeds, and believed only with
a right checksum (Waveshare has none; its answer must be whole JSON of the right kind). MAVLink is only listened to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import serial

from firmware_bridge.controller import BridgeError
from firmware_bridge.drivers import (
    dynamixel,
    dynamixel_packets,
    feetech,
    feetech_packets,
    odrive,
    roboclaw,
    vesc_packets,
    waveshare,
)
from firmware_bridge.drivers.bus import Bus, NoAnswer, PortLost
from firmware_bridge.drivers.mavlink import ROVER_TYPES
from firmware_bridge.drivers.mavlink_copter import AUTOPILOTS
from firmware_bridge.drivers.mavlink_copter import TYPES as COPTER_TYPES
from firmware_bridge.drivers.mavlink_heartbeat import Heartbeat, next_heartbeat
from firmware_bridge.drivers.mavlink_link import ARDUPILOT, GROUND_STATION
from firmware_bridge.drivers.roll_call import NextStatus, ask_one
from firmware_bridge.serial_port import open_port

LISTEN_S = 1.2
"""A MAVLink vehicle beats once a second."""
ANSWER_S, SETTLE_S = 0.03, (0.002, 0.01)
"""How long each question is given: more than an adapter holds a byte back."""
IDS: Sequence[int] = range(1, 13)
"""The servos that are asked for, one by one: all at once they would talk over each other. An arm has six."""
ADDRESSES: Sequence[int] = range(128, 136)


@dataclass(frozen=True, slots=True)
class Found:
    """kind, query: of its spec, the query with all that was found out. remark: for people."""

    kind: str
    query: str
    remark: str

    def spec(self, port: str) -> str:
        return f"{self.kind}:{port}" + (f"?{self.query}" if self.query else "")


Question = Callable[[Bus], Found | None]
"""Raises NoAnswer where nobody of that make is there, PortLost."""


def recognise(port: str) -> Found | None:
    """Ask and listen, some 5 s at most, and less where somebody answers.

    port: as :func:`~firmware_bridge.serial_port.open_port` takes it; closed again. None: nobody, or somebody unknown. Raises
    BridgeError for a port that cannot be opened, with its reason, or that vanishes.
    """
    line = open_port(port, next(iter(QUESTIONS)))
    bus = Bus(line, threading.Event(), timeout_s=ANSWER_S, settle_s=SETTLE_S)
    try:
        for baud, questions in QUESTIONS.items():
            line.baudrate = baud
            for ask in questions:
                try:
                    found = ask(bus)
                except NoAnswer:
                    continue
                if found is not None:
                    return _with_baud(found, baud)
    except (PortLost, serial.SerialException) as error:
        raise BridgeError(f"{port} was lost while it was asked ({error}): see to its cable and power") from None
    finally:
        bus.close()
    return None


def _mavlink(bus: Bus) -> Found | None:
    heard = bytearray()
    end = time.monotonic() + LISTEN_S
    while (left := end - time.monotonic()) > 0:
        heard += bus.heard(left)
        while (beat := next_heartbeat(heard)) is not None:
            if beat.type != GROUND_STATION:
                return _vehicle(beat)
    return None


def _vehicle(beat: Heartbeat) -> Found:
    keys = [] if beat.system == 1 else [f"system={beat.system}"]
    copters = {pilot.number: kind for kind, pilot in AUTOPILOTS.items()}
    if beat.autopilot == ARDUPILOT and beat.type in ROVER_TYPES:
        remark = f"ArduPilot rover {beat.system}; add the limits, as speed=0.5,1"
    elif beat.type in COPTER_TYPES and beat.autopilot in copters:
        keys.append(f"vehicle={copters[beat.autopilot]}")
        remark = f"copter {beat.system} in the hands of its pilot; add the limits, as speed=0.5,0.5,0.3,0.5"
    else:
        remark = f"MAVLink vehicle {beat.system}, type {beat.type} with autopilot {beat.autopilot}: such are not driven yet"
    return Found("mavlink", "&".join(keys), remark)


def _vesc(bus: Bus) -> Found | None:
    def take(heard: bytearray) -> vesc_packets.Values | None:
        while (payload := vesc_packets.next_payload(heard)) is not None:
            if (values := vesc_packets.values_of(payload)) is not None:
                return values
        return None

    values = bus.ask(vesc_packets.command(vesc_packets.GET_VALUES), take, timeout_s=2 * ANSWER_S)
    return Found("vesc", "", f"VESC {values.id}, {values.supply_v:g} V; add can=ID for each one behind it, and its poles")


def _roboclaw(bus: Bus) -> Found | None:
    for address in ADDRESSES:
        try:
            volts = roboclaw.read(bus, address, roboclaw.BATTERY, 2, tries=1)
            roboclaw.read(bus, address, roboclaw.ENCODERS, 8)  # two checksums of 16 bits that fit are no accident
        except NoAnswer:
            continue
        query = "ticks=TICKS" + ("" if address == ADDRESSES[0] else f"&address={address}")
        what = f"RoboClaw {address}, {int.from_bytes(volts, 'big') / 10:g} V"
        return Found("roboclaw", query, f"{what}; TICKS: counts of the encoder for one turn of the wheel")
    return None


def _odrive(bus: Bus) -> Found | None:
    def number(name: str) -> float:
        try:
            return float(bus.ask(odrive.line(f"r {name}"), odrive.next_reply, timeout_s=2 * ANSWER_S))
        except ValueError:
            raise NoAnswer(f"it has no {name}") from None

    supply_v = number("vbus_voltage")
    motors = []
    for motor in (0, 1):
        try:
            number(f"axis{motor}.current_state")
            motors.append(str(motor))
        except NoAnswer:
            pass
    return Found("odrive", f"motors={','.join(motors)}" if motors else "", f"ODrive, {supply_v:g} V")


def _waveshare(bus: Bus) -> Found | None:
    bus.ask(waveshare.line(T=waveshare.FEEDBACK), waveshare.next_feedback, timeout_s=2 * ANSWER_S)
    return Found("waveshare", "", "Waveshare UGV; add the radius of its wheels for rad/s")


def _servos(bus: Bus, kind: str, next_status: NextStatus, read: Callable[[int, int, int], bytes], mode: int) -> Found | None:
    """mode: address of the operating mode, 1 for wheels in both makes."""
    modes = {}
    for servo in IDS:
        try:
            modes[servo] = ask_one(bus, next_status, read(servo, mode, 1), servo, 1, tries=1).parameters[0]
        except NoAnswer:
            continue
    if not modes:
        return None
    wheels = all(each == 1 for each in modes.values())
    query = f"ids={','.join(map(str, modes))}" + ("&mode=wheel" if wheels else "")
    what = f"{len(modes)} servo{'s' if len(modes) > 1 else ''} of the ids {IDS[0]} to {IDS[-1]}"
    return Found(kind, query, f"{what}, {'wheels' if wheels else 'positions; add command=velocity for a planner of velocities'}")


def _feetech(bus: Bus) -> Found | None:
    return _servos(bus, "feetech", feetech_packets.next_status, feetech_packets.read, feetech.MODE)


def _dynamixel(bus: Bus) -> Found | None:
    return _servos(bus, "dynamixel", dynamixel_packets.next_status, dynamixel_packets.read, dynamixel.MODE)


QUESTIONS: dict[int, Sequence[Question]] = {
    115_200: (_mavlink, _vesc, _roboclaw, _odrive, _waveshare),
    1_000_000: (_feetech, _dynamixel),
    57_600: (_mavlink, _dynamixel),
    38_400: (_roboclaw,),
}
"""By speed: listening comes before asking."""
USUAL = {"feetech": 1_000_000, "dynamixel": 1_000_000}
"""The speed that a driver takes without the key baud; 115200 for all others."""


def _with_baud(found: Found, baud: int) -> Found:
    if baud == USUAL.get(found.kind, 115_200):
        return found
    return Found(found.kind, "&".join(filter(None, (found.query, f"baud={baud}"))), found.remark)
