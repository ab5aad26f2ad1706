"""A copter must not fall, and its pilot has the last word: what its driver may send, and when it must be silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

from firmware_bridge.controller import BridgeError, FirmwareState, MotorController
from firmware_bridge.drivers import mavlink_copter
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.simulated.copter import Copter, Px4Copter
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.simulated.mavlink import Rover
from tests.conftest import unmet
from tests.firmware_bridge.drivers.conftest import Driving, reaches, stand, turns
from tests.firmware_bridge.processes import until

ARM_DISARM, SET_MODE, ONLY_TELLING = 400, 176, (511, 512)
BRAKE, LAND = 17, 9
TARGETS = (0.8, -0.5, 0.2, -0.4)
Fly = Callable[..., tuple[MotorController, Driving]]


@pytest.fixture(autouse=True)
def package() -> None:
    if find_spec("pymavlink") is None:
        unmet("the package pymavlink is not installed")


@pytest.fixture(params=["copter", "px4"])
def vehicle(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def line(vehicle: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(mavlink_copter, "FLOWING_S", 0.1)  # to save time; one test below waits for the whole second
    with Line(Px4Copter(flowing_s=0.1) if vehicle == "px4" else Copter()) as line:
        yield line


@pytest.fixture
def fly(vehicle: str, line: Line) -> Iterator[Fly]:
    """Connects, takes over and flies; the control loop goes on until the end."""
    ends: list[Callable[[], None]] = []

    def flying(query: str = "", hand_over: bool = True) -> tuple[MotorController, Driving]:
        controller = make_controller(f"mavlink:{line.port}?vehicle={vehicle}&acceleration=10{query}")
        ends.append(controller.close)
        controller.connect()
        loop = Driving(controller, TARGETS)
        ends.append(loop.stop)
        if hand_over:
            controller.arm(5.0)
            until(lambda: all(motor.travelled > 0.05 for motor in line.device.motors), "flight along every axis")
        return controller, loop

    yield flying
    for end in reversed(ends):
        end()


def commanding(line: Line) -> list[tuple[int, float, float, float]]:
    """What was ordered that changes how the copter flies."""
    return [order for order in line.device.orders if order[0] not in ONLY_TELLING]


def test_connecting_and_closing_order_nothing(line: Line, fly: Fly) -> None:
    controller, _ = fly(hand_over=False)
    turns(controller, 40)
    controller.close()
    assert commanding(line) == [] and line.device.mode == line.device.LOITER


def test_a_flight_knows_no_arming_and_no_disarming(vehicle: str, line: Line, fly: Fly) -> None:
    controller, _ = fly()
    until(lambda: controller.telemetry().velocity == pytest.approx(TARGETS, abs=0.02), "the velocities asked for")
    controller.disarm()
    reaches(controller, FirmwareState.LINKED)
    stand(line)
    ours, hold = ((1.0, 6.0, 0.0), (1.0, 4.0, 3.0)) if vehicle == "px4" else ((1.0, 4.0, 0.0), (1.0, BRAKE, 0.0))
    assert commanding(line) == [(SET_MODE, *ours), (SET_MODE, *hold)]
    assert line.device.armed and line.device.in_air and not line.device.fallen


@pytest.mark.parametrize("how", ["on the ground", "not armed"])
def test_a_copter_that_does_not_fly_is_not_taken_over(how: str, line: Line, fly: Fly) -> None:
    line.device.in_air, line.device.armed = how != "on the ground", how != "not armed"
    controller, _ = fly(hand_over=False)
    with pytest.raises(BridgeError, match="its pilot arms it, takes off and holds it in the air"):
        controller.arm(5.0)
    assert commanding(line) == [] and controller.telemetry().state is FirmwareState.LINKED


def test_a_lost_acknowledgement_is_no_flight_without_a_driver(vehicle: str, line: Line, fly: Fly) -> None:
    controller, _ = fly(hand_over=False)
    lost = line.device._messages.MAVLINK_MSG_ID_COMMAND_ACK
    line.spoil = lambda data: b"" if int.from_bytes(data[7:10], "little") == lost else data
    with pytest.raises(BridgeError, match="was not acknowledged"):
        controller.arm(5.0)
    until(lambda: line.device.mode == (4 << 16 | 3 << 24 if vehicle == "px4" else BRAKE), "the copter is given back")
    assert controller.telemetry().state is FirmwareState.LINKED
    assert all(motor.travelled == 0.0 for motor in line.device.motors)


def test_when_the_pilot_takes_over_the_driver_lets_go(line: Line, fly: Fly) -> None:
    controller, _ = fly()
    before = len(commanding(line))
    line.device.mode = line.device.LOITER
    faults = reaches(controller, FirmwareState.FAULT).faults
    assert len(faults) == 1 and "has taken over" in faults[0]
    turns(controller, 30)
    assert len(commanding(line)) == before and line.device.mode == line.device.LOITER
    controller.clear_estop()
    controller.arm(5.0)  # the pilot, or somebody beside him, hands over again
    until(lambda: line.device.mode == line.device.GUIDED, "the mode")


def test_a_failsafe_of_the_autopilot_is_left_alone(line: Line, fly: Fly) -> None:
    controller, _ = fly()
    before = len(commanding(line))
    line.device.supply_v = 9.0
    assert any("emergency" in fault for fault in reaches(controller, FirmwareState.FAULT).faults)
    turns(controller, 20)
    assert len(commanding(line)) == before and line.device.mode == line.device.LAND


@pytest.mark.parametrize("how", ["disarmed", "landed"])
def test_the_end_of_a_flight_is_a_fault(how: str, line: Line, fly: Fly) -> None:
    controller, _ = fly()
    line.device.armed, line.device.in_air = how != "disarmed", how != "landed"
    said = {"disarmed": "the copter was disarmed", "landed": "the copter is on the ground"}[how]
    assert said in reaches(controller, FirmwareState.FAULT).faults


@pytest.mark.parametrize("way", ["brake", "land"])
def test_an_emergency_stop_does_not_let_it_fall_and_leaves_the_pilot_his_switch(way: str, line: Line, fly: Fly) -> None:
    controller, _ = fly("" if way == "brake" else "&estop=land")
    controller.estop()
    until(lambda: line.device.mode != line.device.GUIDED, "another mode")
    assert (line.device.mode == line.device.LAND) is (way == "land")
    assert line.device.armed and not line.device.fallen
    turns(controller, 60)  # the acknowledgement is heard
    line.device.mode = line.device.LOITER
    before = len(commanding(line))
    turns(controller, 30)
    assert controller.telemetry().state is FirmwareState.ESTOP
    assert line.device.mode == line.device.LOITER and len(commanding(line)) == before


def test_an_emergency_stop_is_not_repeated_until_a_slow_heartbeat_comes() -> None:
    with Line(Copter(beat_s=1.0)) as line:
        controller = make_controller(f"mavlink:{line.port}?vehicle=copter&acceleration=10")
        controller.connect()
        loop = Driving(controller, TARGETS)
        controller.arm(5.0)
        controller.estop()
        until(lambda: line.device.mode == BRAKE, "the brakes")
        turns(controller, 40)
        line.device.mode = line.device.LOITER  # long before the next heartbeat would tell
        before = len(commanding(line))
        turns(controller, 30)
        assert line.device.mode == line.device.LOITER and len(commanding(line)) == before
        loop.stop()
        controller.close()


def test_an_emergency_stop_is_nothing_to_a_pilot_who_flies_by_himself(line: Line, fly: Fly) -> None:
    controller, _ = fly(hand_over=False)
    controller.estop()
    turns(controller, 20)
    assert commanding(line) == [] and line.device.mode == line.device.LOITER


def test_only_the_key_that_says_so_lets_it_fall(line: Line, fly: Fly) -> None:
    controller, _ = fly("&estop=kill")
    controller.estop()
    until(lambda: line.device.fallen, "motors that are off")
    assert (ARM_DISARM, 0.0, 21196.0) in [order[:3] for order in line.device.orders]


def test_a_link_that_was_lost_in_flight_comes_back_holding(line: Line, fly: Fly) -> None:
    controller, loop = fly()
    line.spoil = lambda _: b""
    reaches(controller, FirmwareState.OFFLINE)
    line.spoil = bytes
    reaches(controller, FirmwareState.LINKED)
    until(lambda: line.device.mode != line.device.GUIDED, "the copter is given back")
    stand(line)
    assert line.device.armed and not line.device.fallen and loop.sending


@pytest.mark.parametrize(
    ("vehicle", "name", "value"),
    [
        ("copter", "FS_GCS_ENABLE", 0.0),
        ("copter", "FS_GCS_TIMEOUT", 120.0),
        ("copter", "GUID_TIMEOUT", 5.0),
        ("copter", "FS_THR_ENABLE", 0.0),
        ("copter", "FS_OPTIONS", 20.0),
        ("px4", "COM_OF_LOSS_T", 60.0),
        ("px4", "COM_OF_LOSS_T", 0.0),
        ("px4", "COM_OBL_RC_ACT", 1),
        ("px4", "COM_OBL_RC_ACT", 7),
        ("px4", "COM_OBL_RC_ACT", -1),
        ("px4", "NAV_RCL_ACT", 0),
        ("px4", "COM_RCL_EXCEPT", 4),
    ],
)
def test_a_failsafe_that_is_off_is_refused(name: str, value: float, vehicle: str, line: Line, fly: Fly) -> None:
    line.device.parameters[name] = value
    with pytest.raises(BridgeError, match=f"{name} is {value:g}") as refusal:
        fly(hand_over=False)
    assert "\n" not in str(refusal.value) and commanding(line) == []


def test_px4_hears_setpoints_before_it_is_asked_for_offboard() -> None:
    with Line(Px4Copter()) as line:
        controller = make_controller(f"mavlink:{line.port}?vehicle=px4")
        controller.connect()
        assert line.device._flowing_s >= 1.0
        until(lambda: line.device._flowing_s > 2.2, "setpoints at rest, too")
        assert line.device.mode == line.device.LOITER
        controller.close()


def test_a_driver_that_dies_leaves_px4_to_its_own_failsafe() -> None:
    with Line(Px4Copter()) as line:
        controller = make_controller(f"mavlink:{line.port}?vehicle=px4")
        controller.connect()
        loop = Driving(controller, TARGETS)
        controller.arm(5.0)
        until(lambda: line.device.mode == line.device.GUIDED, "OFFBOARD")
        line.unplug()
        until(lambda: line.device.mode == line.device.LOITER, "Position mode")
        loop.stop()
        controller.close()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("vehicle=copter", "is no ArduPilot copter (autopilot 3, type 10)"),
        ("vehicle=px4", "is no PX4 copter"),
        ("vehicle=plane", "must be rover or copter or px4"),
        ("estop=kill", "has the key 'estop', which is for copters"),
        ("vehicle=copter&speed=1,2", "or 4 of them with commas between"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(query: str, says: str) -> None:
    with Line(Rover()) as line, pytest.raises(BridgeError) as refusal:
        make_controller(f"mavlink:{line.port}?{query}").connect()
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_heartbeat_of_a_gimbal_on_board_is_not_taken_for_the_copters(line: Line, fly: Fly) -> None:
    mouth = line.device._messages.MAVLink(None, srcSystem=1, srcComponent=154)
    line.noise = lambda: bytes(mouth.heartbeat_encode(26, 8, 0, 0, 4).pack(mouth)) if time.monotonic() % 0.1 < 0.02 else b""
    controller, _ = fly()
    turns(controller, 40)
    assert controller.telemetry().state is FirmwareState.ACTIVE and controller.telemetry().faults == ()


def test_the_bytes_of_a_velocity() -> None:
    """Forward 0.5 m/s and 0.2 rad/s in the body's frame, to 1/1, in the order in which MAVLink puts the fields."""
    with Line(Copter()) as line:
        controller = make_controller(f"mavlink:{line.port}?vehicle=copter&acceleration=50")
        controller.connect()
        loop = Driving(controller, (0.5, 0.0, 0.0, 0.2))
        controller.arm(5.0)
        whole = bytes(16) + bytes.fromhex("0000003F") + bytes(24) + bytes.fromhex("CDCC4C3EC705010108")
        until(lambda: whole in bytes(line.heard), "the payload of the velocity")
        loop.stop()
        controller.close()
