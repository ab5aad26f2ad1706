"""Write a bundle folder so that it is either the whole new one or still the whole old one."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import tomli_w

from edge.bundle import MANIFEST, Bundle, Manifest, conflicts, load
from edge.errors import UserError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class PackageError(UserError):
    """The bundle cannot be written; one sentence."""


def write_bundle(folder: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Bundle:
    """Write ``contents`` (path inside the bundle -> bytes) and the manifest, with ``files`` filled in, as ``folder``.

    Everything is written and synced beside ``folder`` first, loaded back, and renamed into place last; on any failure
    the bundle that was there stays as it was. Returns the bundle as loaded from its final place. Raises PackageError.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    manifest = msgspec.structs.replace(manifest, files=hashes)
    for conflict in conflicts(manifest):
        raise PackageError(f"bundle {folder} was not written: {conflict}")
    text = tomli_w.dumps(msgspec.to_builtins(manifest, builtin_types=(bytes,)))
    refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise PackageError(f"bundle {folder} cannot be written ({error}): check the path and free space") from None
    try:
        aside.chmod(0o755)
        for name, data in contents.items():
            _write(aside / name, data)
        _write(aside / MANIFEST, text.encode())
        load(aside)
        _swap(aside, folder)
    except OSError as error:
        raise PackageError(f"bundle {folder} cannot be written ({error}): check the path and free space") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return load(folder)


def refuse_foreign(folder: Path) -> None:
    """Raises PackageError if ``folder`` is something that a bundle must not replace; worth asking before long work."""
    if folder.exists() and not (folder / MANIFEST).exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise PackageError(f"{folder} holds something that is not a bundle: give an empty or a new folder")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _swap(aside: Path, folder: Path) -> None:
    """Put the finished folder in place; the old one may be left at ``aside``. Where the system cannot let two folders
    change places in one step, the old one steps back first and returns if the second step fails."""
    if folder.exists() and _exchange(aside, folder):
        _sync_folder(folder.parent)
        return
    old = aside.with_name(f"{aside.name}-old")
    if folder.exists():
        folder.rename(old)
    try:
        aside.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    _sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step, so that no power cut finds neither; False, and nothing happened, where the
    system or the file system cannot (Linux's renameat2, which Python does not offer)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
