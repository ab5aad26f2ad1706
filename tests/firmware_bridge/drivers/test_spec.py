"""One line of text that describes a controller, and what a person reads when it is wrong."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.controller import AxisMode, BridgeError
from firmware_bridge.drivers.registry import DRIVERS, keys_of, make_controller
from firmware_bridge.drivers.simulated.__main__ import DEVICES
from firmware_bridge.drivers.simulated.line import Line
from firmware_bridge.drivers.spec import parse
from firmware_bridge.serial_controller import SerialController
from tests.conftest import ROOT, unmet


@pytest.mark.parametrize(
    ("text", "kind", "port", "options"),
    [
        ("/dev/ttyACM0", "", "/dev/ttyACM0", {}),
        ("COM3", "", "COM3", {}),
        ("socket://board:7000", "", "socket://board:7000", {}),
        ("socket://board:7000?logging=debug", "", "socket://board:7000?logging=debug", {}),
        ("latentloop:/dev/ttyUSB0", "latentloop", "/dev/ttyUSB0", {}),
        ("feetech:/dev/ttyACM0?ids=1,2&baud=500000", "feetech", "/dev/ttyACM0", {"ids": "1,2", "baud": "500000"}),
        ("feetech:socket://host:1?ids=1", "feetech", "socket://host:1", {"ids": "1"}),
    ],
)
def test_parts(text: str, kind: str, port: str, options: dict[str, str]) -> None:
    spec = parse(text)
    assert (spec.kind, spec.port, spec.options) == (kind, port, options)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no port"),
        ("feetech:", "names no port: write it as feetech:/dev/ttyACM0"),
        ("fetech:/dev/ttyACM0", "did you mean 'feetech'"),
        ("stepper9:/dev/ttyACM0", "there are latentloop, feetech"),
        ("feetech:/dev/ttyACM0", "needs the key 'ids'"),
        ("feetech:/dev/ttyACM0?ids", "write it as key=value"),
        ("feetech:/dev/ttyACM0?ids=1&ids=2", "twice"),
        ("feetech:/dev/ttyACM0?id=1,2", "did you mean 'ids'"),
        ("feetech:/dev/ttyACM0?ids=1,1", "ids=1,1: it must be different whole numbers"),
        ("feetech:/dev/ttyACM0?ids=1,300", "from 0 to 253"),
        ("feetech:/dev/ttyACM0?ids=1,2&baud=fast", "baud=fast: it must be a whole number"),
        ("feetech:/dev/ttyACM0?ids=1,2&speed=1,2,3", "or 2 of them with commas between"),
        ("feetech:/dev/ttyACM0?ids=1,2&speed=nan", "speed=nan: it must be a number"),
        ("feetech:/dev/ttyACM0?ids=1,2&signs=0", "1 or -1"),
        ("feetech:/dev/ttyACM0?ids=1,2&mode=arm", "position or wheel"),
        ("feetech:/dev/ttyACM0?ids=1,2&low=1&high=-1", "correct one of them"),
        ("feetech:/dev/ttyACM0?ids=1,2,3", "drives 3 axes and the robot has 2 (left, right)"),
        ("latentloop:/dev/ttyACM0?lease_ms=1", "from 50 to 500"),
        ("latentloop:/dev/ttyACM0?ids=1", "the keys of latentloop are baud, lease_ms"),
    ],
)
def test_what_is_wrong_is_said_with_key_and_choices(text: str, says: str) -> None:
    with pytest.raises(BridgeError) as refusal:
        make_controller(text, ("left", "right"))
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


@given(st.text(max_size=80))
def test_no_text_does_worse_than_a_refusal(text: str) -> None:
    try:
        make_controller(text, ("left", "right"))
    except BridgeError as refusal:
        assert str(refusal)


def test_the_firmware_of_latentloop_is_what_a_bare_port_means() -> None:
    for text in ("/dev/ttyACM0", "latentloop:/dev/ttyACM0?baud=115200"):
        assert isinstance(make_controller(text, ("left", "right")), SerialController)


def test_every_driver_has_keys_and_numbers_its_axes_by_itself() -> None:
    assert all(keys_of(kind) for kind in DRIVERS)
    assert make_controller("feetech:/dev/null?ids=4,7").axes == ("axis1", "axis2")
    assert parse("feetech:/dev/null?command=velocity").asked() is AxisMode.VELOCITY


def test_every_kind_has_a_simulated_device_and_a_line_in_the_docs() -> None:
    docs = (ROOT / "docs" / "drivers.md").read_text()
    assert set(DEVICES) == set(DRIVERS)
    for kind, (device, query) in DEVICES.items():
        for package in [each for of, each in (("mavlink", "pymavlink"), ("odrive-can", "can")) if of == kind]:
            if find_spec(package) is None:
                unmet(f"the package {package} is not installed")
        with Line(device()) as line:
            controller = make_controller(f"{kind}:{line.port}?{query}", ("left", "right"))
            controller.connect()
            units = ("m/s", "rad/s") if kind == "mavlink" else ("rad/s", "rad/s")
            assert [(axis.name, axis.unit) for axis in controller.describe()] == list(zip(controller.axes, units, strict=True))
            controller.close()
        assert f"| `{kind}` |" in docs
        assert [key for key in keys_of(kind) if f"`{key}" not in docs] == []
