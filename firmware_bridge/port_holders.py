"""Which processes have a device open, as far as this user may see."""

from __future__ import annotations

import os
from pathlib import Path


def holders(device: str, proc: Path = Path("/proc")) -> list[str]:
    """Each as ``name (process 1234)``, or ``this program``. Empty where it cannot be seen: another user's processes."""
    try:
        real = os.path.realpath(device)
        processes = [each for each in proc.iterdir() if each.name.isdigit()]
    except OSError:
        return []
    return [
        "this program" if process.name == str(os.getpid()) else f"{_name(process)} (process {process.name})"
        for process in sorted(processes, key=lambda process: int(process.name))
        if _has_open(process, real)
    ]


def _has_open(process: Path, real: str) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # not ours to look at, or ended meanwhile
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(descriptor) == real:
                return True
        except OSError:
            continue
    return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip() or "a process"
    except OSError:
        return "a process"
