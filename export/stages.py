"""Finished stages of an export, kept beside the bundle to come, so that an interrupted one goes on where it was.

A stage is found again by a hash of everything that went into it: whoever changes the checkpoint, the footage or a setting gets
a new stage, never an old result. Each is one file, written whole; a graph over 2 GB has its weights in one beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.scale_cache import digest
from edge.bundle import Part
from edge.errors import UserError
from edge.messages import Floats
from edge.whole_file import write_whole
from export.assemble import own_version
from export.external_weights import intact, kept_in
from export.sources.source import Feed, Source

T = TypeVar("T")
_BLOCK = 1 << 24


class Stages:
    """folder: where results are kept; None keeps nothing. originals: sources with their frameworks, as long as they are open."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.originals: list[list[Source]] = []

    @classmethod
    def beside(cls, out: Path) -> Stages:
        """The stages of the bundle ``out``."""
        return cls(out.parent / f".{out.name}.unfinished")

    def once(self, name: str, kind: Any, inputs: Iterable[bytes | NDArray[np.generic] | str], make: Callable[[], T]) -> T:
        """What ``make`` returned when ``inputs`` were last given, or what it returns now. kind: the type of that, of what
        msgspec encodes and ONNX graphs. Raises UserError where it cannot be kept."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}-{digest(inputs)[:24]}"
        try:
            kept: T = msgspec.msgpack.decode(path.read_bytes(), type=kind, dec_hook=_decoded)
            return kept
        except (OSError, msgspec.DecodeError):  # not there, or of another version
            made = make()
        try:
            write_whole(path, msgspec.msgpack.encode(made, enc_hook=_encoded))
        except OSError as error:
            raise UserError(
                f"the unfinished export {self.folder} cannot be written ({error.strerror}): free space there, or give another --out"
            ) from None
        return made

    @property
    def begun(self) -> bool:
        """Whether there are finished stages."""
        return self.folder is not None and self.folder.is_dir() and any(self.folder.iterdir())

    def let_go(self) -> None:
        """Free the memory of the original framework; who asks for its numbers again waits until it is back."""
        for opened in self.originals:
            opened.clear()

    def forget(self) -> None:
        """Begin anew, or done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(path: Path) -> Iterator[str]:
    """Name and content of a file, or of every file in a folder; of what lies beside the file (a checkpoint
    has its deployment there), name, size and time. Nothing of what is not there."""
    inside = sorted(p for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())
    for file in inside:
        content = hashlib.sha256()
        with contextlib.suppress(OSError), file.open("rb") as opened:  # whoever opens the source says what cannot be read
            while block := opened.read(_BLOCK):
                content.update(block)
        yield f"{file.relative_to(path.parent)} {content.hexdigest()}"
    if path.is_file():
        for other in sorted(p for p in path.parent.iterdir() if p.is_file() and p != path):
            about = other.stat()
            yield f"{other.name} {about.st_size} {about.st_mtime_ns}"


def open_once(stages: Stages, path: Path, open_source: Callable[[Path], Source]) -> Source:
    """The source, with the graphs that were written before where nothing has changed since. Its original framework is then
    started only if somebody asks for its numbers. Raises UserError."""
    if path.suffix == ".toml":  # names files anywhere, and reading those takes no time
        return open_source(path)
    opened: list[Source] = []
    stages.originals.append(opened)

    def original() -> Source:
        if not opened:
            with kept_in(stages.folder):
                opened.append(open_source(path))
        return opened[0]

    def make() -> tuple[Source, bool]:
        return replace(original(), peer=None), original().peer is not None

    def peer(part: Part, feed: Feed) -> Floats:
        asked = original().peer
        assert asked is not None
        return asked(part, feed)

    inputs = [own_version(), open_source.__qualname__, *fingerprint(path)]
    source, has_peer = stages.once("fp32", tuple[Source, bool], inputs, make)
    return replace(source, peer=peer if has_peer else None)


def _encoded(value: Any) -> bytes:
    if isinstance(value, onnx.ModelProto):
        return bytes(value.SerializeToString())
    raise NotImplementedError(f"{type(value)} cannot be kept")


def _decoded(kind: type, value: Any) -> Any:
    if kind is onnx.ModelProto:
        model = onnx.load_from_string(value)
        if not intact(model):
            raise ValueError("the file of its weights is gone or has changed")
        return model
    raise NotImplementedError(f"{kind} cannot be kept")
