"""A robot's configuration file: TOML in, checked and frozen settings out.

Unknown keys are refused: a misspelt limit must not silently be no limit.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from edge.errors import UserError
from firmware_bridge.board_settings import Value
from firmware_bridge.controller import BridgeError
from firmware_bridge.drivers import spec as specs
from firmware_bridge.drivers.registry import foreign, keys_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

T = TypeVar("T")


class ConfigError(UserError):
    """The file cannot be used; the message names file, key, what is allowed and what to do."""


class CameraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """source: see docs/cameras.md. max_age_ms: an older picture counts as late. intrinsics: file written by
    ``latentloop calibrate camera``, relative to this one; the model then sees straight pictures. Empty for none."""

    source: Annotated[str, Meta(min_length=1)]
    max_age_ms: Annotated[float, Meta(ge=20, le=5000)] = 200.0
    intrinsics: str = ""


Whole = Annotated[int, Meta(ge=0, le=2_147_483_647)]


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board with latentloop's firmware keeps one axis to, tighter than what is compiled into it; what is not given stays as
    the board has it. speed: rad/s. acceleration: rad/s^2; a stop uses the compiled one. low, high: rad, for joints. stop_policy,
    release_after_ms: what becomes of the axis after a stop. over_current_ma, encoder_limit (rad/s for a wheel, rad for a joint):
    beyond that for some time is a fault; 0 is never."""

    speed: Annotated[float, Meta(ge=0, le=2000)] | None = None
    acceleration: Annotated[float, Meta(gt=0, le=4000)] | None = None
    low: Annotated[float, Meta(ge=-60_000, le=60_000)] | None = None
    high: Annotated[float, Meta(ge=-60_000, le=60_000)] | None = None
    stop_policy: Literal["coast", "brake", "hold", "release"] | None = None
    release_after_ms: Whole | None = None
    over_current_ma: Whole | None = None
    encoder_limit: Annotated[float, Meta(ge=0, le=1000)] | None = None


class ParametersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What such a board keeps to as a whole; what is not given stays as the board has it. over_current_ms, encoder_ms,
    under_voltage_ms: how long each must last to be a fault. under_voltage_mv: the supply; 0 is never. lease_cap_ms: longest lease.
    underrun_ms: how long a trajectory goes on that ended in motion."""

    over_current_ms: Whole | None = None
    encoder_ms: Whole | None = None
    under_voltage_mv: Whole | None = None
    under_voltage_ms: Whole | None = None
    lease_cap_ms: Whole | None = None
    underrun_ms: Whole | None = None


class BridgeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """port: device name, ``usb:VID:PID[:SERIAL]`` or pyserial URL of a board with latentloop's firmware, or another controller as
    ``kind:port?key=value`` (docs/drivers.md). baud: ignored by USB devices. lease_ms: the firmware stops this long after the
    last sign of life. With other controllers than latentloop's firmware both are refused: what they have of it are keys of their
    own. own_process: false drives the port from a thread of the runtime, for debugging; a stalled runtime may then starve the
    lease. limits, by axis, and parameters: put in force on latentloop's firmware in every session, before it can be armed."""

    port: Annotated[str, Meta(min_length=1)]
    baud: Annotated[int, Meta(ge=9600, le=4_000_000)] = 1_000_000
    lease_ms: Annotated[int, Meta(ge=50, le=500)] = 100
    own_process: bool = True
    limits: dict[str, LimitsConfig] = msgspec.field(default_factory=dict)
    parameters: ParametersConfig = msgspec.field(default_factory=ParametersConfig)

    @property
    def settings(self) -> dict[str, Value]:
        """Limits and parameters by the names of :mod:`firmware_bridge.board_settings`."""
        axes = {f"{axis}.{key}": value for axis, each in self.limits.items() for key, value in _given(each)}
        return {**axes, **dict(_given(self.parameters))}


def _given(table: msgspec.Struct) -> list[tuple[str, Value]]:
    return [(key, value) for key, value in msgspec.structs.asdict(table).items() if value is not None]


class WayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of turning of one axis, all in rad/s. dead_band: a smaller command does not start it. friction: what a
    command loses once it turns. gain: speed per command beyond that. max_speed: what it reached."""

    dead_band: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    friction: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    gain: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    max_speed: Annotated[float, Meta(gt=0, le=10_000)]

    @property
    def slowest(self) -> float:
        """The slowest speed that it can start with, rad/s."""
        return self.gain * max(0.0, self.dead_band - self.friction)


class AxisConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One axis as measured by ``latentloop calibrate motors``. reversed: a positive command turns it backward.
    encoder_reversed: its encoder counts down when it turns forward. max_slew: largest change of speed that it follows,
    rad/s^2; none where it follows all that the firmware allows. measured, latency_ms and time_constant_ms are for people:
    when and how it was measured, the time from a command to the first motion, and how long it takes to come up to speed."""

    reversed: bool = False
    encoder_reversed: bool = False
    max_slew: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    latency_ms: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    time_constant_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    measured: str = ""
    forward: WayConfig
    backward: WayConfig


class SafetyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """speed: share of the bundle's action range that may be used. slew: largest change of a normalised action per
    second. stale_after_ms: motors are held when the newest trusted picture is older. hold_limit_s: a hold that lasts longer
    becomes a stop that only a person can end. hold_on_alarm: hold while something is alarming."""

    speed: Annotated[float, Meta(gt=0, le=1)] = 1.0
    slew: Annotated[float, Meta(gt=0, le=1000)] = 40.0
    stale_after_ms: Annotated[float, Meta(ge=50, le=5000)] = 350.0
    hold_limit_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    hold_on_alarm: bool = False


class PlannerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """budget_ms: planning ends this long after the tick began. iterations: at most so many, also when time is left.
    colour: exponent of the noise spectrum, 0 is white. spread: standard deviation of the first iteration. inertia: share
    of the old mean that each update keeps. lateness: step h of K counts (h / K) ** lateness; 0 asks for the shortest
    way, more leaves room for a detour. seed: of the noise."""

    budget_ms: Annotated[float, Meta(ge=1, le=10_000)] = 70.0
    iterations: Annotated[int, Meta(ge=1, le=100)] = 3
    colour: Annotated[float, Meta(ge=0, le=4)] = 2.0
    spread: Annotated[float, Meta(gt=0, le=2)] = 1.0
    inertia: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    lateness: Annotated[float, Meta(ge=0, le=32)] = 4.0
    seed: Annotated[int, Meta(ge=0)] = 0


class MemoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """folder: relative to the file. belief_max_age_s: an older belief is not believed after a restart."""

    folder: str = "memory"
    max_episodes: Annotated[int, Meta(ge=1, le=10_000_000)] = 20_000
    max_megabytes: Annotated[int, Meta(ge=4, le=1_000_000)] = 512
    belief_max_age_s: Annotated[float, Meta(ge=0, le=86_400)] = 10.0


class DashboardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """host: anything but loopback asks everybody for the token. port 0 takes any free one."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8420


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """threads: per engine. spinning: burn a core between calls for a little less latency. precision: what to load.
    tensorrt: on an NVIDIA GPU, use its engines that passed their trial, and build in the background those that are
    missing. runtime: on the CPU; "auto" measures once whether OpenVINO is installed, faster and right."""

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    spinning: bool = False
    precision: Literal["int8", "fp32"] = "int8"
    tensorrt: bool = True
    runtime: Literal["onnxruntime", "openvino", "auto"] = "onnxruntime"


class GoalConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """source: a picture, a folder of pictures (visited in order of name), or ``world:SOCKET`` of a simulated world;
    empty for none. give_up_s: a goal not reached by then is given up. dwell_ticks: so many ticks in a row at the goal
    count as reached."""

    source: str = ""
    give_up_s: Annotated[float, Meta(gt=0, le=3600)] = 8.0
    dwell_ticks: Annotated[int, Meta(ge=1, le=100)] = 2


class RobotConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything about one robot. bundle: a folder, or the name of a bundle that ships with latentloop.
    calibration: folder written by ``latentloop calibrate alarms``, empty for none. axes: how the motors differ from perfect
    ones, by axis, written by ``latentloop calibrate motors``."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    bundle: Annotated[str, Meta(min_length=1)]
    camera: CameraConfig
    bridge: BridgeConfig
    calibration: str = ""
    safety: SafetyConfig = msgspec.field(default_factory=SafetyConfig)
    planner: PlannerConfig = msgspec.field(default_factory=PlannerConfig)
    memory: MemoryConfig = msgspec.field(default_factory=MemoryConfig)
    dashboard: DashboardConfig = msgspec.field(default_factory=DashboardConfig)
    engine: EngineConfig = msgspec.field(default_factory=EngineConfig)
    goals: GoalConfig = msgspec.field(default_factory=GoalConfig)
    axes: dict[str, AxisConfig] = msgspec.field(default_factory=dict)


def load_config(path: Path) -> RobotConfig:
    """Read and check a robot file. Raises ConfigError."""
    try:
        text = path.read_bytes()
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: give the robot's .toml file in it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give the path of a robot .toml file") from None
    return parse_config(text, str(path))


def parse_config(text: bytes, name: str) -> RobotConfig:
    """The same for a text; name stands for it in errors. Raises ConfigError."""
    try:
        data = tomllib.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None
    config = convert(data, RobotConfig, name)
    _check_bridge(data["bridge"], name)
    return config


def convert(data: Any, kind: type[T], name: str) -> T:
    """Check decoded TOML against a struct. Raises ConfigError in the words of a person who edits the file."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(error, data, kind, name)) from None


