"""How a message is laid out: fields in order, little endian, without padding."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, TypeVar

MAX_AXES = 8
POINTS = -1
"""The count of a last field that holds as many POINTs as the payload has room for."""

M = TypeVar("M", bound="Message")

_KINDS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i"}
KIND_BYTES = {kind: struct.calcsize("<" + code) for kind, code in _KINDS.items()}


def scalar(kind: str, means: str) -> Any:
    return field(metadata={"kind": kind, "count": 1, "means": means})


def per_axis(kind: str, means: str) -> Any:
    return field(metadata={"kind": kind, "count": 0, "means": means})


def raw(count: int, means: str) -> Any:
    return field(metadata={"kind": "u8", "count": count, "means": means})


def rest(means: str) -> Any:
    return field(metadata={"kind": "point", "count": POINTS, "means": means})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the layout. count: how many values, 0 for one per axis, POINTS for the rest; kind: of KIND_BYTES."""

    name: str
    kind: str
    count: int
    means: str

    @property
    def type_text(self) -> str:
        count = {0: "n", POINTS: "k"}.get(self.count, str(self.count))
        return self.kind if self.count == 1 else f"{self.kind}[{count}]"


class Message:
    """Base of all messages. TYPE is the type byte of the frame header."""

    __slots__ = ()
    TYPE: ClassVar[int]
    NAME: ClassVar[str]

    @classmethod
    @cache  # asked for with every frame
    def layout(cls) -> tuple[Field, ...]:
        found = fields(cls)  # type: ignore[arg-type]
        return tuple(Field(f.name, f.metadata["kind"], f.metadata["count"], f.metadata["means"]) for f in found)

    @classmethod
    def size(cls, axes: int) -> int:
        """Bytes of the payload on a device with that many axes, before any points."""
        return sum(KIND_BYTES[f.kind] * (f.count or axes) for f in cls.layout() if f.count != POINTS)

    def pack(self) -> bytes:
        """The payload. Raises struct.error if a value does not fit its field."""
        parts = []
        for f in self.layout():
            value = getattr(self, f.name)
            if f.count == POINTS:
                parts += [point.pack() for point in value]
            elif f.count > 1:
                parts.append(struct.pack(f"{f.count}s", value))
            elif f.count == 1:
                parts.append(struct.pack("<" + _KINDS[f.kind], value))
            else:
                parts.append(struct.pack(f"<{len(value)}{_KINDS[f.kind]}", *value))
        return b"".join(parts)

    @classmethod
    def unpack(cls: type[M], payload: bytes) -> M:
        """Read a payload; the number of axes follows from its length. Raises ValueError if no number of axes fits."""
        fixed = cls.size(0)
        each = cls.size(1) - fixed
        axes = (len(payload) - fixed) // each if each else 0
        if len(payload) != fixed + axes * each or not 0 <= axes <= MAX_AXES:
            raise ValueError(f"{len(payload)} bytes are no {cls.NAME}")
        values: list[Any] = []
        offset = 0
        for f in cls.layout():
            count = f.count or axes
            size = count * KIND_BYTES[f.kind]
            piece = payload[offset : offset + size]
            offset += size
            if f.count > 1:
                values.append(piece)
            else:
                numbers = struct.unpack(f"<{count}{_KINDS[f.kind]}", piece)
                values.append(numbers if f.count == 0 else numbers[0])
        return cls(*values)
