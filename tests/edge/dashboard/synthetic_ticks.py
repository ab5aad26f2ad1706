"""Ticks as a rover's loop would make them, without a loop; run as a script it feeds a page to look at.

python tests/edge/dashboard/synthetic_ticks.py [--watch] [--port 8421] [--seconds 600]
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.clock import MonotonicClock
from edge.dashboard import Dashboard, Refused
from edge.messages import (
    Assessment,
    Belief,
    CameraFault,
    Command,
    Event,
    Frame,
    Goal,
    MemoryCounts,
    Pixels,
    Plan,
    RobotState,
    Tick,
)
from firmware_bridge.controller import FirmwareState, LinkCounts, Telemetry

PERIOD_NS = 100_000_000
_NOISE = np.random.default_rng(1).integers(-6, 7, (544, 640, 3), dtype=np.int16)
AXES = ("left wheel", "right wheel")


class RecordingOperator:
    """Does what it is told and writes it down."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.state = RobotState.DISARMED
        self.refuse = ""

    def arm(self) -> None:
        if self.refuse:
            raise Refused(self.refuse)
        self.calls.append("arm")
        self.state = RobotState.ACTING

    def disarm(self) -> None:
        self.calls.append("disarm")
        self.state = RobotState.DISARMED

    def emergency_stop(self, reason: str) -> None:
        self.calls.append(f"stop: {reason}")
        self.state = RobotState.STOPPED

    def clear_stop(self) -> None:
        self.calls.append("clear")
        self.state = RobotState.DISARMED


def arena(x: float, y: float, heading: float, seed: int = 0, stranger: bool = False) -> Pixels:
    """A rover on a floor, 640x480 BGR."""
    picture = np.full((480, 640, 3), (148, 156, 160), np.uint8)
    for column in range(0, 640, 80):
        cv2.line(picture, (column, 0), (column, 480), (138, 146, 150), 1)
    for row in range(0, 480, 80):
        cv2.line(picture, (0, row), (640, row), (138, 146, 150), 1)
    at = (int(x), int(y))
    cv2.circle(picture, at, 40, (60, 56, 52), -1, cv2.LINE_AA)
    cv2.circle(picture, at, 33, (190, 128, 44), -1, cv2.LINE_AA)
    nose = (int(x + 22 * math.cos(heading)), int(y + 22 * math.sin(heading)))
    cv2.circle(picture, nose, 13, (60, 190, 250), -1, cv2.LINE_AA)
    if stranger:
        cv2.rectangle(picture, (430, 300), (520, 380), (40, 40, 150), -1, cv2.LINE_AA)
    shift = seed * 7919 % 64
    return np.asarray(cv2.add(picture, _NOISE[shift : shift + 480], dtype=cv2.CV_8U), dtype=np.uint8)


def thumbnail(pixels: Pixels) -> bytes:
    return cv2.imencode(".jpg", cv2.resize(pixels, (144, 108)))[1].tobytes()


