"""Which Jetson this is, as its system files say; no file is read elsewhere to find that out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

JETPACK_OF_L4T = {35: 5, 36: 6, 38: 7, 39: 7}


@dataclass(frozen=True, slots=True)
class Jetson:
    """model: of the board, empty if it does not say. l4t: e.g. ``"36.4.3"``, empty in a container without the release
    file. jetpack: its major version, None if unknown."""

    model: str
    l4t: str
    jetpack: int | None


def find_jetson(root: Path = Path("/")) -> Jetson | None:
    """The Jetson that this is, or None. root: where the system's files lie."""
    model, release = _read(root / "proc/device-tree/model"), _read(root / "etc/nv_tegra_release")
    if not release and "Jetson" not in model and "Orin" not in model:
        return None
    found = re.search(r"R(\d+) .*?REVISION: ([\d.]+)", release)
    if found is None:
        return Jetson(model, "", None)
    return Jetson(model, f"{found.group(1)}.{found.group(2)}", JETPACK_OF_L4T.get(int(found.group(1))))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""
