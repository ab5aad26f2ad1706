"""Finding, sharing and speeding up ports: what the system says, and what a person is told."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import serial
from serial.tools import list_ports

from firmware_bridge import low_latency, usb_ports
from firmware_bridge.controller import BridgeError
from firmware_bridge.host_firmware import HostFirmware
from firmware_bridge.port_holders import holders
from firmware_bridge.serial_controller import SerialController
from firmware_bridge.serial_port import open_port
from tests.firmware_bridge.conftest import Starter


@dataclass(frozen=True)
class Listed:
    """What pyserial lists."""

    device: str
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    description: str | None = None


PORTS = [
    Listed("/dev/ttyS0"),
    Listed("/dev/ttyACM1", 0x2E8A, 0x000A, "E660A1", "Pico"),
    Listed("/dev/ttyACM0", 0x2E8A, 0x000A, "E660A2", "Pico"),
    Listed("/dev/ttyUSB0", 0x0403, 0x6001, None, "FT232R"),
    Listed("/dev/ttyUSB1", 0x1A86, 0x7523),
    Listed("/dev/ttyUSB2", 0x1A86, 0x7523),
]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: list(PORTS))


# -- by USB identity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("usb:2e8a:000a:E660A1", "/dev/ttyACM1"),
        ("USB:2E8A:000A:E660A2", "/dev/ttyACM0"),
        ("usb:0403:6001", "/dev/ttyUSB0"),
    ],
)
def test_a_port_by_its_usb_identity(plugged: None, name: str, device: str) -> None:
    assert usb_ports.device_of(name) == device


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("usb:2e8a:000a", "2 serial ports are usb:2e8a:000a: name one of usb:2e8a:000a:E660A2, usb:2e8a:000a:E660A1"),
        ("usb:1a86:7523", "2 serial ports are usb:1a86:7523: name one of /dev/ttyUSB1, /dev/ttyUSB2"),
        ("usb:2e8a:000a:other", "no serial port usb:2e8a:000a:other is plugged in"),
        ("usb:dead:beef", "usb:0403:6001"),
        ("usb:2e8a", "names no USB device"),
        ("usb:xyzw:0001", "names no USB device"),
    ],
)
def test_what_names_no_port_or_several(plugged: None, name: str, words: str) -> None:
    with pytest.raises(BridgeError) as caught:
        open_port(name, 115_200)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_name_that_is_shown_finds_its_port(plugged: None) -> None:
    for port in usb_ports.plugged_in():
        if port.serial or port.vid == 0x0403:
            assert usb_ports.device_of(port.name) == port.device


@pytest.mark.parametrize(
    ("port", "name"),
    [
        ("/dev/ttyACM1", "usb:2e8a:000a:E660A1"),
        ("usb:2e8a:000a:E660A2", "usb:2e8a:000a:E660A2"),
        ("/dev/ttyUSB1", "usb:1a86:7523"),
        ("/dev/ttyS0", "/dev/ttyS0"),
        ("socket://arm:4000", "socket://arm:4000"),
    ],
)
def test_what_is_known_of_who_is_behind_a_port(plugged: None, port: str, name: str) -> None:
    assert usb_ports.name_behind(port) == name


# -- who has it ----------------------------------------------------------------------------------------------------


def test_a_busy_port_names_the_process(start: Starter, tmp_path: Path, kind: str) -> None:
    start()
    port = str(tmp_path / "port")
    holds = "import serial, sys; s = serial.Serial(sys.argv[1], exclusive=True); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "open\n"
        assert any(f"(process {other.pid})" in each for each in holders(port))
        with pytest.raises(BridgeError, match=rf"in use by .*\(process {other.pid}\).*: end it"):
            SerialController(port).connect()
        other.stdin.close()
    assert not any(f"(process {other.pid})" in each for each in holders(port))


def test_processes_that_cannot_be_looked_at_are_nobody(tmp_path: Path) -> None:
    assert holders("/dev/null", tmp_path / "none") == []
    for name, target in (("12", "/dev/ttyX"), ("34", "/dev/null"), ("self", "/dev/ttyX"), (str(os.getpid()), "/dev/ttyX")):
        (tmp_path / name / "fd").mkdir(parents=True)
        (tmp_path / name / "fd" / "3").symlink_to(target)
        (tmp_path / name / "comm").write_text("minicom\n")
    (tmp_path / "56").mkdir()
    assert sorted(holders("/dev/ttyX", tmp_path)) == ["minicom (process 12)", "this program"]


# -- latency -------------------------------------------------------------------------------------------------------


def adapter(sysfs: Path, waits_ms: str) -> Path:
    timer = sysfs / "bus/usb-serial/devices/ttyUSB0/latency_timer"
    timer.parent.mkdir(parents=True)
    timer.write_text(waits_ms)
    return timer


class DeafPort:
    """Not a UART: pyserial raises ValueError."""

    def set_low_latency_mode(self, on: bool) -> None:
        raise ValueError("no")


@pytest.mark.parametrize(("before", "after"), [("16\n", "1"), ("1\n", "1\n"), ("?", "?")])
def test_the_latency_timer_is_set_where_that_is_permitted(tmp_path: Path, before: str, after: str) -> None:
    timer = adapter(tmp_path, before)
    low_latency.make_fast(DeafPort(), "/dev/ttyUSB0", tmp_path)
    assert timer.read_text() == after
    low_latency.make_fast(DeafPort(), "/dev/ttyACM0", tmp_path)


def test_what_is_not_permitted_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    timer = adapter(tmp_path, "16\n")

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    low_latency.make_fast(DeafPort(), "/dev/ttyUSB0", tmp_path)
    assert f"up to 16 ms: run 'echo 1 | sudo tee {timer}'" in caplog.text


# -- pyserial's URLs -----------------------------------------------------------------------------------------------


@pytest.fixture
def kind() -> str:
    return "c"


@pytest.fixture
def over_tcp(start: Starter) -> Iterator[str]:
    """A firmware behind a TCP socket; yields its host and port."""
    firmware = start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_relay, args=(server, firmware), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
    thread.join()


def _relay(server: socket.socket, firmware: HostFirmware) -> None:
    connection, _ = server.accept()
    with open_port_raw(firmware.port) as line, connection:
        over = threading.Event()
        back = threading.Thread(target=_copy_back, args=(line, connection, over), daemon=True)
        back.start()
        while data := connection.recv(4096):
            line.write(data)
        over.set()
        back.join()


def _copy_back(line: serial.Serial, connection: socket.socket, over: threading.Event) -> None:
    with contextlib.suppress(OSError):  # the far end may have closed already
        while not over.is_set():
            if data := line.read(max(1, line.in_waiting)):
                connection.sendall(data)


def open_port_raw(path: str) -> serial.Serial:
    return serial.Serial(path, timeout=0.01)


@pytest.mark.parametrize("scheme", ["socket"])
def test_a_firmware_behind_a_url(over_tcp: str, scheme: str) -> None:
    controller = SerialController(f"{scheme}://{over_tcp}", lease_s=0.5)
    controller.connect()
    assert controller.telemetry().firmware == "latentloop-host 0.1 (C)"
    controller.close()