def ticks(
    operator: RecordingOperator | None, start_ns: int = 0, wall_s: float = 1.8e9, draw_from: int = 0
) -> Iterator[Tick]:
    """Ticks at 10 Hz for ever: an alarm every 40 s, a late camera now and then. operator None: a camera alone.

    draw_from: earlier ticks, which nobody will see, repeat one picture.
    """
    rng = np.random.default_rng(4)
    goal = Goal("charging corner", np.zeros((1, 8), np.float32), 0.12, arena(520, 120, 0.4, 99))
    unseen = arena(320, 240, 0.0)
    latent = np.zeros((1, 8), np.float32)
    alarmed = False
    state = None
    sent = 0
    index = 0
    while True:
        now_ns = start_ns + index * PERIOD_NS
        seconds = index * PERIOD_NS / 1e9
        phase = seconds % 40
        stranger = 22 < phase < 33
        angle = seconds * 0.25
        pixels = (
            unseen
            if index < draw_from
            else arena(320 + 190 * math.cos(angle), 240 + 130 * math.sin(angle), angle + 1.6, index, stranger)
        )
        heat = np.abs(rng.normal(0.16, 0.1, (12, 16))).astype(np.float32)
        if stranger:
            heat[7:10, 10:13] += np.float32(1.0) + rng.random((3, 3), dtype=np.float32) * 0.7
        p_value = float(10 ** -(2.9 + rng.random() * 1.1)) if stranger else float(rng.random() ** 1.3 * 0.99 + 0.004)
        onset = stranger and not alarmed and phase > 22.6
        events = []
        wall = wall_s + seconds
        if onset:
            alarmed = True
            events.append(
                Event(
                    "alarm",
                    "unfamiliar",
                    "An object stands where the floor was, lower right.",
                    now_ns,
                    wall,
                    thumbnail(pixels),
                )
            )
        elif alarmed and not stranger and phase > 34:
            alarmed = False
            events.append(Event("clear", "", "Nothing surprising for 1 s.", now_ns, wall, thumbnail(pixels)))
        robot = RobotState.DISARMED if operator is None else operator.state
        if operator is not None and robot is not state:
            events.append(Event("state", "", f"The robot is {robot.value}.", now_ns, wall))
        state = robot
        faults = (CameraFault.LATE,) if 12 < phase < 13.2 else ()
        assessment = Assessment(
            error=float(0.06 + 0.05 * stranger + 0.012 * rng.random()),
            unfamiliarity=float(1.4 + 2.2 * stranger + 0.3 * rng.random()),
            p_value=p_value,
            alarm_p=0.003,
            alarmed=alarmed,
            onset=onset,
            cause="unfamiliar" if alarmed else "",
            heat=heat,
        )
        timings = {
            "camera": int(180_000 + rng.exponential(60_000)),
            "encode": int(9_000_000 + rng.exponential(700_000)),
            "belief": int(3_100_000 + rng.exponential(300_000)),
            "surprise": int(400_000 + rng.exponential(50_000)),
        }
        tick = Tick(
            index=index,
            started_ns=now_ns,
            frame=Frame(pixels, now_ns - 31_000_000, index, faults),
            faults=faults,
            belief=Belief(latent, latent, latent[None], np.zeros((0, 2), np.float32), now_ns, 0),
            assessment=assessment,
            memory=MemoryCounts(1284 + index // 50, 412, 18_400_000 + index * 900),
            events=tuple(events),
            overruns=2,
        )
        if operator is not None:
            sent += 1
            acting = robot is RobotState.ACTING
            timings |= {"plan": int(52_000_000 + rng.exponential(2_500_000)), "safety": 24_000, "send": 60_000}
            sweep = np.linspace(0, 2.6, 12)
            actions = np.stack((0.75 * np.cos(angle + sweep), 0.8 * np.sin(angle + sweep * 0.7)), 1).astype(np.float32)
            tick.state = robot
            tick.reason = {
                RobotState.DISARMED: "motors hold still until an operator arms them",
                RobotState.ACTING: "driving to charging corner",
                RobotState.STOPPED: "emergency stop: button on the dashboard",
            }.get(robot, "")
            tick.goal = goal
            tick.plan = Plan(actions, 0.21, 0.64 + 0.05 * math.sin(angle), 4, 128, goal.name, False)
            if acting:
                targets = (float(actions[0, 0] * 20), float(actions[0, 1] * 20))
                limited = ("right wheel",) if phase > 35 else ()
                tick.command = Command(targets, actions[0], now_ns + 200_000_000, now_ns - 31_000_000, limited)
                tick.capture_to_command_ns = int(98_000_000 + rng.exponential(3_000_000))
            speed = (float(actions[0, 0] * 19.4), float(actions[0, 1] * 19.3)) if acting else (0.0, 0.0)
            tick.telemetry = Telemetry(
                FirmwareState.ACTIVE
                if acting
                else FirmwareState.ESTOP
                if robot is RobotState.STOPPED
                else FirmwareState.LINKED,
                (14.2 + seconds, 11.9 + seconds * 0.8),
                speed,
                (0.42 * acting, 0.39 * acting),
                now_ns - 6_000_000,
                "latentloop-c99 1.0",
                (),
                LinkCounts(4000 + 3 * sent, 4000 + 3 * sent - 1, 9000 + 8 * sent, 0, 0),
            )
        tick.timings_ns = timings
        tick.engine_ns = timings["encode"] + timings["belief"] + timings.get("plan", 0) * 9 // 10
        tick.total_ns = sum(timings.values()) + 300_000
        yield tick
        index += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watch", action="store_true", help="a camera without motors")
    parser.add_argument("--port", type=int, default=8421)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--past", type=float, default=58.0, help="seconds of history before the page opens")
    asked = parser.parse_args()
    operator = None if asked.watch else RecordingOperator()
    if operator is not None:
        operator.state = RobotState.ACTING
    clock = MonotonicClock()
    with tempfile.TemporaryDirectory() as folder:
        page = Dashboard(
            title="Car park camera" if asked.watch else "Rover in the arena",
            operator=operator,
            port=asked.port,
            token_path=Path(folder) / "token",
            axes=AXES,
            period_s=PERIOD_NS / 1e9,
        )
        past = int(asked.past * 1e9 / PERIOD_NS)
        # Drawing the past takes a while; it ends when the page opens.
        begun = clock.now_ns() + int(asked.past * 0.15e9)
        stream = ticks(operator, begun - past * PERIOD_NS, time.time() - asked.past)
        for number, tick in enumerate(stream):
            if number == past:
                page.start()
                print(page.login_url, flush=True)
            if number >= past:
                clock.sleep_until_ns(tick.started_ns)
            page.observe(tick)
            if tick.started_ns - begun > asked.seconds * 1e9:
                break
        page.close()


if __name__ == "__main__":
    main()
