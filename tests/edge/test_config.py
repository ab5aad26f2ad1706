"""A robot file with a mistake gets one line that names the place, and every limit holds from both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from edge.config import ConfigError, LimitsConfig, ParametersConfig, RobotConfig, beside_port, load_config, parse_config
from edge.errors import UserError
from firmware_bridge.board_settings import AXIS_NAMES, BOARD_NAMES

SMALLEST = """
name = "rover"
bundle = "rover"
[camera]
source = "0"
[bridge]
port = "/dev/ttyACM0"
"""

FULL = """
name = "kitchen rover"
bundle = "bundles/kitchen"
calibration = "calibrated"
[camera]
source = "rtsp://camera/stream"
max_age_ms = 150
intrinsics = "camera.toml"
[bridge]
port = "socket://127.0.0.1:7000"
baud = 115200
lease_ms = 200
own_process = false
[bridge.parameters]
over_current_ms = 40
encoder_ms = 150
under_voltage_mv = 10500
under_voltage_ms = 80
lease_cap_ms = 300
underrun_ms = 20
[safety]
speed = 0.5
slew = 10
stale_after_ms = 400.0
hold_limit_s = 5
hold_on_alarm = true
[planner]
budget_ms = 40
iterations = 4
colour = 0
spread = 0.4
inertia = 0
lateness = 1
seed = 7
[memory]
folder = "kept"
max_episodes = 100
max_megabytes = 64
belief_max_age_s = 0
[dashboard]
enabled = false
host = "0.0.0.0"
port = 0
[engine]
threads = 2
spinning = true
tensorrt = false
precision = "fp32"
runtime = "auto"
[goals]
source = "goals"
give_up_s = 20
dwell_ticks = 3
"""

LEFT = """
[axes.left.forward]
max_speed = 9
[axes.left.backward]
max_speed = 8
[axes.left]
"""

FEETECH = SMALLEST.replace("/dev/ttyACM0", "feetech:/dev/ttyACM0?ids=1")
VESC = SMALLEST.replace("/dev/ttyACM0", "vesc:/dev/ttyACM0")

MISTAKES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("not TOML", "name = x", ("not valid TOML", "line 1")),
    ("empty", "", ("the top level", "needs the key 'name'", "add it")),
    ("no port", SMALLEST.replace('port = "/dev/ttyACM0"', ""), ("[bridge]", "needs the key 'port'")),
    ("misspelt key", SMALLEST + "[safety]\nspede = 0.1", ("[safety]", "unknown key 'spede'", "did you mean 'speed'?")),
    ("misspelt table", SMALLEST + "[saftey]\nspeed = 0.1", ("the top level", "'saftey'", "did you mean 'safety'?")),
    ("strange key", SMALLEST + "[goals]\nzzzz = 1", ("[goals]", "known keys are dwell_ticks, give_up_s, source")),
    ("text for a number", SMALLEST + '[safety]\nspeed = "fast"', ("safety.speed", "must be a number", "'fast'")),
    ("fraction for a count", SMALLEST + "[planner]\niterations = 2.5", ("planner.iterations", "must be a whole number", "2.5")),
    ("number for a switch", SMALLEST + "[engine]\nspinning = 1", ("engine.spinning", "must be true or false")),
    ("unknown choice", SMALLEST + '[engine]\nprecision = "int4"', ("engine.precision", "allowed: int8, fp32", "'int4'")),
    ("unknown runtime", SMALLEST + '[engine]\nruntime = "trt"', ("engine.runtime", "onnxruntime, openvino, auto", "'trt'")),
    ("over the limit", SMALLEST + "[safety]\nspeed = 1.5", ("safety.speed", "allowed: 0 to 1", "1.5")),
    ("empty name", SMALLEST.replace('"rover"', '""', 1), ("name", "some text", "''")),
    ("misspelt key of an axis", SMALLEST + LEFT + "revversed = true", ("[axes.left]", "did you mean 'reversed'?")),
    ("half an axis", SMALLEST + "[axes.left.forward]\nmax_speed = 1", ("[axes.left] needs the key 'backward'",)),
    ("a motor that never moves", SMALLEST + LEFT.replace("9", "0"), ("axes.left.forward.max_speed must be", "it is 0")),
    ("an axis is a value", SMALLEST + "[axes]\nleft = 3", ("axes.left must be a table", "3")),
    ("baud of another make", FEETECH + "baud = 115200", ("bridge.baud is for", "leave it out", "add baud=115200 behind")),
    ("lease of another make", FEETECH + "lease_ms = 200", ("bridge.lease_ms is for", "feetech has nothing like it")),
    ("lease for a watchdog", VESC + "lease_ms = 200", ("bridge.lease_ms is for", "see to the key timeout_ms of vesc")),
    ("a port without a port", SMALLEST.replace("/dev/ttyACM0", "vesc:?can=2"), ("bridge.port: 'vesc:?can=2' names no port",)),
    ("limit of another name", SMALLEST + "[bridge.limits.left]\nsped = 1", ("[bridge.limits.left]", "did you mean 'speed'?")),
    (
        "limit beyond all boards",
        SMALLEST + "[bridge.limits.left]\nspeed = -1",
        ("bridge.limits.left.speed must be", "allowed: 0 to 2000", "it is -1"),
    ),
    ("limit as text", SMALLEST + '[bridge.limits.left]\nspeed = "5"', ("bridge.limits.left.speed must be a number", "'5'")),
    ("no stop policy", SMALLEST + '[bridge.limits.left]\nstop_policy = "stop"', ("allowed: coast, brake, hold, release",)),
    ("half a millisecond", SMALLEST + "[bridge.parameters]\nencoder_ms = 0.5", ("bridge.parameters.encoder_ms", "whole number")),
    ("parameter of another name", SMALLEST + "[bridge.parameters]\nlease_ms = 90", ("[bridge.parameters]", "'lease_ms'")),
    ("table is a value", "engine = 3" + SMALLEST, ("engine", "must be a table", "3")),
)


@pytest.mark.parametrize(("text", "parts"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_gets_one_line_that_names_the_place(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), "robot.toml")
    message = str(caught.value)
    assert message.startswith("robot.toml")
    assert "\n" not in message and "`" not in message
    for part in parts:
        assert part in message
    assert isinstance(caught.value, UserError)


@pytest.mark.parametrize("port", ["motors", "vesc", "latentloop"])
def test_a_port_beside_the_file_is_found_in_a_spec_too(tmp_path: Path, port: str) -> None:
    (tmp_path / port).touch()
    assert beside_port(tmp_path, port) == f"{tmp_path}/{port}"
    assert beside_port(tmp_path, f"vesc:{port}?can=2&poles=14") == f"vesc:{tmp_path}/{port}?can=2&poles=14"
    assert beside_port(tmp_path, f"latentloop:{port}") == f"latentloop:{tmp_path}/{port}"
    for elsewhere in ("/dev/ttyACM0", "usb:2e8a:000a", "vesc:/dev/ttyACM0?can=2", "vesc:socket://host:1", f"no{port}"):
        assert beside_port(tmp_path, elsewhere) == elsewhere


@pytest.mark.parametrize("port", ["/dev/ttyACM0", "latentloop:/dev/ttyACM0", "usb:2e8a:000a", "socket://host:1"])
def test_baud_and_lease_are_heeded_by_our_own_firmware(port: str) -> None:
    text = SMALLEST.replace("/dev/ttyACM0", port) + "baud = 115200\nlease_ms = 200"
    assert parse_config(text.encode(), "robot.toml").bridge.lease_ms == 200


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder: give the robot's \.toml file"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read \(No such file"):
        load_config(tmp_path / "none.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "k\xfcche"')
    with pytest.raises(ConfigError, match=r"latin\.toml is not UTF-8 text \(byte 9\)"):
        load_config(latin)


def test_a_small_file_has_the_defaults() -> None:
    config = parse_config(SMALLEST.encode(), "robot.toml")
    assert (config.safety.speed, config.planner.iterations, config.dashboard.host) == (1.0, 3, "127.0.0.1")
    assert not config.safety.hold_on_alarm
    with pytest.raises(AttributeError):
        config.safety.speed = 0.1  # type: ignore[misc]


def test_an_axis_may_say_as_little_as_how_fast_it_is() -> None:
    left = parse_config((SMALLEST + LEFT).encode(), "robot.toml").axes["left"]
    assert (left.forward.max_speed, left.backward.gain, left.reversed, left.max_slew) == (9, 1.0, False, None)


def test_settings_of_the_board_have_the_names_of_the_bridge() -> None:
    text = SMALLEST + "[bridge.limits.left]\nspeed = 3\nstop_policy = 'hold'\n[bridge.parameters]\nlease_cap_ms = 200"
    settings = parse_config(text.encode(), "robot.toml").bridge.settings
    assert settings == {"left.speed": 3.0, "left.stop_policy": "hold", "lease_cap_ms": 200}
    assert parse_config(SMALLEST.encode(), "robot.toml").bridge.settings == {}
    assert {f.name for f in msgspec.structs.fields(LimitsConfig)} == set(AXIS_NAMES)
    assert {f.name for f in msgspec.structs.fields(ParametersConfig)} == set(BOARD_NAMES)


def test_a_full_file_sets_every_key(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(FULL, encoding="utf-8")
    config = msgspec.to_builtins(load_config(path))
    default = msgspec.to_builtins(parse_config(SMALLEST.encode(), "small"))
    flat, plain = dict(_leaves(config)), dict(_leaves(default))
    assert flat.keys() == plain.keys()
    assert [key for key in flat if flat[key] == plain[key]] == []
    assert flat["safety.hold_limit_s"] == 5.0 and flat["camera.max_age_ms"] == 150.0 and flat["goals.dwell_ticks"] == 3


def _leaves(table: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found += _leaves(value, f"{before}{key}.") if isinstance(value, dict) else [(before + key, value)]
    return found


def _bounds() -> list[tuple[str, str, float | int, bool]]:
    """Every bounded key at and just beyond each of its ends: table, key, value, allowed."""
    rows: list[tuple[str, str, float | int, bool]] = []
    for table, kind in get_type_hints(RobotConfig).items():
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            continue
        for key, hint in get_type_hints(kind, include_extras=True).items():
            for meta in get_args(hint)[1:]:
                if not isinstance(meta, msgspec.Meta):
                    continue
                step = 1 if get_args(hint)[0] is int else 1e-3
                if meta.ge is not None:
                    rows += [(table, key, meta.ge, True), (table, key, meta.ge - step, False)]
                if meta.gt is not None:
                    rows += [(table, key, meta.gt, False), (table, key, meta.gt + step, True)]
                if meta.le is not None:
                    rows += [(table, key, meta.le, True), (table, key, meta.le + step, False)]
                if meta.lt is not None:
                    rows += [(table, key, meta.lt, False), (table, key, meta.lt - step, True)]
    return rows


def test_the_limits_that_matter_most_are_what_they_are_meant_to_be() -> None:
    """The table below reads the limits from the code, so the dangerous ones are written down here once more."""
    rows = _bounds()
    for row in (
        ("safety", "speed", 1, True),
        ("safety", "speed", 0, False),
        ("safety", "stale_after_ms", 5000, True),
        ("safety", "hold_limit_s", 600, True),
        ("bridge", "lease_ms", 50, True),
        ("bridge", "lease_ms", 501, False),
    ):
        assert row in rows


@pytest.mark.parametrize(("table", "key", "value", "allowed"), _bounds())
def test_every_limit_holds_from_both_sides(table: str, key: str, value: float, allowed: bool) -> None:
    heading = f"[{table}]\n"
    line = f"{heading}{key} = {value}\n"
    text = SMALLEST.replace(heading, line) if heading in SMALLEST else SMALLEST + line
    if allowed:
        assert getattr(getattr(parse_config(text.encode(), "r"), table), key) == value
    else:
        with pytest.raises(ConfigError, match=f"^r: {table}.{key} must be .*, and it is {value}$"):
            parse_config(text.encode(), "r")
