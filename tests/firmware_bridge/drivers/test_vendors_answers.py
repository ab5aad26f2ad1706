"""What drivers make of answers that the vendors' own code has made or accepts."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing

import pytest

from firmware_bridge.controller import BridgeError, FirmwareState
from firmware_bridge.drivers import roboclaw, vesc_packets, waveshare
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.roboclaw import Roboclaw
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.motor import Motor
from firmware_bridge.drivers.simulated.vesc import VescPair
from firmware_bridge.drivers.simulated.waveshare import Waveshare
from firmware_bridge.drivers.spec import parse
from tests.firmware_bridge.drivers.conftest import Driving, reaches
from tests.firmware_bridge.processes import until

# By VESC's own comm/packet.c, util/crc.c and util/buffer.c (vedderb/bldc, commit b9d287b3) in the order of its comm/commands.c:
# 31.5 and 24.25 degrees, -7.25 A in the motor, -4321 erpm, 23.7 V, tachometer -600 of 1800, fault 2, id 23, kill switch.
VESC_VALUES = (
    "02 4A 04 01 3B 00 F2 FF FF FD 2B 00 00 00 96 00 00 00 00 FF FF FD 30 FF 83 FF FF EF 1F 00 ED 00 00 13 88 00 00 09 C4 "
    "00 01 D4 C0 00 00 EA 60 FF FF FD A8 00 00 07 08 02 05 5D 4A 80 17 01 36 01 3B 01 40 FF FF FE 0C FF FF F4 48 02 A9 9E 03"
)
# Basicmicro's own library for Arduino (commit 5e83dfe, compiled for the host) accepts each with the value named here. The
# time-out, for which it has no function, and the encoders are made like the others.
ROBOCLAW_ANSWERS = {
    "80 0F": "02 0B 26",  # a time-out of 0.2 s
    "80 12": "00 00 05 DC 01 91 A6",  # 1500, backwards
    "80 13": "00 00 07 D0 00 EF 2A",  # 2000, forwards
    "80 18": "00 7B F8 06",  # 12.3 V
    "80 31": "00 96 FF EC 87 5B",  # 1.5 A and -0.2 A
    "80 4E": "FF FF FF 06 00 00 03 E8 49 EB",  # -250 and 1000
    "80 5A": "00 00 10 40 CC 0B",  # 0x1040
}


def test_the_values_of_a_vesc() -> None:
    payload = vesc_packets.next_payload(bytearray.fromhex(VESC_VALUES))
    assert payload is not None
    found = vesc_packets.values_of(payload)
    assert found == vesc_packets.Values(23, 31.5, -7.25, -4321, 23.7, -600, 1800, 2, True)
    older = vesc_packets.values_of(payload[:59])
    assert older is not None and older.killed is False and older.id == 23


class Canned:
    """Answers what it knows, and FF to what changes something."""

    def __init__(self) -> None:
        self.motors: list[Motor] = []
        self.supply_v, self.wrong_id = 12.0, False
        self._answers = {bytes.fromhex(question): bytes.fromhex(answer) for question, answer in ROBOCLAW_ANSWERS.items()}

    def receive(self, data: bytes) -> list[bytes]:
        return [self._answers.get(data, b"\xff")]

    def advance(self, elapsed_s: float) -> list[bytes]:
        return []

    def reset(self) -> None: ...

    def remove(self, motor: int) -> None: ...


def test_the_answers_of_a_roboclaw() -> None:
    with Line(Canned()) as line:
        device = Roboclaw(parse(f"roboclaw:{line.port}?ticks=1000,500"), ("left", "right"))
        device.open(1.0)
        reading = device.read()
        device.close()
    turn = 2 * math.pi
    assert reading.position == pytest.approx((-0.25 * turn, 2 * turn))
    assert reading.velocity == pytest.approx((-1.5 * turn, 4 * turn))
    assert reading.current == (1.5, -0.2) and reading.health.supply_v == 12.3
    assert reading.faults == ("driver 1", "over-current of motor 1")


@pytest.mark.parametrize(
    ("data", "speed"),
    [
        ("00 00 05 DC 00", 1500),
        ("00 00 05 DC 01", -1500),
        ("FF FF FA 24 01", -1500),  # as a number with a sign, which the vendor's library for Python reads
        ("FF FF FA 24 00", -1500),
        ("00 00 00 00 01", 0),
    ],
)
def test_a_roboclaw_that_goes_backwards_says_so_in_one_of_two_ways(data: str, speed: int) -> None:
    assert roboclaw.speed_of(bytes.fromhex(data)) == speed


def test_feedback_as_waveshare_prints_it() -> None:
    # The comment in ugv_base_ros, ROS_Driver/json_cmd.h.
    text = (
        b'{"T":1001,"L":0,"R":0,"gx":0,"gy":0,"gz":0,"ax":0,"ay":0,"az":0,"mx":0,"my":0,"mz":0,"odl":0,"odr":0,"v":11.0}\r\n'
    )
    found = waveshare.next_feedback(bytearray(text))
    assert found is not None and (found["L"], found["R"], found["v"]) == (0, 0, 11.0)


@pytest.mark.parametrize("general", [False, True])
def test_both_firmwares_of_waveshare_tell_volts_and_way(general: bool, drive: Callable[..., Driving]) -> None:
    with Line(Waveshare(general)) as line, closing(make_controller(f"waveshare:{line.port}?speed=1")) as controller:
        controller.connect()
        assert controller.telemetry().health.supply_v == 12.0
        drive(controller, line, (0.8, -0.6))
        until(lambda: controller.telemetry().position[0] > 0.3 and controller.telemetry().position[1] < -0.2, "way")


def test_what_waveshares_board_would_not_heed_is_refused() -> None:
    for query in ("speed=2.5", "radius=0.04&speed=60"):
        with pytest.raises(BridgeError, match=r"heeds nothing beyond 2: set the key speed"):
            make_controller(f"waveshare:/dev/null?{query}")
    make_controller("waveshare:/dev/null?radius=0.04&speed=40")


def test_a_waveshare_product_without_speed_control_is_told_by_its_speeds() -> None:
    device = Waveshare(general=True, share=256.0)
    with Line(device) as line, closing(make_controller(f"waveshare:{line.port}?speed=1")) as controller:
        controller.connect()
        loop = Driving(controller, (0.8, -0.6))
        controller.arm(5.0)
        assert any("without speed control" in fault for fault in reaches(controller, FirmwareState.FAULT).faults)
        loop.stop()


def test_the_kill_switch_of_a_vesc_is_a_fault() -> None:
    with Line(VescPair()) as line, closing(make_controller(f"vesc:{line.port}?can=2")) as controller:
        controller.connect()
        assert controller.telemetry().faults == ()
        line.device.killed = True
        until(lambda: "VESC 1: kill switch" in controller.telemetry().faults, "the fault")
