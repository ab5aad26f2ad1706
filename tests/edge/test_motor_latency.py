"""Which picture a motor acted on, and how old it was then."""

from __future__ import annotations

import numpy as np

from edge.messages import Command
from edge.motor_latency import ON_THE_WAY, MotorLatency
from firmware_bridge.controller import Applied, FirmwareState, Telemetry


def command(valid_until_ns: int, captured_ns: int) -> Command:
    return Command((0.0,), np.zeros(1, dtype=np.float32), valid_until_ns, captured_ns)


def heard(valid_until_ns: int, applied_ns: int) -> Telemetry:
    return Telemetry(FirmwareState.ACTIVE, (), (), (), 1, applied=Applied(valid_until_ns, applied_ns - 5, applied_ns, 7))


def test_each_command_is_paired_with_its_picture_once() -> None:
    latency = MotorLatency()
    latency.sent(command(300, 40))
    latency.sent(command(400, 140))
    assert latency.news(None) is None
    assert latency.news(Telemetry(FirmwareState.ACTIVE, (), (), (), 1)) is None
    assert latency.news(heard(400, 190)) == 50
    assert latency.news(heard(400, 190)) is None
    assert latency.news(heard(300, 90)) == 50


def test_a_command_without_a_picture_or_long_gone_is_none() -> None:
    latency = MotorLatency()
    latency.sent(command(300, 0))
    assert latency.news(heard(300, 90)) is None
    for number in range(1, ON_THE_WAY + 2):
        latency.sent(command(1000 + number, 1))
    assert latency.news(heard(1001, 90)) is None
    assert latency.news(heard(1002, 90)) == 89
