"""One line on a terminal that says what is being done, written over by the next; nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable


def terminal_line() -> Callable[[str], None]:
    """Shows a line on standard error; an empty one takes it away."""
    shown = sys.stderr.isatty()

    def show(line: str) -> None:
        if shown:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    return show
