"""Writes a calibration into a person's robot file, of which all else stays as it is, comments and order included."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from edge.config import AxisConfig, ConfigError, RobotConfig, load_config, parse_config
from edge.errors import UserError
from edge.whole_file import write_whole


@dataclass(frozen=True, slots=True)
class Entry:
    """config: what the runtime reads. notes: what stands behind a key, as ``"forward.gain"``, for people."""

    config: AxisConfig
    notes: Mapping[str, str]


def check_writable(path: Path) -> None:
    """Before a minute is spent with the motors. Raises UserError."""
    target = path.resolve()
    anybody = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH  # root may write to all, and still should not to a file set read-only
    if not (target.stat().st_mode & anybody and os.access(target, os.W_OK)):
        raise UserError(f"{path} is read-only, and the calibration goes into it: make it writable (chmod u+w {path})")
    if not os.access(target.parent, os.W_OK):
        raise UserError(f"the folder of {path} cannot be written to, and the calibration goes into it: make it writable")


def write_axes(path: Path, entries: Mapping[str, Entry], stamp: str) -> Path:
    """Put the axes into the robot file, in place of what it said of them, and return where the old file was kept.

    stamp: goes into the name of the old file. All or nothing: aside, checked, flushed, renamed. Raises UserError.
    """
    target = path.resolve()
    try:
        old = target.read_bytes()
        before = load_config(target)
        new = with_axes(old.decode("utf-8"), entries).encode("utf-8")
        if not _means(new, before, entries):
            raise ValueError("its meaning would change")
        kept = _free(target.with_name(f"{target.name}.{stamp}.bak"))
        write_whole(kept, old)
        mode = stat.S_IMODE(target.stat().st_mode)
        write_whole(target, new)
        target.chmod(mode)
    except (TOMLKitError, ValueError) as error:
        raise UserError(f"{path} cannot be changed ({error}): write each axis there as a table of its own, [axes.NAME]") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}), it is as it was: check the disk and its folder") from None
    return kept


def with_axes(text: str, entries: Mapping[str, Entry]) -> str:
    """The text of a robot file with these axes in it. Raises TOMLKitError or ValueError where axes are not tables."""
    document = tomlkit.parse(text)
    if "axes" not in document:
        document = tomlkit.parse(text.rstrip("\n") + "\n\n")
        document.append("axes", tomlkit.table(is_super_table=True))
    axes: Any = document["axes"]
    for name, entry in entries.items():
        axes[name] = _table(entry)  # in its old place where it has one
    return tomlkit.dumps(document).rstrip("\n") + "\n"


def _table(entry: Entry) -> Table:
    plain: dict[str, Any] = {key: value for key, value in msgspec.to_builtins(entry.config).items() if value is not None}
    table = tomlkit.table()
    for key, value in plain.items():
        if isinstance(value, dict):
            inner = tomlkit.table()
            for inner_key, number in value.items():
                _put(inner, inner_key, number, entry.notes.get(f"{key}.{inner_key}", ""))
            inner.add(tomlkit.nl())
            table.append(key, inner)
        else:
            _put(table, key, value, entry.notes.get(key, ""))
    return table


def _put(table: Table, key: str, value: Any, note: str) -> None:
    item = tomlkit.item(value)
    if note:
        item.comment(note)
    table.append(key, item)


def _means(text: bytes, before: RobotConfig, entries: Mapping[str, Entry]) -> bool:
    """Whether a new text says of these axes what it should, and of all else what it said."""
    axes = {**before.axes, **{name: entry.config for name, entry in entries.items()}}
    try:
        return parse_config(text, "the new text") == msgspec.structs.replace(before, axes=axes)
    except ConfigError:
        return False


def _free(path: Path) -> Path:
    """The name itself, or the next with a number, so that no older file is written over."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
