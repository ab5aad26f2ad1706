"""A person at a real terminal holds a key, lets go, and goes away; what the motors got is what counts."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import UserError
from firmware_bridge import host_firmware
from firmware_bridge.host_firmware import HostFirmware
from firmware_bridge.messages import State
from tests.edge.bridge.conftest import Command
from tests.firmware_bridge.processes import RecordingPlant, until

COMMAND = """
import argparse, fcntl, sys, termios
from edge.bridge.cli import register
from edge.errors import UserError
from firmware_bridge.controller import BridgeError
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
parser = argparse.ArgumentParser()
register(parser.add_subparsers())
args = parser.parse_args(["bridge", *sys.argv[1:]])
try:
    sys.exit(args.run(args))
except (UserError, BridgeError) as error:
    print(error)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[RecordingPlant]:
    plant = RecordingPlant(tmp_path / "plant")
    yield plant
    plant.close()


@pytest.fixture
def rover(firmware_cache: None, plant: RecordingPlant) -> Iterator[HostFirmware]:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    running = host_firmware.start(plant=plant.path)
    yield running
    running.close()


class Person:
    """At a pseudo-terminal with the command on it."""

    def __init__(self, port: str) -> None:
        self.terminal, theirs = pty.openpty()
        words = [sys.executable, "-c", COMMAND, "jog", port, "left", "--speed", "2"]
        self.process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.seen = ""
        self._let_go = threading.Event()

    def read_until(self, words: str) -> None:
        until(lambda: words in self._more(), words)

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def hold(self, key: str) -> None:
        """As a terminal repeats it, until ``let_go``."""
        self._let_go.clear()
        threading.Thread(target=self._repeat, args=(key,), daemon=True).start()

    def let_go(self) -> None:
        self._let_go.set()

    def leave(self) -> None:
        """Close the terminal."""
        self.let_go()
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1

    def _repeat(self, key: str) -> None:
        while not self._let_go.wait(0.03):
            try:
                self.type(key)
            except OSError:
                return

    def _more(self) -> str:
        if select.select([self.terminal], [], [], 0.01)[0]:
            try:
                self.seen += os.read(self.terminal, 4096).decode(errors="replace")
            except OSError:  # the command has ended
                pass
        return self.seen


@pytest.fixture
def person(rover: HostFirmware) -> Iterator[Person]:
    person = Person(rover.port)
    yield person
    person.leave()
    person.process.kill()
    person.process.wait()


def armed(person: Person, plant: RecordingPlant) -> None:
    person.read_until("Type ARM to begin: ")
    person.type("ARM\n")
    person.read_until("hold w or s")
    plant.wait_for(State.ACTIVE)


def test_the_wheel_turns_while_a_key_is_held(person: Person, plant: RecordingPlant) -> None:
    armed(person, plant)
    assert all(packet.output_mrad_s == (0, 0) for packet in plant.packets)
    person.hold("w")
    until(lambda: plant.newest.output_mrad_s == (2000, 0), "forward")
    person.let_go()
    until(lambda: plant.newest.output_mrad_s == (0, 0), "a standstill")
    assert plant.newest.state is State.ACTIVE
    person.hold("s")
    until(lambda: plant.newest.output_mrad_s == (-2000, 0), "backward")
    person.let_go()
    time.sleep(0.05)  # the last repetition is out
    person.type("q")
    assert person.process.wait(20) == 0
    assert plant.wait_for(State.LINKED).output_mrad_s == (0, 0)


@pytest.mark.parametrize(("how", "code"), [("another key", 0), ("Ctrl-C", 130), ("no terminal", None), ("killed", -9)])
def test_it_stops_when_the_person_is_gone(person: Person, plant: RecordingPlant, how: str, code: int | None) -> None:
    armed(person, plant)
    person.hold("w")
    until(lambda: plant.newest.output_mrad_s == (2000, 0), "forward")
    if how == "another key":
        person.type("x")
    elif how == "Ctrl-C":
        person.type("\x03")
    elif how == "no terminal":
        person.leave()
    else:
        person.process.kill()
    ended = person.process.wait(20)
    assert code is None or ended == code
    until(lambda: plant.newest.state in (State.LINKED, State.SAFE), "a stop")
    assert plant.newest.output_mrad_s == (0, 0)


def test_another_word_moves_nothing(person: Person, plant: RecordingPlant) -> None:
    person.read_until("Type ARM to begin: ")
    person.type("arm\n")
    assert person.process.wait(20) == 2
    person.read_until("nothing has moved")
    assert all(packet.state is not State.ACTIVE for packet in plant.packets)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("middle",), "its axes are left, right"),
        (("left", "--speed", "21"), "at most 20"),
        (("left", "--speed", "nan"), "give more"),
    ],
)
def test_bad_input(firmware: HostFirmware, command: Command, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        command("jog", firmware.port, *words)


def test_an_unproved_board_is_not_jogged(
    firmware: HostFirmware, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("firmware_bridge.device.HOST_FIRMWARE", "no firmware is simulated")
    with pytest.raises(UserError, match="never proved to stop"):
        command("jog", firmware.port, "left")
