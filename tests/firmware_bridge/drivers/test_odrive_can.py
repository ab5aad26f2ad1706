"""The watchdog of an ODrive on CAN is proved, not believed; and what else its driver does that others do not."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from firmware_bridge.controller import AxisMode, BridgeError, FirmwareState, MotorController
from firmware_bridge.drivers.can_line import CanLine
from firmware_bridge.drivers.cansimple import Frame
from firmware_bridge.drivers.odrive_can import ENABLE, TIMEOUT, OdriveCan
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.drivers.simulated import odrive_can as simulated
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.spec import parse
from tests.conftest import unmet
from tests.firmware_bridge.drivers.conftest import Driving, leaves, reaches, stand, turns
from tests.firmware_bridge.processes import until

ODrive = simulated.OdriveCan


@pytest.fixture(autouse=True)
def package() -> None:
    if find_spec("can") is None:
        unmet("the package can is not installed")


@pytest.fixture
def connect() -> Iterator[Callable[..., MotorController]]:
    made: list[MotorController] = []

    def connected(line: Line, query: str = "nodes=1,2&watchdog_ms=400") -> MotorController:
        made.append(make_controller(f"odrive-can:{line.port}?{query}"))
        made[-1].connect()
        return made[-1]

    yield connected
    for controller in made:
        controller.close()


@pytest.mark.parametrize("firmware", [(0, 5, 6), (0, 6, 10)])
def test_both_firmwares_are_driven(firmware: tuple[int, int, int], connect: Callable[..., MotorController]) -> None:
    with Line(ODrive(firmware)) as line:
        controller = connect(line)
        assert controller.telemetry().firmware.startswith("ODrive 0.6.10" if firmware[1] == 6 else "ODrive 0.5")
        turns(controller, 150)  # longer than the watchdogs, which must be fed at rest, too
        assert controller.telemetry().faults == () and controller.telemetry().state is FirmwareState.LINKED
        loop = Driving(controller, (3.0, -2.0))
        controller.arm(5.0)
        until(lambda: all(motor.travelled > 0.1 for motor in line.device.motors), "motion")
        loop.stop()


@pytest.mark.parametrize("firmware", [(0, 5, 6), (0, 6, 10)])
@pytest.mark.parametrize("watchdog_s", [0.0, 1.5])
def test_a_watchdog_that_does_not_show_itself_in_time_is_refused(firmware: tuple[int, int, int], watchdog_s: float) -> None:
    with Line(ODrive(firmware, watchdog_s)) as line, pytest.raises(BridgeError, match="watchdog of ODrive 1, 2") as refusal:
        make_controller(f"odrive-can:{line.port}?nodes=1,2").connect()
    assert "\n" not in str(refusal.value) and "watchdog_timeout" in str(refusal.value)


def _endpoints(path: Path, version: str = "0.6.10-1", **changed: object) -> Path:
    listed: dict[str, object] = {
        TIMEOUT: {"id": simulated.TIMEOUT, "type": "float"},
        ENABLE: {"id": simulated.ENABLE, "type": "bool"},
    }
    path.write_text(json.dumps({"fw_version": version, "endpoints": listed | changed}))
    return path


def test_with_the_list_of_endpoints_it_is_switched_on(tmp_path: Path, connect: Callable[..., MotorController]) -> None:
    path = _endpoints(tmp_path / "flat_endpoints.json")
    with Line(ODrive(watchdog_s=0.0)) as line:
        connect(line, f"nodes=1,2&watchdog_ms=400&endpoints={path}").close()
        until(lambda: all(axis.error for axis in line.device._axes), "watchdogs that run out, with nobody there")
        assert [(axis.watched, round(axis.timeout_s, 3)) for axis in line.device._axes] == [(True, 0.4)] * 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: _endpoints(path, "0.6.9"), "is for firmware 0.6.9 and ODrive 1 has 0.6.10"),
        (lambda path: path, "no list of ODrive's endpoints"),
        (lambda path: _endpoints(path, "0.6.10", **{ENABLE: {"id": 99, "type": "bool"}}), "does not take its watchdog"),
    ],
)
def test_a_wrong_list_of_endpoints_is_refused(make: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    path = make(tmp_path / "flat_endpoints.json")
    with Line(ODrive(watchdog_s=0.0)) as line, pytest.raises(BridgeError, match=re.escape(says)) as refusal:
        make_controller(f"odrive-can:{line.port}?nodes=1,2&endpoints={path}").connect()
    assert "\n" not in str(refusal.value)


def test_endpoints_are_not_asked_of_an_old_firmware(tmp_path: Path) -> None:
    path = _endpoints(tmp_path / "flat_endpoints.json")
    with Line(ODrive((0, 5, 6))) as line, pytest.raises(BridgeError, match=r"before 0\.6"):
        make_controller(f"odrive-can:{line.port}?nodes=1,2&endpoints={path}").connect()


def test_after_a_restart_at_rest_the_watchdog_must_show_itself_again(connect: Callable[..., MotorController]) -> None:
    with Line(ODrive()) as line:
        controller = connect(line)
        second = line.device._axes[1]
        second.gone = True  # for the time that a restart takes
        reaches(controller, FirmwareState.FAULT)
        second.watched, second.gone = False, False  # it was on, but not saved
        until(lambda: not controller.telemetry().faults[1:], "an axis that is back")
        with pytest.raises(BridgeError, match="watchdog of ODrive 2 on"):
            controller.clear_estop()
        assert controller.telemetry().state is FirmwareState.FAULT
        second.watched = True
        controller.clear_estop()
        assert controller.telemetry().state is FirmwareState.LINKED


def test_a_stop_while_clearing_stays(connect: Callable[..., MotorController]) -> None:
    with Line(ODrive()) as line:
        line.device._fail(line.device._axes[0], 0x100)
        controller = connect(line)
        reaches(controller, FirmwareState.FAULT)
        for axis in line.device._axes:
            axis.timeout_s = 0.35  # clearing waits for the watchdogs at least so long
        refused: list[str] = []

        def clear() -> None:
            try:
                controller.clear_estop()
            except BridgeError as refusal:
                refused.append(str(refusal))

        clearing = threading.Thread(target=clear)
        clearing.start()
        until(lambda: not line.device._axes[0].error, "clearing has begun")
        controller.estop()
        clearing.join()
        assert refused and controller.telemetry().state is FirmwareState.ESTOP
        stand(line)
        controller.clear_estop()
        assert controller.telemetry().state is FirmwareState.LINKED


@pytest.mark.parametrize("listed", [False, True])
def test_errors_of_before_wait_for_a_person(listed: bool, tmp_path: Path, connect: Callable[..., MotorController]) -> None:
    more = f"&endpoints={_endpoints(tmp_path / 'flat_endpoints.json')}" if listed else ""
    with Line(ODrive()) as line:
        line.device._fail(line.device._axes[0], 0x100)
        controller = connect(line, f"nodes=1,2&watchdog_ms=400{more}")
        assert reaches(controller, FirmwareState.FAULT).faults == ("ODrive 1: over-voltage",)
        controller.clear_estop()
        assert controller.telemetry().state is FirmwareState.LINKED and controller.telemetry().faults == ()
        loop = Driving(controller, (1.0, 1.0))
        controller.arm(5.0)  # so the watchdogs have shown themselves meanwhile
        loop.stop()


def test_nothing_is_switched_on_before_the_watchdog_has_shown_itself() -> None:
    with Line(ODrive()) as line:
        line.device._fail(line.device._axes[0], 0x100)
        device = OdriveCan(parse(f"odrive-can:{line.port}?nodes=1,2"), ())
        device.open(1.0)
        for axis in line.device._axes:
            axis.error = 0  # somebody else has cleared them
        until(lambda: device.read().faults == (), "no fault")
        with pytest.raises(BridgeError, match="watchdog of ODrive 1, 2 is not known to be on"):
            device.enable(device.read())
        assert not any(motor.energised for motor in line.device.motors)
        device.close()


def test_an_axis_that_is_not_calibrated_is_refused_by_number(connect: Callable[..., MotorController]) -> None:
    with Line(ODrive()) as line:
        line.device.calibrated = False
        controller = connect(line)
        loop = Driving(controller, (1.0, 1.0))
        with pytest.raises(BridgeError, match=r"closed loop \(1: no error; 2: no error\): calibrate"):
            controller.arm(5.0)
        loop.stop()
        assert controller.telemetry().state is FirmwareState.LINKED


def test_position_axes_keep_their_range_and_take_velocities(connect: Callable[..., MotorController]) -> None:
    query = "nodes=1,2&watchdog_ms=400&mode=position&command=velocity&low=-1&high=1,0.5&zero=0,0.25&gear=1,2&acceleration=20"
    with Line(ODrive()) as line:
        controller = connect(line, query)
        assert [axis.mode for axis in controller.describe()] == [AxisMode.VELOCITY] * 2
        at = controller.telemetry().position
        assert at == pytest.approx((0.0, -0.25 * simulated.TURN / 2), abs=1e-3)
        loop = Driving(controller, (2.0, 2.0))
        controller.arm(5.0)
        until(lambda: controller.telemetry().position == pytest.approx((1.0, 0.5), abs=0.01), "the ends of the ranges")
        first, second = line.device.motors
        assert first.position == pytest.approx(1.0, abs=0.01)
        assert second.position == pytest.approx(0.25 * simulated.TURN + 2 * 0.5, abs=0.02)
        loop.stop()
        reaches(controller, FirmwareState.SAFE)
        stand(line)


def test_frames_of_others_on_the_bus_are_nobodys_business(connect: Callable[..., MotorController]) -> None:
    others = (b"t06180000000008000000\r", b"T000000018FFFFFFFFFFFFFFFF\r", b"t021 \r", b"t0418FFFF\r", b"\x07")
    with Line(ODrive()) as line:
        line.noise = lambda: b"".join(others)
        controller = connect(line)
        loop = Driving(controller, (3.0, -2.0))
        controller.arm(5.0)
        until(lambda: all(motor.travelled > 0.5 for motor in line.device.motors), "motion beside foreign frames")
        assert controller.telemetry().state is FirmwareState.ACTIVE
        assert controller.telemetry().counts.crc_errors > 0
        line.noise = bytes
        line.spoil = lambda _: b""
        assert leaves(controller, FirmwareState.ACTIVE) is not FirmwareState.ACTIVE
        loop.stop()


def test_a_channel_that_is_not_there_is_refused_in_one_line() -> None:
    with pytest.raises(BridgeError, match="CAN channel can77 cannot be opened") as refusal:
        make_controller("odrive-can:can77?nodes=1").connect()
    assert "\n" not in str(refusal.value) and "ip link set can77 up" in str(refusal.value)


def test_an_adapter_is_kept_to_oneself() -> None:
    with Line(ODrive()) as line:
        first = CanLine(line.port, 250_000, 115_200, (1,), threading.Event())
        try:
            with pytest.raises(BridgeError, match="in use"):
                CanLine(line.port, 250_000, 115_200, (1,), threading.Event())
        finally:
            first.close()


def test_lines_of_an_adapter_that_make_no_sense_are_counted_and_passed_over() -> None:
    with Line(ODrive()) as line:
        can = CanLine(line.port, 250_000, 115_200, (1, 2), threading.Event())
        try:
            can.heard(0.02)
            line.noise = lambda: b"\xff\xfe\rt0Z18\rt0218AB\r"
            frames: list[Frame] = []
            until(lambda: frames.extend(can.heard(0.02)) or can.garbage > 20, "garbage")
            line.noise = bytes
            until(lambda: {frame.node for frame in can.heard(0.02)} == {1, 2}, "frames after garbage")
            assert all(len(frame.data) == 8 for frame in frames)
        finally:
            can.close()


def test_a_bus_without_a_file_descriptor_is_heard_and_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """python-can's own bus inside of a process, in the place of a channel of the kernel, which not every machine has."""
    import can

    monkeypatch.setattr(CanLine, "_channel", lambda self, port: can.Bus(interface="virtual", channel=port))
    line = CanLine("can0", 250_000, 115_200, (1,), threading.Event())
    with can.Bus(interface="virtual", channel="can0") as peer:
        for identifier in (0x021, 0x041, 0x029):  # the second is of another node
            peer.send(can.Message(arbitration_id=identifier, data=bytes(8), is_extended_id=False))
        assert [frame.id for frame in line.heard(0.05)] == [0x021, 0x029]
        line.write(Frame(0x02D, b"\1\2\3\4"))
        line.write(Frame(0x029, remote=True))
        spoken = [peer.recv(1.0), peer.recv(1.0)]
        assert all(message is not None and not message.is_extended_id for message in spoken)
        assert [(m.arbitration_id, bytes(m.data), m.is_remote_frame) for m in spoken if m] == [
            (0x02D, b"\1\2\3\4", False),
            (0x029, b"", True),
        ]
    line.close()
