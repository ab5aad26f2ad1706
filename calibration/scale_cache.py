"""Calibrations that were made before, one readable file each, found again by what they were made of."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.activations import ScaleTable
from calibration.histogram import CalibrationError, Method
from edge.whole_file import write_whole

Arrays = dict[str, NDArray[Any]]
MADE_OF = "made_of"


def cache_folder() -> Path:
    """By the XDG rule: ``$XDG_CACHE_HOME/latentloop/scales``, else ``~/.cache/latentloop/scales``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentloop" / "scales"


def digest(parts: Iterable[bytes | NDArray[np.generic] | str]) -> str:
    """sha256 over all parts, each with its kind and size so that no two lists of parts look alike."""
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            whole.update(f"{part.dtype}{part.shape}".encode())
            whole.update(np.ascontiguousarray(part).data)
        else:
            data = part.encode() if isinstance(part, str) else part
            whole.update(f"{len(data)}:".encode())
            whole.update(data)
    return whole.hexdigest()


class ScaleCache:
    """A folder of calibrations. Files that cannot be read, or are of something else, count as not there; what cannot be
    written is not kept.

    model, frames: sha256 of the graph that is watched and of what it is shown.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, model: str, frames: str, method: Method, measure: Callable[[], ScaleTable]) -> tuple[ScaleTable, Path, bool]:
        """The scale table, its file, and whether it was there already."""
        path = self.folder / f"{model[:12]}-{frames[:12]}-{method}.scales.json"
        try:
            found = ScaleTable.load(path)
            if (found.model, found.frames, found.method) == (model, frames, method):
                return found, path, True
        except CalibrationError:
            pass
        measured = msgspec.structs.replace(measure(), model=model, frames=frames)
        self._keep(path, measured.to_json())
        return measured, path, False

    def arrays(self, kind: str, model: str, frames: str, measure: Callable[[], Arrays]) -> Arrays:
        """Other figures by tensor. kind: what they are, part of the file's name."""
        path = self.folder / f"{model[:12]}-{frames[:12]}-{kind}.npz"
        made_of = np.array([model, frames])
        try:
            with np.load(path, allow_pickle=False) as stored:
                if np.array_equal(stored[MADE_OF], made_of):
                    return {name: stored[name] for name in stored.files if name != MADE_OF}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        measured = measure()
        data = io.BytesIO()
        everything: dict[str, Any] = {MADE_OF: made_of, **measured}
        np.savez(data, **everything)
        self._keep(path, data.getvalue())
        return measured

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            write_whole(path, data)
        except OSError:  # a full or read-only disk costs a measurement next time, nothing else
            pass
