"""What a person reads when the link cannot be made: one sentence, what is wrong and what to do."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

from firmware_bridge import framing
from firmware_bridge.board import ROVER, AxisLimits, Board, BoardAxis
from firmware_bridge.controller import BridgeError, FirmwareState
from firmware_bridge.framing import Decoder, Frame
from firmware_bridge.messages import SCHEMA_ID, Ack, Arm, Code, Disarm, Estop, Hello, HelloAck, Mode
from firmware_bridge.reference import Core, Identity
from firmware_bridge.serial_controller import SerialController
from tests.firmware_bridge.processes import until

Answer = Callable[[bytes], bytes]


@contextmanager
def device(answer: Answer) -> Iterator[str]:
    """Something at the other end of a pseudo-terminal; yields the port. answer is also called with b"" every 2 ms."""
    line, port = os.openpty()
    tty.setraw(port)
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            data = os.read(line, 256) if select.select([line], [], [], 0.002)[0] else b""
            reply = answer(data)
            if reply:
                os.write(line, reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield os.ttyname(port)
    finally:
        ending.set()
        thread.join()
        os.close(line)
        os.close(port)


def firmware(
    board: Board = ROVER,
    change: Callable[[Frame], Frame | None] = lambda frame: frame,
    deaf_to: frozenset[int] = frozenset(),
) -> Answer:
    """The reference core as an answer; change may alter or swallow what it says; types in deaf_to never reach it."""
    core, decoder, ears = Core(board, Identity(7, "test"), 0), Decoder(SCHEMA_ID), Decoder(SCHEMA_ID)
    started = time.monotonic_ns()

    def answer(data: bytes) -> bytes:
        now_us = (time.monotonic_ns() - started) // 1000
        for frame in ears.feed(data):
            if frame.type not in deaf_to:
                core.receive(framing.encode(frame, SCHEMA_ID), now_us)
        core.tick(now_us)
        said = bytes(core.tx)
        core.sent(len(said))
        changed = [change(frame) for frame in decoder.feed(said)]
        return b"".join(framing.encode(frame, SCHEMA_ID) for frame in changed if frame is not None)

    return answer


def refusal(port: str, timeout_s: float = 0.5, **settings: object) -> str:
    """The one sentence with which connect fails, in time."""
    controller = SerialController(port, **settings)  # type: ignore[arg-type]
    before = time.monotonic()
    with pytest.raises(BridgeError) as caught:
        controller.connect(timeout_s)
    assert time.monotonic() - before < timeout_s + 5.0
    assert controller.telemetry().state is FirmwareState.OFFLINE
    assert controller.telemetry().received_ns == 0
    message = str(caught.value)
    assert "\n" not in message
    assert ":" in message  # what is wrong: what to do
    return message


def test_no_such_port(tmp_path: Path) -> None:
    assert "there is no serial port" in refusal(str(tmp_path / "ttyACM7"))


def test_not_a_serial_port(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "is not a serial port" in refusal(str(file))


def test_an_unknown_kind_of_url() -> None:
    assert "cannot be opened" in refusal("gopher://here")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "add yourself to the group"), (errno.EBUSY, "in use"), (errno.EIO, "check the port's name")],
)
def test_what_the_system_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, words: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(number, "no")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    port = tmp_path / "tty"
    port.touch()
    port.chmod(0o600)
    if number == errno.EIO:
        port.unlink()
    message = refusal(str(port))
    assert words in message
    assert number != errno.EACCES or port.group() in message


def test_a_port_in_use(controller: SerialController, tmp_path: Path) -> None:
    assert "in use by" in (said := refusal(str(tmp_path / "port"))) and "this program" in said
    assert controller.telemetry().state is FirmwareState.LINKED


def test_nobody_answers() -> None:
    with device(lambda data: b"") as port:
        assert "no answer" in refusal(port)


def test_something_else_talks() -> None:
    with device(lambda data: b"$GPGGA,123519,4807.038,N\r\n") as port:
        assert "is not a latentloop firmware" in refusal(port)


def test_an_echo_is_not_a_firmware() -> None:
    assert "is not a latentloop firmware" in refusal("loop://")


def test_another_version() -> None:
    def other(frame: Frame) -> Frame | None:
        if frame.type != HelloAck.TYPE:
            return frame
        hello = HelloAck.unpack(frame.payload)
        return Frame(Ack.TYPE, 0, 0, Ack(hello.answered_seq, Hello.TYPE, Code.BAD_VERSION).pack())

    with device(firmware(change=other)) as port:
        assert "does not speak protocol version 1" in refusal(port)


def test_other_message_definitions() -> None:
    def other(frame: Frame) -> Frame | None:
        where = 12  # four bytes, nonce, boot id
        payload = frame.payload[:where] + b"\x01\x02\x03\x04" + frame.payload[where + 4 :]
        return Frame(frame.type, frame.seq, frame.session, payload) if frame.type == HelloAck.TYPE else frame

    with device(firmware(change=other)) as port:
        assert "04030201" in refusal(port)


@pytest.mark.parametrize("axes", [("left",), ("right", "left"), ("left", "right", "tool")])
def test_other_axes(axes: tuple[str, ...]) -> None:
    with device(firmware()) as port:
        message = refusal(port, axes=axes)
        assert "left, right" in message and ", ".join(axes) in message


def test_a_robot_with_more_axes() -> None:
    """Nothing in the host is made for two wheels."""
    names = ("base", "shoulder", "elbow", "wrist", "hand", "thumb", "neck", "tail")
    board = Board(tuple(BoardAxis(name, Mode.VELOCITY, AxisLimits(1000, 50_000)) for name in names))
    with device(firmware(board)) as port:
        controller = SerialController(port, names, lease_s=0.5)
        controller.connect()
        controller.heartbeat(time.monotonic_ns() + 5 * 10**9, True)
        controller.arm()
        controller.send([0.5] * 8, time.monotonic_ns() + 10**9)
        until(lambda: controller.last_ack_latency_ns is not None, "the command is applied")
        assert controller.telemetry().position == (0.0,) * 8
        controller.close()


def test_no_answer_to_arm_disarms() -> None:
    def deaf(frame: Frame) -> Frame | None:
        lost = frame.type == Ack.TYPE and Ack.unpack(frame.payload).answered_type == Arm.TYPE
        return None if lost else frame

    with device(firmware(change=deaf)) as port:
        controller = SerialController(port, lease_s=0.5)
        controller.connect()
        controller.heartbeat(time.monotonic_ns() + 5 * 10**9, True)
        with pytest.raises(BridgeError, match="not answered"):
            controller.arm(timeout_s=0.2)
        until(lambda: controller.telemetry().state is FirmwareState.LINKED, "it is disarmed")
        controller.close()


def armed(port: str) -> SerialController:
    controller = SerialController(port, lease_s=0.5)
    controller.connect()
    controller.heartbeat(time.monotonic_ns() + 60 * 10**9, True)
    controller.arm()
    until(lambda: controller.telemetry().state is FirmwareState.ACTIVE, "armed")
    return controller


def test_disarming_works_although_disarm_never_arrives() -> None:
    with device(firmware(deaf_to=frozenset({Disarm.TYPE}))) as port:
        controller = armed(port)
        time.sleep(0.1)
        controller.disarm()
        until(lambda: controller.stop_cause == "disengaged", "the leases said so")
        controller.close()


def test_stopping_works_although_estop_never_arrives() -> None:
    with device(firmware(deaf_to=frozenset({Estop.TYPE}))) as port:
        controller = armed(port)
        controller.estop()
        until(lambda: controller.stop_cause == "lease_expired", "the lease was not fed any more")
        with pytest.raises(BridgeError, match="not been confirmed"):
            controller.clear_estop()
        controller.close()


def test_arming_is_called_off_by_a_disarm() -> None:
    with device(firmware(deaf_to=frozenset({Arm.TYPE}))) as port:
        controller = SerialController(port, lease_s=0.5)
        controller.connect()
        controller.heartbeat(time.monotonic_ns() + 60 * 10**9, True)
        threading.Timer(0.05, controller.disarm).start()
        with pytest.raises(BridgeError, match="called off"):
            controller.arm(timeout_s=20.0)
        controller.close()


def test_a_lost_answer_is_asked_for_again() -> None:
    lost: set[int] = set()

    def forgetful(frame: Frame) -> Frame | None:
        """Every answer is lost once."""
        if frame.type != Ack.TYPE or frame.payload[0] in lost:
            return frame
        lost.add(frame.payload[0])
        return None

    with device(firmware(change=forgetful)) as port:
        controller = SerialController(port, lease_s=0.5)
        controller.connect()
        controller.heartbeat(time.monotonic_ns() + 5 * 10**9, True)
        controller.arm()
        assert controller.telemetry().state is FirmwareState.ACTIVE
        assert controller.telemetry().counts.dropped > 0
        controller.close()


@pytest.mark.parametrize(
    ("targets", "words"),
    [((1.0,), "1 targets"), ((float("nan"), 0.0), "left is nan"), ((0.0, float("inf")), "right is inf")],
)
def test_targets_that_are_none(targets: tuple[float, ...], words: str) -> None:
    with pytest.raises(BridgeError, match=words):
        SerialController("/dev/null").send(targets, 0)


def test_before_connecting() -> None:
    controller = SerialController("/dev/null")
    assert controller.telemetry().state is FirmwareState.OFFLINE
    controller.send((0.0, 0.0), time.monotonic_ns() + 10**9)
    assert controller.telemetry().counts.dropped == 1
    for call in (controller.arm, controller.clear_estop):
        with pytest.raises(BridgeError, match="not connected"):
            call()
    controller.disarm()
    controller.estop()
    controller.close()


@pytest.mark.parametrize("settings", [{"lease_s": 0.01}, {"lease_s": 1.0}, {"state_hz": 0.0}, {"state_hz": 999.0}])
def test_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not"):
        SerialController("/dev/null", **settings)  # type: ignore[arg-type]


def test_a_firmware_that_reports_nothing() -> None:
    with device(firmware(change=lambda frame: None if frame.type == 0x83 else frame)) as port:
        assert "reports no STATE" in refusal(port)
