"""The arena as a process of its own: physics, an overhead camera, and motors that hear only what the firmware sends them.

``latentloop world --folder DIR`` starts it. In DIR appear

* ``frames``  the camera's shared memory (source ``world:DIR/frames``),
* ``motors``  a link to the firmware's serial port,
* ``goals``   a socket on which a person's part is played: somebody who shows the robot a picture of where to go.

The runtime sees pixels and serial telemetry; the firmware process sees encoders; nobody but the goals' socket sees the pose.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import numpy as np

from edge.cameras import FrameRing
from edge.clock import NS_PER_S, Clock, MonotonicClock
from edge.messages import Pixels
from edge.worlds.arena import HEIGHT, WIDTH, ArenaPainter
from edge.worlds.rover import SPEC, STEP_S, Doubles, Rover, pose_distance, random_actions, random_pose
from edge.worlds.wheels import Drivetrain, Wheel
from firmware_bridge import host_firmware
from firmware_bridge.messages import State
from firmware_bridge.plant import MotorFeedback, MotorOutput

FRAMES, MOTORS, GOALS, PLANT = "frames", "motors", "goals", "plant"

GOAL_STEPS = 15
GOAL_DISTANCE_M = 0.15 * SPEC.arena_width
"""A goal is a state that random driving reaches in so many steps and that lies at least so far away."""

ARRIVED_M = 0.1
ARRIVED_RAD = np.deg2rad(25.0)
"""What counts as there, by the true pose."""

_PHYSICS_STEP_NS = 5_000_000


def draw_goal(rover: Rover, rng: np.random.Generator) -> Doubles:
    """A pose (3,) that one rover reaches from its present state by :data:`GOAL_STEPS` random steps, not too near."""
    while True:
        twins = rover.repeat(32)
        actions = random_actions(rng, 32, GOAL_STEPS)
        for step in range(GOAL_STEPS):
            twins.drive(STEP_S, actions[:, step] * SPEC.max_wheel_speed)
        metres, _ = pose_distance(twins.pose, rover.pose)
        far = np.flatnonzero(metres >= GOAL_DISTANCE_M)
        if len(far):
            return np.asarray(twins.pose[far[0]])
        rng.random()  # a rover in a corner may need another draw


def arrived(pose: Doubles, goal: Doubles) -> bool:
    """Whether a pose (3,) counts as being at the goal (3,)."""
    metres, turn = pose_distance(pose, goal)
    return bool(metres <= ARRIVED_M and turn <= ARRIVED_RAD)


@dataclass
class _Shown:
    """A goal that was shown to the robot."""

    name: str
    pose: Doubles


class ArenaWorld:
    """One arena in real time. Blocks in :meth:`run`; everything it made is gone after :meth:`close`."""

    def __init__(
        self, folder: Path, *, seed: int, fps: float, clock: Clock, wheels: tuple[Wheel, Wheel] = (Wheel(), Wheel())
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._clock = clock
        self._rng = np.random.default_rng([seed, 77])
        self._painter = ArenaPainter(seed)
        self._rover = Rover(random_pose(self._rng, 1))
        self._drivetrain = Drivetrain(wheels, _PHYSICS_STEP_NS / NS_PER_S, seed)
        self._turned = np.zeros(2)
        self._output = np.zeros(2)
        self._motors_said: MotorOutput | None = None
        self._safe_stop_ns: int | None = None
        self._frame_ns = round(NS_PER_S / fps)
        self._sequence = 0
        self._shown: _Shown | None = None
        self._goals = 0
        for name in (FRAMES, PLANT, GOALS):
            (folder / name).unlink(missing_ok=True)
        self._ring = FrameRing.create(folder / FRAMES, HEIGHT, WIDTH)
        self._plant = _listen(folder / PLANT, socket.SOCK_SEQPACKET)
        self._people = _listen(folder / GOALS, socket.SOCK_STREAM)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._plant, selectors.EVENT_READ, self._accept_motors)
        self._selector.register(self._people, selectors.EVENT_READ, self._accept_person)

    def run(self, stop: threading.Event) -> None:
        """Live until ``stop`` is set."""
        clock = self._clock
        moved_ns = next_frame_ns = clock.now_ns()
        self._paint(moved_ns)
        while not stop.is_set():
            now = clock.now_ns()
            if now - moved_ns >= _PHYSICS_STEP_NS:
                while now - moved_ns >= _PHYSICS_STEP_NS:
                    self._move(_PHYSICS_STEP_NS / NS_PER_S)
                    moved_ns += _PHYSICS_STEP_NS
                self._feed_back()
            if now >= next_frame_ns:
                next_frame_ns += max(1, -(-(now - next_frame_ns) // self._frame_ns)) * self._frame_ns
                self._paint(now)
            pause_ns = min(moved_ns + _PHYSICS_STEP_NS, next_frame_ns) - clock.now_ns()
            for key, _ in self._selector.select(max(0.0, pause_ns / NS_PER_S)):
                key.data(key.fileobj)

    def close(self) -> None:
        """Take away what is in the folder. Safe to call twice."""
        for key in list(self._selector.get_map().values() if self._selector.get_map() else ()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._ring.close()
        for name in (FRAMES, PLANT, GOALS):
            (self.folder / name).unlink(missing_ok=True)

    # -- the plant -----------------------------------------------------------------------------------------------

    def _move(self, seconds: float) -> None:
        before = self._rover.wheels.copy()
        strive = self._drivetrain.step(self._output.tolist(), before[0].tolist())
        self._rover.coast(seconds, np.array([strive]))
        self._turned += 0.5 * (before + self._rover.wheels)[0] * seconds

    def _feed_back(self) -> None:
        wheels = self._rover.wheels[0]
        # A motor draws current for what it accelerates and a little for friction.
        amperes = 0.05 * (self._output - wheels) + 0.02 * wheels
        angles, speeds = self._drivetrain.encoders(self._turned.tolist(), wheels.tolist())
        feedback = MotorFeedback(
            tuple(round(1e3 * angle) for angle in angles),
            tuple(round(1e3 * speed) for speed in speeds),
            tuple(int(v) for v in np.clip(np.rint(amperes * 1e3), -32768, 32767)),
        )
        packet = feedback.pack()
        for key in list(self._selector.get_map().values()):
            if key.data == self._hear_motors:
                assert isinstance(key.fileobj, socket.socket)
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    key.fileobj.send(packet)

    def _accept_motors(self, listener: socket.socket) -> None:
        motors, _ = listener.accept()
        motors.setblocking(False)
        self._selector.register(motors, selectors.EVENT_READ, self._hear_motors)

    def _hear_motors(self, motors: socket.socket) -> None:
        while True:
            try:
                packet = motors.recv(256)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet = b""
            if not packet:  # the firmware is gone: its outputs float to zero, as a board's without power
                self._output[:] = 0.0
                self._selector.unregister(motors)
                motors.close()
                return
            said = MotorOutput.unpack(packet)
            before, self._motors_said = self._motors_said, said
            # Motors that stand already are through their safe stop before the next packet.
            if said.state is not State.ACTIVE and before is not None and before.state is State.ACTIVE:
                self._safe_stop_ns = said.mono_ns - said.last_lease_mono_ns
            self._output[:] = said.output_mrad_s
            self._output /= 1e3

    # -- the camera ----------------------------------------------------------------------------------------------

    def _paint(self, now_ns: int) -> None:
        lamp = 1.0 + 0.03 * np.sin(now_ns / NS_PER_S * 0.3)
        picture = self._painter.paint(self._rover.pose[0], float(lamp))
        self._ring.write(picture, now_ns, self._sequence)
        self._sequence += 1

    # -- the person ----------------------------------------------------------------------------------------------

    def _accept_person(self, listener: socket.socket) -> None:
        person, _ = listener.accept()
        person.settimeout(2.0)
        self._selector.register(person, selectors.EVENT_READ, self._hear_person)

    def _hear_person(self, person: socket.socket) -> None:
        """One line in, one JSON line and perhaps a picture out: ``next`` shows a goal, ``where`` tells the true
        pose, ``motors`` what the motor driver hears and how long after its last lease the firmware last stopped."""
        try:
            asked = person.recv(64).strip()
            if asked == b"next":
                self._goals += 1
                self._shown = _Shown(f"picture {self._goals}", draw_goal(self._rover, self._rng))
                picture: Pixels = self._painter.paint(self._shown.pose)
                person.sendall(json.dumps({"name": self._shown.name, "shape": picture.shape}).encode() + b"\n")
                person.sendall(picture.tobytes())
                return
            if asked == b"motors":
                said = self._motors_said
                answer = {
                    "state": "" if said is None else said.state.name.lower(),
                    "moving": bool(np.abs(self._output).max() > 1.0),
                    "last_lease_to_safe_stop_ms": None if self._safe_stop_ns is None else self._safe_stop_ns / 1e6,
                }
                person.sendall(json.dumps(answer).encode() + b"\n")
                return
            if asked == b"where":
                there = self._shown is not None and arrived(self._rover.pose[0], self._shown.pose)
                person.sendall(json.dumps({"pose": self._rover.pose[0].tolist(), "arrived": there}).encode() + b"\n")
                return
        except OSError:
            pass
        self._selector.unregister(person)
        person.close()


def _listen(path: Path, kind: socket.SocketKind) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    listener.listen(4)
    return listener


def _wait_for_end_of_input(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


def serve(
    folder: Path,
    *,
    seed: int,
    fps: float,
    firmware: Literal["c", "python"],
    with_parent: bool,
    wheels: tuple[Wheel, Wheel] = (Wheel(), Wheel()),
) -> int:
    """Run an arena and its firmware until a signal, or until standard input ends where ``with_parent``."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    if with_parent:
        # End of file means that whoever started this world is gone, however it went.
        threading.Thread(target=_wait_for_end_of_input, args=(stop,), daemon=True).start()
    world = ArenaWorld(folder, seed=seed, fps=fps, clock=MonotonicClock(), wheels=wheels)
    motors = None
    try:
        motors = host_firmware.start(folder / PLANT, folder / MOTORS, prefer=firmware)
        print(json.dumps({"folder": str(folder), "pid": os.getpid(), "firmware": motors.firmware}), flush=True)
        world.run(stop)
    finally:
        if motors is not None:
            motors.close()
        world.close()
    return 0
