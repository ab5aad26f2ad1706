"""How a message is laid out: fields in order, little endian, without padding."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar, get_type_hints

import msgspec

MAX_AXES = 8
POINTS = -1
"""The count of a last field that holds as many POINTs as the payload has room for."""

M = TypeVar("M", bound="Message")

_KINDS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i"}
KIND_BYTES = {kind: struct.calcsize("<" + code) for kind, code in _KINDS.items()}


def scalar(kind: str, means: str) -> tuple[str, int, str]:
    return kind, 1, means


def per_axis(kind: str, means: str) -> tuple[str, int, str]:
    return kind, 0, means


def raw(count: int, means: str) -> tuple[str, int, str]:
    return "u8", count, means


def rest(means: str) -> tuple[str, int, str]:
    return "point", POINTS, means


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the layout. kind: of KIND_BYTES. count: how many values, 0 for one per axis, POINTS for the rest."""

    name: str
    kind: str
    count: int
    means: str

    @property
    def type_text(self) -> str:
        count = {0: "n", POINTS: "k"}.get(self.count, str(self.count))
        return self.kind if self.count == 1 else f"{self.kind}[{count}]"


class Message(msgspec.Struct, frozen=True):
    """Base of all messages. TYPE is the type byte of the frame header. Each field is annotated with how it is laid out."""

    TYPE: ClassVar[int]
    NAME: ClassVar[str]

    @classmethod
    @cache
    def layout(cls) -> tuple[Field, ...]:
        hints = get_type_hints(cls, include_extras=True)
        return tuple(Field(name, *hints[name].__metadata__[0]) for name in cls.__struct_fields__)

    @classmethod
    @cache  # asked for with every frame
    def form(cls, axes: int) -> struct.Struct:
        """The payload on a device with that many axes, before any points."""
        counts = [(f.count or axes, f) for f in cls.layout() if f.count != POINTS]
        return struct.Struct("<" + "".join(f"{n}s" if f.count > 1 else f"{n}{_KINDS[f.kind]}" for n, f in counts))

    @classmethod
    def size(cls, axes: int) -> int:
        """Bytes of the payload on a device with that many axes, before any points."""
        return cls.form(axes).size

    def pack(self) -> bytes:
        """The payload. Raises struct.error if a value does not fit its field."""
        values: list[Any] = []
        axes = 0
        for value in msgspec.structs.astuple(self):
            if isinstance(value, tuple):
                axes = len(value)
                values += value
            else:
                values.append(value)
        return self.form(axes).pack(*values)

    @classmethod
    def unpack(cls: type[M], payload: bytes) -> M:
        """Read a payload; the number of axes follows from its length. Raises ValueError if no number of axes fits."""
        form, places = cls._reading(len(payload))
        values = form.unpack(payload)
        return cls(*[values[place] for place in places])

    @classmethod
    @cache
    def _reading(cls, size: int) -> tuple[struct.Struct, tuple[int | slice, ...]]:
        """The form of so many bytes, and where among its values those of each field are."""
        axes = next((n for n in range(MAX_AXES + 1) if cls.size(n) == size), None)
        if axes is None:
            raise ValueError(f"{size} bytes are no {cls.NAME}")
        places: list[int | slice] = []
        at = 0
        for f in cls.layout():
            places.append(at if f.count else slice(at, at + axes))
            at += 1 if f.count else axes
        return cls.form(axes), tuple(places)
