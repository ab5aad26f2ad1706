"""How far long work has come: one line on stderr per stage, and on a terminal a bar that is written over."""

from __future__ import annotations

import sys
import time

_BAR = 24


class ProgressLine:
    """counting: whether there is a terminal to count on."""

    def __init__(self, counting: bool) -> None:
        self._counting = counting
        self._shown = 0.0

    def say(self, stage: str) -> None:
        """A new stage begins."""
        self.clear()
        print(stage, file=sys.stderr, flush=True)

    def count(self, done: int, total: int) -> None:
        """total: 0 where nobody knows it."""
        now = time.monotonic()
        if self._counting and (now - self._shown > 0.1 or done == total):
            self._shown = now
            full = _BAR * min(done, total) // total if total else 0
            bar = f"[{'#' * full}{'.' * (_BAR - full)}] {done} of {total}" if total else f"{done}"
            print(f"\r  {bar}\033[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._counting:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
