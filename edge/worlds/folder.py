"""Where a simulated world may live: its sockets have paths, and a UNIX socket's path may have 107 characters."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edge.errors import UserError

LONGEST = 95
"""Characters of a world's folder; the rest is for the names in it."""

_OF_A_NAME = 30  # a prefix and what tempfile adds to it


def short_parent() -> str | None:
    """For tempfile's ``dir``: None where the usual folder for temporary files leaves room for sockets, else ``/tmp``."""
    return None if len(tempfile.gettempdir()) + _OF_A_NAME <= LONGEST else "/tmp"


def checked(folder: Path) -> Path:
    """``folder``, if a world can live there. Raises UserError."""
    if len(str(folder.absolute())) > LONGEST:
        raise UserError(f"the folder {folder} has too long a path for sockets: choose one of at most {LONGEST} characters")
    return folder
