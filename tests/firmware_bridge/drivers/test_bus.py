"""A late answer is never the answer to another question."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Iterator

import pytest

from firmware_bridge.drivers.bus import Bus, NoAnswer, PortLost
from firmware_bridge.serial_port import open_port


class Echo:
    """Answers each byte b with the byte b | 0x80 after its delay; delays are taken from a list, None for no answer."""

    def __init__(self, delays: list[float | None], echo: bool = False) -> None:
        self.line, self._port = os.openpty()
        tty.setraw(self._port)
        self.asked = bytearray()
        self._delays, self._echo = delays, echo
        self._timers: list[threading.Timer] = []
        self.bus = Bus(open_port(os.ttyname(self._port), 115_200), threading.Event(), timeout_s=0.15, settle_s=(0.4, 0.8))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self, question: int, tries: int = 1) -> int:
        """The answer, whatever it is."""
        return self.bus.ask(bytes((question,)), lambda heard: heard.pop(0) if heard else None, tries=tries)

    def close(self) -> None:
        self.bus.close()
        # Numbers of closed lines are given to new ones: whoever still used them would take a word out of another test's mouth.
        self._ending.set()
        self._thread.join()
        for timer in self._timers:
            timer.cancel()
            timer.join()
        os.close(self._port)
        os.close(self.line)

    def _run(self) -> None:
        while not self._ending.is_set():
            for question in os.read(self.line, 64) if select.select([self.line], [], [], 0.02)[0] else b"":
                self.asked.append(question)
                delay = self._delays.pop(0) if self._delays else 0.0
                if self._echo:
                    os.write(self.line, bytes((question,)))
                if delay is not None:
                    timer = threading.Timer(delay, os.write, (self.line, bytes((question | 0x80,))))
                    timer.daemon = True
                    timer.start()
                    self._timers.append(timer)


@pytest.fixture
def far(request: pytest.FixtureRequest) -> Iterator[Echo]:
    far = Echo(*request.param)
    yield far
    far.close()


@pytest.mark.parametrize("far", [([0.2],), ([0.25, 0.0],), ([0.3, 0.2, 0.0],)], indirect=True)
def test_an_answer_that_comes_after_its_time_is_thrown_away(far: Echo) -> None:
    answered = 0
    for question in range(1, 100):  # a busy machine may make other answers late than those that are meant to be
        try:
            assert far.ask(question) == question | 0x80
            answered += 1
        except NoAnswer:
            continue
        if answered == 2:
            break
    assert answered == 2
    assert far.bus.counts().crc_errors >= 1


@pytest.mark.parametrize("far", [([None, 0.0],)], indirect=True)
def test_a_question_is_asked_again_only_as_often_as_allowed(far: Echo) -> None:
    assert far.ask(5, tries=2) == 0x85
    assert far.asked == b"\x05\x05"
    assert far.bus.counts().dropped == 1


@pytest.mark.parametrize("far", [([], True)], indirect=True)
def test_an_adapter_that_echoes_is_seen_through(far: Echo) -> None:
    assert [far.ask(question) for question in (1, 2, 3)] == [0x81, 0x82, 0x83]


@pytest.mark.parametrize("far", [([3600.0],)], indirect=True)
def test_something_urgent_ends_the_wait(far: Echo) -> None:
    far.bus._urgent.set()
    with pytest.raises(NoAnswer):
        far.bus.ask(b"\x01", lambda heard: None, tries=99, timeout_s=3600.0)


@pytest.mark.parametrize("far", [([],)], indirect=True)
def test_a_port_that_is_gone_is_said_to_be(far: Echo) -> None:
    far.bus.close()
    with pytest.raises(PortLost):
        far.ask(1)
