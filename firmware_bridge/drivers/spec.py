"""A motor controller in one line of text: ``feetech:/dev/ttyACM0?ids=1,2,3&speed=2``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from firmware_bridge.controller import AxisMode, BridgeError

_KIND = re.compile(r"^([a-z][a-z0-9_-]*):(?!//)(.*)$", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Spec:
    """kind: before the first colon, empty for a bare port. port: a device path or pyserial URL. options: after the question
    mark. Every getter raises BridgeError with key, value and what is allowed."""

    text: str
    kind: str
    port: str
    options: Mapping[str, str]

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        text = self.options.get(key)
        if text is None:
            return default
        if not re.fullmatch(r"-?\d{1,12}", text) or not low <= int(text) <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return int(text)

    def number(self, key: str, default: float | None, low: float, high: float) -> float:
        return self.numbers(key, 1, default, low, high)[0]

    def numbers(self, key: str, count: int, default: float | None, low: float, high: float) -> tuple[float, ...]:
        """One for all axes, or one for each. default: None where there is none that suits everybody."""
        text = self.options.get(key)
        if text is None:
            if default is None:
                raise BridgeError(f"{self.text} needs the key '{key}': add it, a number from {low:g} to {high:g}")
            return (default,) * count
        each = "" if count == 1 else f", or {count} of them with commas between"
        try:
            found = tuple(float(part) for part in text.split(","))
        except ValueError:
            found = ()
        if len(found) not in (1, count) or not all(math.isfinite(each) and low <= each <= high for each in found):
            raise self.wrong(key, f"a number from {low:g} to {high:g}{each}")
        return found * count if len(found) == 1 else found

    def integers(self, key: str, default: Sequence[int] | None, low: int, high: int) -> tuple[int, ...]:
        """A list without repetitions, in the order of the axes."""
        text = self.options.get(key)
        if text is None:
            if default is None:
                raise BridgeError(f"{self.text} needs the key '{key}': add whole numbers from {low} to {high}, as {key}=1,2,3")
            return tuple(default)
        parts = text.split(",")
        found = tuple(int(part) for part in parts if re.fullmatch(r"\d{1,9}", part))
        if len(found) != len(parts) or len(set(found)) != len(found) or not all(low <= each <= high for each in found):
            raise self.wrong(key, f"different whole numbers from {low} to {high} with commas between")
        return found

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """The first choice is the default."""
        text = self.options.get(key, choices[0])
        if text not in choices:
            raise self.wrong(key, " or ".join(choices))
        return text

    def signs(self, count: int) -> tuple[int, ...]:
        """``signs``: -1 for each axis whose motor counts the other way."""
        found = self.numbers("signs", count, 1.0, -1.0, 1.0)
        if not all(abs(sign) == 1.0 for sign in found):
            raise self.wrong("signs", "1 or -1, once or for each axis")
        return tuple(int(sign) for sign in found)

    def asked(self) -> AxisMode:
        """What targets mean for position motors: ``command=velocity`` has velocities integrated."""
        return AxisMode(self.choice("command", ("position", "velocity")))

    def names(self, axes: Sequence[str], count: int) -> tuple[str, ...]:
        """axes: from whoever uses the controller; empty to take those of the spec, or numbers."""
        if axes and len(axes) != count:
            raise BridgeError(
                f"{self.text} drives {count} {'axis' if count == 1 else 'axes'} and the robot has {len(axes)} "
                f"({', '.join(axes)}): make them as many"
            )
        return tuple(axes) or tuple(f"axis{i + 1}" for i in range(count))

    def wrong(self, key: str, allowed: str) -> BridgeError:
        return BridgeError(f"{self.text} has {key}={self.options[key]}: it must be {allowed}")


def parse(text: str) -> Spec:
    """Raises BridgeError for text that is no spec. Whether the kind exists and which keys it has is the registry's business."""
    found = _KIND.match(text)
    kind, rest = (found[1].lower(), found[2]) if found else ("", text)
    if kind == "usb":  # a port by its USB identity
        kind, rest = "", text
    port, _, query = rest.partition("?") if kind else (rest, "", "")
    if not port:
        raise BridgeError(f"{text!r} names no port: write it as {kind or 'feetech'}:/dev/ttyACM0")
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not key or not equals or not value:
            raise BridgeError(f"{text} has {part!r} after the question mark: write it as key=value, with & between")
        if key in options:
            raise BridgeError(f"{text} has the key '{key}' twice: leave one")
        options[key] = value
    return Spec(text, kind, port, options)


def placed(text: str, place: Callable[[str], str]) -> str:
    """The same spec with its port elsewhere: place is given the port. Raises BridgeError for text that is no spec."""
    spec = parse(text)
    at = len(spec.kind) + 1 if spec.kind else 0
    return f"{text[:at]}{place(spec.port)}{text[at + len(spec.port):]}"


def check_keys(spec: Spec, known: Sequence[str]) -> None:
    """Raises BridgeError for a key that this kind of controller does not have."""
    for key in spec.options:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"the keys of {spec.kind} are {', '.join(known)}"
            raise BridgeError(f"{spec.text} has the unknown key '{key}': {hint}")
