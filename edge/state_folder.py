"""Where this user's latentloop keeps what it learns, unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """By the XDG rule: ``$XDG_STATE_HOME/latentloop``, else ``~/.local/state/latentloop``. It need not exist yet."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "latentloop"
