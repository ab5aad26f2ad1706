"""ODrive on a CAN bus: wheels or position axes. Needs the package python-can (extra can).

The watchdog of each axis is set and read back where the firmware lets us (0.6, with the file of its endpoints). Where it does
not, the driver is silent at connect until the axis itself says that its watchdog has run out, and refuses one that does not.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_bridge.controller import Axis, AxisMode, BridgeError, Health, LinkCounts
from firmware_bridge.drivers import cansimple, wheels
from firmware_bridge.drivers.bus import NoAnswer
from firmware_bridge.drivers.can_line import CanLine, python_can
from firmware_bridge.drivers.cansimple import Frame
from firmware_bridge.drivers.device import Reading
from firmware_bridge.drivers.roll_call import MISSES
from firmware_bridge.drivers.servo_loop import ServoLoop
from firmware_bridge.drivers.spec import Spec

KEYS = {
    **wheels.KEYS,
    "bitrate": "250000, which is ODrive's own; of an slcan adapter",
    "baud": "115200: of an slcan adapter's serial port",
    "nodes": "0: the node ids, in the order of the axes: nodes=0,1",
    "mode": "wheel or position",
    "command": "position or velocity: what targets of position axes are",
    "gear": "turns of the motor for one of the axis, 1",
    "zero": "turns of the motor at 0 rad, 0",
    "low": "rad; needed for mode=position",
    "high": "rad; needed for mode=position",
    "watchdog_ms": "200: a watchdog that runs out later is refused",
    "endpoints": "ODrive's flat_endpoints.json for its firmware (0.6): the watchdog is then set and read back",
}
TIMEOUT, ENABLE = "axis0.config.watchdog_timeout", "axis0.config.enable_watchdog"
FAULTS_05 = {0x1: "invalid state", 0x40: "motor", 0x100: "encoder", 0x200: "controller", 0x800: "watchdog", 0x4000: "estop"}
FAULTS_06 = {
    0x10: "bad configuration",
    0x100: "over-voltage",
    0x200: "under-voltage",
    0x400: "over-current",
    0x2000: "motor too hot",
    0x4000: "inverter too hot",
    0x1000000: "watchdog",
    0x2000000: "estop",
}
"""Bits of the error in the heartbeat, firmware 0.5 (ODrive's odrive-interface.yaml) and 0.6 (odrive_enums.h)."""
OURS = ("watchdog", "estop")
"""What an earlier session of this driver leaves behind by itself; anything else waits for a person."""
FEED_S, HEARTBEAT_LOST_S, FRESH_S, LEAST_V = 0.02, 0.5, 0.2, 8.0
TURN_ON_S, CLEAN_S = 0.5, 0.35
"""A heartbeat comes every 0.1 s by default, and it alone tells state and errors."""


def make(spec: Spec, axes: Sequence[str]) -> ServoLoop:
    """Raises BridgeError for a value that cannot be, or without python-can."""
    device = OdriveCan(spec, axes)
    return ServoLoop(device, spec, asked=spec.asked(), rate_hz=spec.number("rate", 50, 20, 100))


@dataclass(slots=True)
class _Node:
    """What one axis of an ODrive said last. Times are host monotonic, 0 for never. position, velocity: turns, turns/s."""

    id: int
    firmware: tuple[int, int, int] = (0, 5, 0)
    error: int = 0
    state: int = 0
    beat_s: float = 0.0
    position: float = 0.0
    velocity: float = 0.0
    moved_s: float = 0.0
    supply_v: float | None = None
    missed: int = 0
    watched: bool = False
    """Its watchdog is known to be on."""

    def take(self, frame: Frame) -> None:
        if (beat := cansimple.heartbeat_of(frame)) is not None:
            (self.error, self.state), self.beat_s = beat, frame.arrived_s
        elif (pair := cansimple.pair_of(frame, cansimple.ESTIMATES)) is not None:
            (self.position, self.velocity), self.moved_s = pair, frame.arrived_s
        elif (pair := cansimple.pair_of(frame, cansimple.BUS_VOLTAGE)) is not None and math.isfinite(pair[0]):
            self.supply_v = pair[0]
        elif (firmware := cansimple.firmware_of(frame)) is not None:
            self.firmware = firmware

    def faults(self) -> list[str]:
        names = FAULTS_06 if self.firmware >= (0, 6, 0) else FAULTS_05
        found = [name for bit, name in names.items() if self.error & bit]
        rest = self.error & ~sum(names)
        return found + ([f"error 0x{rest:x}"] if rest else [])


class OdriveCan:
    """A :class:`~firmware_bridge.drivers.device.Device`."""

    def __init__(self, spec: Spec, axes: Sequence[str]) -> None:
        python_can()
        self.uid = ""  # CANSimple knows none
        self.unprovable = self.untestable = ""
        self.urgent = threading.Event()
        self._port, self._bitrate = spec.port, spec.integer("bitrate", 250_000, 10_000, 1_000_000)
        self._baud = spec.integer("baud", 115_200, 9600, 4_000_000)
        self._ids = spec.integers("nodes", (0,), 0, cansimple.LAST_NODE)
        n = len(self._ids)
        self._wheels = spec.choice("mode", ("wheel", "position")) == "wheel"
        self.axes: tuple[Axis, ...] = wheels.of(spec, axes, n) if self._wheels else _joints(spec, axes, n)
        gear = spec.numbers("gear", n, 1, 0.001, 1000)
        self._turns = tuple(sign * each / (2 * math.pi) for sign, each in zip(spec.signs(n), gear, strict=True))
        self._zero = (0.0,) * n if self._wheels else spec.numbers("zero", n, 0, -1e6, 1e6)
        self._watchdog_s = spec.integer("watchdog_ms", 200, 100, 1000) / 1000
        self._endpoints = Path(spec.options["endpoints"]) if "endpoints" in spec.options else None
        self._nodes = [_Node(each) for each in self._ids]
        self._can: CanLine | None = None
        self._powered = False
        self._turn = 0

    def open(self, timeout_s: float) -> str:
        self._can = CanLine(self._port, self._bitrate, self._baud, self._ids, self.urgent)
        self._nodes = [_Node(each) for each in self._ids]
        self.rest()
        self._until(lambda: all(node.beat_s for node in self._nodes), min(timeout_s, 1.0))
        if absent := [str(node.id) for node in self._nodes if not node.beat_s]:
            there = ", ".join(str(node.id) for node in self._nodes if node.beat_s)
            raise BridgeError(
                f"ODrive {', '.join(absent)} does not answer on {self._port} ({f'only {there} do' if there else 'none does'}): "
                "see to its power, to cable and terminating resistors, that its heartbeat is on, and to the keys nodes and bitrate"
            )
        self._ask_versions()
        if self._endpoints is not None:
            self._set_watchdogs(self._endpoints)
        if all(name in OURS for node in self._nodes for name in node.faults()):
            self.clear()
        versions = sorted({".".join(map(str, node.firmware)) if node.firmware >= (0, 6, 0) else "0.5" for node in self._nodes})
        return f"ODrive {', '.join(versions)} over CAN, node {', '.join(map(str, self._ids))}"

    def read(self) -> Reading:
        self._turn += 1
        began_s = time.monotonic()
        if not self._powered:  # also at rest an axis counts an unfed watchdog as an error; and this holds it at rest
            self._idle()
        self._line.write(cansimple.question(self._ids[self._turn % len(self._ids)], cansimple.BUS_VOLTAGE))
        self._listen(0.002)
        stale = [node for node in self._nodes if began_s - node.moved_s > FEED_S]
        for node in stale:  # by default they come by themselves, a hundred each second
            self._line.write(cansimple.question(node.id, cansimple.ESTIMATES))
        self._until(lambda: all(node.moved_s >= began_s for node in stale), 0.01)
        now_s = time.monotonic()
        for node in self._nodes:
            node.missed = node.missed + 1 if now_s - node.moved_s > 2 * FEED_S else 0
            if node.missed >= MISSES or now_s - node.beat_s > HEARTBEAT_LOST_S:
                node.watched = False  # it may have restarted
        if all(node.missed for node in self._nodes) or not all(node.moved_s for node in self._nodes):
            raise NoAnswer("no encoder estimates")
        return self._reading(now_s)

    def enable(self, reading: Reading) -> None:
        if unwatched := [str(node.id) for node in self._nodes if not node.watched]:
            raise BridgeError(f"the watchdog of ODrive {', '.join(unwatched)} is not known to be on: clear its errors first")
        control = cansimple.VELOCITY_CONTROL if self._wheels else cansimple.POSITION_CONTROL
        still = (0.0,) * len(self._ids) if self._wheels else reading.position
        for node in self._nodes:
            self._line.write(cansimple.controller_mode(node.id, control, cansimple.PASS_THROUGH))
        self.command(still)
        for node in self._nodes:
            self._line.write(cansimple.axis_state(node.id, cansimple.CLOSED_LOOP))
        asked_s = time.monotonic()
        self._powered = True
        self._until(
            lambda: all(node.beat_s > asked_s and node.state == cansimple.CLOSED_LOOP for node in self._nodes),
            TURN_ON_S,
            lambda: self.command(still),
        )
        if off := [node for node in self._nodes if node.state != cansimple.CLOSED_LOOP]:
            why = "; ".join(f"{node.id}: {', '.join(node.faults()) or 'no error'}" for node in off)
            raise BridgeError(f"ODrive does not enter closed loop ({why}): calibrate it with its own tool first")

    def command(self, values: Sequence[float]) -> None:
        frame = cansimple.input_vel if self._wheels else cansimple.input_pos
        for node, zero, turns, value in zip(self._ids, self._zero, self._turns, values, strict=True):
            self._line.write(frame(node, zero + turns * value))

    def rest(self) -> None:
        if self._wheels:
            self.command((0.0,) * len(self._ids))
        self._idle()

    def cut(self) -> None:
        for node in self._ids:
            self._line.write(cansimple.estop(node))
        self._idle()

    def clear(self) -> None:
        """Also puts the watchdogs to the proof, where that has still to be done."""
        self._clear_errors()
        unwatched = [node for node in self._nodes if not node.watched]
        if not unwatched or any(node.error for node in self._nodes):
            return
        if self._endpoints is not None:
            self._set_watchdogs(self._endpoints)
            return
        self._prove(unwatched)
        self._clear_errors()

    def counts(self) -> LinkCounts:
        return self._line.counts()

    def close(self) -> None:
        if self._can is not None:
            self._can.close()

    # -- the watchdog ------------------------------------------------------------------------------------------------

    def _prove(self, nodes: Sequence[_Node]) -> None:
        """Say nothing until each of them tells that its watchdog has run out. Raises BridgeError."""
        silent_s = time.monotonic()
        self._until(lambda: all("watchdog" in node.faults() for node in nodes), self._watchdog_s + FRESH_S)
        for node in nodes:
            node.watched = "watchdog" in node.faults() and node.beat_s > silent_s
        if off := [str(node.id) for node in nodes if not node.watched]:
            raise BridgeError(
                f"the watchdog of ODrive {', '.join(off)} on {self._port} is off or longer than {self._watchdog_s * 1000:.0f} "
                "ms, and without it the motor would go on when this computer dies: set axis0.config.watchdog_timeout and "
                "enable_watchdog in ODrive's own tool and save them, or allow more with the key watchdog_ms"
            )

    def _set_watchdogs(self, path: Path) -> None:
        """Fed first, or it would run out while it is switched on. Raises BridgeError."""
        for node in self._nodes:
            timeout, enable = _endpoints(path, node.firmware, node.id)
            self._line.write(cansimple.write_endpoint(node.id, timeout, self._watchdog_s))
            self._idle()
            self._line.write(cansimple.write_endpoint(node.id, enable, True))
            taken_s, on = self._endpoint(node.id, timeout, False), self._endpoint(node.id, enable, True)
            if taken_s is None or abs(taken_s - self._watchdog_s) > 1e-3 or on != 1.0:
                raise BridgeError(
                    f"ODrive {node.id} on {self._port} does not take its watchdog: see whether {path} is of its firmware "
                    f"{'.'.join(map(str, node.firmware))}, for without the watchdog it would go on when this computer dies"
                )
            node.watched = True

    def _endpoint(self, node: int, endpoint: int, boolean: bool) -> float | None:
        """As the axis tells it; None without an answer. Answers to writing (firmware 0.6.11) are thrown away before."""
        for _ in range(2):
            self._idle()
            self._listen(0.005)
            self._line.write(cansimple.read_endpoint(node, endpoint))
            end = time.monotonic() + 0.05
            while time.monotonic() < end and not self.urgent.is_set():
                for frame in self._listen(0.002):
                    if frame.node == node and (value := cansimple.endpoint_of(frame, endpoint, boolean)) is not None:
                        return value
        return None

    def _clear_errors(self) -> None:
        """Until each axis has told that it has none, or has had the time to."""
        began_s = time.monotonic()

        def clear() -> None:
            for node in self._ids:
                self._line.write(cansimple.clear_errors(node))
            self._idle()

        def clean() -> bool:
            return all(node.beat_s > began_s and not node.error for node in self._nodes)

        clear()
        self._until(clean, CLEAN_S, clear)

    # -- small parts -------------------------------------------------------------------------------------------------

    def _ask_versions(self) -> None:
        """Firmware 0.6 answers; 0.5 does not know the question."""

        def ask() -> None:
            for node in self._nodes:
                self._line.write(cansimple.question(node.id, cansimple.VERSION))

        ask()
        self._until(lambda: all(node.firmware >= (0, 6, 0) for node in self._nodes), 0.1, ask)

    def _reading(self, now_s: float) -> Reading:
        faults = [f"ODrive {node.id} does not answer" for node in self._nodes if node.missed >= MISSES]
        faults += [f"ODrive {n.id} sends no heartbeat" for n in self._nodes if now_s - n.beat_s > HEARTBEAT_LOST_S]
        faults += [f"ODrive {node.id}: {fault}" for node in self._nodes for fault in node.faults()]
        faults += [
            f"ODrive {node.id}: its encoder"
            for node in self._nodes
            if not (math.isfinite(node.position) and math.isfinite(node.velocity))
        ]
        volts = [node.supply_v for node in self._nodes if node.supply_v is not None]
        if volts and min(volts) < LEAST_V:
            faults.append("under-voltage")
        scaled = list(zip(self._nodes, self._zero, self._turns, strict=True))
        return Reading(
            position=tuple(_finite((node.position - zero) / turns) for node, zero, turns in scaled),
            velocity=tuple(_finite(node.velocity / turns) for node, _, turns in scaled),
            energised=all(node.state == cansimple.CLOSED_LOOP for node in self._nodes),
            faults=tuple(faults),
            health=Health(min(volts) if volts else None),
        )

    def _idle(self) -> None:
        self._powered = False
        for node in self._ids:
            self._line.write(cansimple.axis_state(node, cansimple.IDLE))

    def _until(self, true: Callable[[], bool], timeout_s: float, meanwhile: Callable[[], None] | None = None) -> None:
        """Listen until it is true, or time is up; then what came while this process did not run has been heard, too. meanwhile:
        done every 20 ms."""
        left, again_s = timeout_s, time.monotonic() + FEED_S
        end = time.monotonic() + timeout_s
        while not true() and left > 0 and not self.urgent.is_set():
            now = time.monotonic()
            left = end - now
            if meanwhile is not None and now >= again_s:
                meanwhile()
                again_s = now + FEED_S
            self._listen(max(0.0, min(left, 0.002)))

    def _listen(self, timeout_s: float) -> list[Frame]:
        frames = self._line.heard(timeout_s)
        for frame in frames:
            for node in self._nodes:
                if node.id == frame.node:
                    node.take(frame)
        return frames

    @property
    def _line(self) -> CanLine:
        assert self._can is not None
        return self._can


def _joints(spec: Spec, axes: Sequence[str], count: int) -> tuple[Axis, ...]:
    low, high = spec.numbers("low", count, None, -1000, 1000), spec.numbers("high", count, None, -1000, 1000)
    speed, acceleration = spec.numbers("speed", count, 2, 0.01, 1000), spec.numbers("acceleration", count, 10, 0.1, 10_000)
    if any(bottom >= top for bottom, top in zip(low, high, strict=True)):
        raise BridgeError(f"{spec.text} has a 'low' that is not below its 'high': correct one of them")
    limits = zip(spec.names(axes, count), low, high, speed, acceleration, strict=True)
    return tuple(Axis(name, AxisMode.POSITION, "rad", *each) for name, *each in limits)


def _endpoints(path: Path, firmware: tuple[int, int, int], node: int) -> tuple[int, int]:
    """The numbers of the watchdog's time-out and switch. Raises BridgeError."""
    version = ".".join(map(str, firmware))
    if firmware < (0, 6, 0):
        raise BridgeError(f"ODrive {node} has a firmware before 0.6, without endpoints on CAN: leave the key endpoints out")
    try:
        found: Any = json.loads(path.read_text("utf-8"))
        of, listed = str(found["fw_version"]).partition("-")[0], found["endpoints"]
        timeout, enable = listed[TIMEOUT], listed[ENABLE]
        numbers = int(timeout["id"]), int(enable["id"])
        right = timeout["type"] == "float" and enable["type"] == "bool" and all(0 < each < 65536 for each in numbers)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BridgeError(
            f"{path} is no list of ODrive's endpoints ({error!r}): take flat_endpoints.json of firmware {version}"
        ) from None
    if of != version or not right:
        raise BridgeError(f"{path} is for firmware {of} and ODrive {node} has {version}: take the file of that one")
    return numbers


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
