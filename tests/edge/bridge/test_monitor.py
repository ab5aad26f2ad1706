"""Telemetry as it comes from the compiled firmware, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from firmware_bridge.controller import BridgeError
from firmware_bridge.host_firmware import HostFirmware
from tests.edge.bridge.conftest import Command

COMMAND = """
import argparse, sys
from edge.bridge.cli import register
parser = argparse.ArgumentParser()
register(parser.add_subparsers())
args = parser.parse_args(["bridge", *sys.argv[1:]])
sys.exit(args.run(args))
"""


def test_lines_of_json_until_ctrl_c(arm: HostFirmware) -> None:
    words = [sys.executable, "-c", COMMAND, "monitor", arm.port, "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    assert first["state"] == "linked" and len(first["axes"]) == len(first["position"]) > 2
    assert second["measured_ns"] > first["measured_ns"]


def test_lines_in_words(firmware: HostFirmware, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("monitor", firmware.port, "--seconds", "0.15") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and set(lines) == {"linked  left +0.000 +0.000/s  right +0.000 +0.000/s"}


def test_no_port_is_one_sentence(command: Command) -> None:
    with pytest.raises(BridgeError, match="there is no serial port"):
        command("monitor", "/dev/there-is-none")