def beside(base: Path, text: str) -> str:
    """A relative path in a robot file means a place beside it; whatever is no such path, as a URL, stays as it is."""
    path = base / text
    return str(path) if path.exists() and "://" not in text else text


def beside_port(base: Path, spec: str) -> str:
    """The same for the port in a motor controller's ``kind:port?key=value``. Raises BridgeError for what is no spec."""
    return specs.placed(spec, lambda port: beside(base, port))


def _check_bridge(bridge: dict[str, Any], name: str) -> None:
    """Keys that a controller would not heed are refused: what looks like a limit must be one. Raises ConfigError."""
    port = bridge["port"]
    try:
        kind = foreign(port)
    except BridgeError as error:
        raise ConfigError(f"{name}: bridge.port: {error}") from None
    if kind is None:
        return
    own = keys_of(kind)
    if "baud" in bridge:
        raise ConfigError(
            f"{name}: bridge.baud is for latentloop's firmware, and port {port!r} is another controller: leave it out, and add "
            f"baud={bridge['baud']} behind the question mark of the port"
        )
    if "lease_ms" in bridge:
        watchdog = next((key for key in ("watchdog_ms", "timeout_ms") if key in own), None)
        remedy = f", and see to the key {watchdog} of {kind}" if watchdog else f"; {kind} has nothing like it to set"
        raise ConfigError(
            f"{name}: bridge.lease_ms is for latentloop's firmware, and port {port!r} is another controller: leave it out{remedy}"
        )


_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"unknown field `(?P<unknown>.*)`|missing required field `(?P<missing>.*)`")
_WORDS = (
    ("`", ""),
    (" | null", ""),
    ("Expected ", "must be "),
    ("Invalid enum value", "cannot be"),
    ("str of length >= 1", "some text"),
    ("object", "a table"),
    ("str", "text"),
    ("float", "a number"),
    ("int", "a whole number"),
    ("bool", "true or false"),
    ("got ", "not "),
)


def _explained(error: msgspec.ValidationError, data: Any, kind: type[Any], name: str, above: str = "") -> str:
    """above: where data lies in the file, ending with a full stop; empty at the top."""
    found = _AT.match(str(error))
    assert found is not None
    path = (found["path"] or "").lstrip(".")
    names, place, _ = path.partition("[...]")
    named = _at(data, names)
    if place and isinstance(named, dict):  # under which of the names?
        member = get_args(_hint_at(kind, names))[-1]
        for key, entry in named.items():
            try:
                msgspec.convert(entry, member)
            except msgspec.ValidationError as inner:
                return _explained(inner, entry, member, name, f"{above}{names}.{key}.")
    field = _FIELD.search(found["what"])
    table = f"[{above}{path}]" if path else f"[{above[:-1]}]" if above else "the top level"
    if field and field["missing"]:
        return f"{name}: {table} needs the key '{field['missing']}': add it"
    if field:
        known = sorted(_fields_at(kind, path))
        close = difflib.get_close_matches(field["unknown"], known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys are {', '.join(known)}"
        return f"{name}: {table} has the unknown key '{field['unknown']}': {hint}"
    what = found["what"]
    for old, new in _WORDS:
        what = what.replace(old, new)
    if "[" in path:  # the error does not say at which place of a list
        return f"{name}: {above}{path} {what}"
    value = _at(data, path)
    where = f"{above}{path}".rstrip(".") or "the file"
    return f"{name}: {where} {what}{_range_of(kind, path)}, and it is {value!r}"


def _at(data: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _hint_at(kind: type[Any], path: str) -> Any:
    *tables, key = path.split(".")
    for part in tables:
        kind = get_type_hints(kind)[part]
    return get_type_hints(kind, include_extras=True)[key]


def _fields_at(kind: type[Any], path: str) -> set[str]:
    for part in path.split(".") if path else ():
        kind = get_type_hints(kind)[part]
    return set(get_type_hints(kind))


def _range_of(kind: type[Any], path: str) -> str:
    """The whole allowed range, because the error itself only names the end that was crossed."""
    try:
        hint = _hint_at(kind, path)
    except KeyError:
        return ""
    arguments = get_args(hint)
    if type(None) in arguments:  # may be left out
        hint, *_ = arguments
        arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return f" (allowed: {', '.join(map(str, arguments))})"
    for meta in arguments[1:]:
        if not isinstance(meta, Meta):
            continue
        low = meta.ge if meta.ge is not None else meta.gt
        high = meta.le if meta.le is not None else meta.lt
        if low is not None and high is not None:
            return f" (allowed: {low} to {high})"
    return ""
