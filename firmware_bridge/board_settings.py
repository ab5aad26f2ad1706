"""Limits and parameters of a board with latentloop's firmware, by the names that people write: read, checked, set and read back.

``left.speed`` belongs to an axis, ``lease_cap_ms`` to the whole board. The board keeps what it was given until it restarts, and
takes nothing that is less careful than what is compiled into it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from firmware_bridge.codes import AXIS_PARAMETERS, DEVICE_PARAMETERS
from firmware_bridge.controller import BridgeError
from firmware_bridge.exchange import Exchange
from firmware_bridge.messages import (
    Axis,
    AxisGet,
    Code,
    LimitsSet,
    Mode,
    Param,
    Parameter,
    ParamGet,
    ParamSet,
    StopPolicy,
    text,
)

Value = int | float | str
"""A word for a stop policy, a number in the unit of the setting for everything else."""
NONE: Mapping[str, Value] = MappingProxyType({})

LIMITS = {
    "speed": Parameter.MAX_SPEED,
    "acceleration": Parameter.MAX_ACCELERATION,
    "low": Parameter.MIN_POSITION,
    "high": Parameter.MAX_POSITION,
}
AXIS_NAMES = {**LIMITS, **{parameter.name.lower(): parameter for parameter in AXIS_PARAMETERS}}
"""What can stand behind the name of an axis and a full stop."""
BOARD_NAMES = {parameter.name.lower(): parameter for parameter in DEVICE_PARAMETERS}

_MEANS = {
    Parameter.MAX_SPEED: "fastest",
    Parameter.MAX_ACCELERATION: "largest change of speed; a stop uses the compiled one",
    Parameter.MIN_POSITION: "lowest position",
    Parameter.MAX_POSITION: "highest position",
    Parameter.STOP_POLICY: "what becomes of the axis after a stop",
    Parameter.RELEASE_AFTER_MS: "for the stop policy release",
    Parameter.OVER_CURRENT_MA: "more, in either direction, is a fault; 0 = never",
    Parameter.ENCODER_LIMIT: "more between measurement and output is a fault; 0 = never",
    Parameter.OVER_CURRENT_MS: "how long it must last to be a fault",
    Parameter.ENCODER_MS: "how long it must last to be a fault",
    Parameter.UNDER_VOLTAGE_MV: "less is a fault; 0 = never",
    Parameter.UNDER_VOLTAGE_MS: "how long it must last to be a fault",
    Parameter.LEASE_CAP_MS: "longest lease",
    Parameter.UNDERRUN_MS: "how long a trajectory goes on that ended in motion",
}
_MILLI = frozenset({*LIMITS.values(), Parameter.ENCODER_LIMIT})
"""In thousandths of the unit on the wire."""
_POLICIES = tuple(policy.name.lower() for policy in StopPolicy)
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Setting:
    """One of them as the board tells it. value: in force. low, high: what the board takes, in the same unit; for a stop policy all
    three are words. unit: empty for a word."""

    name: str
    value: Value
    unit: str
    low: Value
    high: Value
    means: str

    def range_text(self) -> str:
        """What it takes, for people."""
        if isinstance(self.value, str):
            return " or ".join(_POLICIES)
        return f"{self.low:.10g} to {self.high:.10g} {self.unit}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a setting is in the board. axis: 0 for one of the whole board."""

    name: str
    parameter: Parameter
    axis: int
    mode: Mode

    @property
    def unit(self) -> str:
        if self.parameter is Parameter.STOP_POLICY:
            return ""
        if self.parameter is Parameter.MAX_ACCELERATION:
            return "rad/s^2"
        if self.parameter in (Parameter.MIN_POSITION, Parameter.MAX_POSITION):
            return "rad"
        if self.parameter is Parameter.ENCODER_LIMIT:
            return "rad/s" if self.mode is Mode.VELOCITY else "rad"
        return "rad/s" if self.parameter is Parameter.MAX_SPEED else {"MS": "ms", "MA": "mA", "MV": "mV"}[self.parameter.name[-2:]]

    def people(self, raw: int) -> Value:
        """The number of the wire as people write it."""
        if self.parameter is Parameter.STOP_POLICY:
            return _POLICIES[raw] if 0 <= raw < len(_POLICIES) else str(raw)
        return raw / 1000 if self.parameter in _MILLI else raw

    def wire(self, value: Value) -> int:
        """Raises BridgeError for what is no value of this setting, whatever the range."""
        if self.parameter is Parameter.STOP_POLICY:
            if value not in _POLICIES:
                raise BridgeError(f"{self.name} cannot be {value!r}: write {' or '.join(_POLICIES)}")
            return _POLICIES.index(str(value))
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
        raw = number * 1000 if self.parameter in _MILLI else number
        if not abs(raw) <= _MOST or (self.parameter not in _MILLI and raw != int(raw)):
            whole = "a number" if self.parameter in _MILLI else "a whole number"
            raise BridgeError(f"{self.name} cannot be {value!r}: write {whole}, in {self.unit}")
        return round(raw)

    def setting(self, told: Param) -> Setting:
        value, low, high = (self.people(raw) for raw in (told.value, told.low, told.high))
        return Setting(self.name, value, self.unit, low, high, _MEANS[self.parameter])


