"""What the capture process and its parent tell each other: one job in, lines of news out, as JSON."""

from __future__ import annotations

import msgspec

from edge.cameras.source import Source


class Job(msgspec.Struct, frozen=True):
    """What to capture. source: what to open. ring: an inherited descriptor of an empty file, or of the ring that a
    predecessor made. parent: its process id. lossless: as fast as the reader takes it. fps: for folders.
    first_sequence, offset_ns: the number and time of the first picture of this pass through a file. skip: so many
    pictures of this pass were delivered before."""

    source: Source
    ring: int
    parent: int
    lossless: bool = False
    loop: bool = False
    fps: float = 10.0
    first_sequence: int = 0
    offset_ns: int = 0
    skip: int = 0


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line to the parent. event: ``"ring"`` (it can be mapped now), ``"pass"`` (a file begins, with its number and
    time), ``"ended"`` or ``"error"``. final: trying again is useless."""

    event: str
    first_sequence: int = 0
    offset_ns: int = 0
    message: str = ""
    final: bool = False