def checked(settings: Mapping[str, Value]) -> dict[str, Value]:
    """A copy. Raises BridgeError for what can be the value of no setting at all."""
    for name, value in settings.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _MOST
        if not number and not isinstance(value, str):
            raise BridgeError(f"{name} cannot be {value!r}: give a number or, for a stop policy, a word")
    return dict(settings)


def read_axes(exchange: Exchange, session: int, count: int) -> tuple[Axis, ...]:
    """What every axis is, with the limits in force. Raises BridgeError and LinkLost."""
    return tuple(_read_axis(exchange, session, i) for i in range(count))


def _read_axis(exchange: Exchange, session: int, index: int) -> Axis:
    return exchange.ask(lambda: AxisGet(index), session, Axis, lambda axis: axis.axis == index)[0]


def read_settings(exchange: Exchange, session: int, axes: tuple[Axis, ...]) -> tuple[Setting, ...]:
    """All that the board has, axis by axis. Raises BridgeError and LinkLost."""
    names = [f"{text(axis.name)}.{name}" for axis in axes for name in AXIS_NAMES if _has(axis, AXIS_NAMES[name])]
    places = [_place(name, axes, exchange.where) for name in (*names, *BOARD_NAMES)]
    return tuple(place.setting(_told(exchange, session, place)) for place in places)


def apply(exchange: Exchange, session: int, axes: tuple[Axis, ...], wanted: Mapping[str, Value]) -> bool:
    """Have these settings in force, and see that they are. axes: as the board told them.

    Nothing is set unless all of them are within the range of the board. What has the wanted value already is left alone. False if
    the board takes no settings in the state it is in, because motors are moving or a stop is latched. Raises BridgeError, which
    names the setting, and LinkLost.
    """
    places = {_place(name, axes, exchange.where): value for name, value in wanted.items()}
    told = {place: _told(exchange, session, place) for place in places}
    for place, value in places.items():
        if not told[place].low <= place.wire(value) <= told[place].high:
            setting = place.setting(told[place])
            only = "; limits can only be tightened" if place.parameter.is_limit else ""
            raise BridgeError(f"{place.name} = {value} is refused by {exchange.where}, which takes {setting.range_text()}{only}")
    for message in _orders(axes, {place: place.wire(value) for place, value in places.items()}, told):
        code = exchange.order(message, session)
        if code in (Code.BAD_STATE, Code.LATCHED):
            return False
        if code != Code.OK:
            raise BridgeError(f"the firmware on {exchange.where} refuses {message.NAME} with code {code}: flash this release")
    for place, value in places.items():
        found = _told(exchange, session, place).value
        if found != place.wire(value):
            raise BridgeError(
                f"{place.name} was set to {value} and {exchange.where} says {place.people(found)}: "
                "flash the firmware of this release"
            )
    return True


def _orders(
    axes: tuple[Axis, ...], wanted: Mapping[_Place, int], told: Mapping[_Place, Param]
) -> list[LimitsSet | ParamSet]:
    """What has to be sent. Raises BridgeError where a low is above its high."""
    orders: list[LimitsSet | ParamSet] = []
    for axis in axes:
        now = LimitsSet(axis.axis, axis.max_speed, axis.max_acceleration, axis.min_position, axis.max_position)
        given = {place.parameter: raw for place, raw in wanted.items() if place.parameter.is_limit and place.axis == axis.axis}
        limits = msgspec.structs.replace(now, **{parameter.name.lower(): raw for parameter, raw in given.items()})
        if limits.min_position > limits.max_position:
            name, low, high = text(axis.name), limits.min_position / 1000, limits.max_position / 1000
            raise BridgeError(f"{name}.low = {low:g} is above {name}.high = {high:g}: exchange them, or give both")
        if limits != now:
            orders.append(limits)
    orders += [
        ParamSet(place.parameter, place.axis, raw)
        for place, raw in wanted.items()
        if not place.parameter.is_limit and told[place].value != raw
    ]
    return orders


def _told(exchange: Exchange, session: int, place: _Place) -> Param:
    question = ParamGet(place.parameter, place.axis)
    wanted = (place.parameter, place.axis)
    return exchange.ask(lambda: question, session, Param, lambda param: (param.parameter, param.axis) == wanted)[0]


def _has(axis: Axis, parameter: Parameter) -> bool:
    """A wheel has no end."""
    return axis.mode == Mode.POSITION or parameter not in (Parameter.MIN_POSITION, Parameter.MAX_POSITION)


def _place(name: str, axes: tuple[Axis, ...], where: str) -> _Place:
    """Raises BridgeError for a name that the board does not have."""
    of, stop, what = name.rpartition(".")
    names = {text(axis.name): axis for axis in axes}
    if stop and of not in names:
        raise BridgeError(f"{name} is for no axis of {where} (its axes are {', '.join(names)}): correct the name")
    known = AXIS_NAMES if stop else BOARD_NAMES
    if what not in known:
        close = difflib.get_close_matches(what, known, 1)
        if not close and not stop and what in AXIS_NAMES:
            hint = f"it belongs to an axis, as {next(iter(names))}.{what}"
        else:
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
        raise BridgeError(f"{name} is no setting of {where}: {hint}")
    if not stop:
        return _Place(name, known[what], 0, Mode.VELOCITY)
    axis = names[of]
    if not _has(axis, known[what]):
        raise BridgeError(f"{name} is for a joint, and {of} of {where} is a wheel that has no end: leave it out")
    return _Place(name, known[what], axis.axis, Mode(axis.mode))
