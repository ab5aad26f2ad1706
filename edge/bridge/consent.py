"""The word of a person, without which no command here moves a motor."""

from __future__ import annotations

import sys

from edge.bridge.identity import is_simulated
from edge.errors import UserError

WORD = "ARM"


def permit(firmware: str, what: str, absent: bool) -> None:
    """Say what will happen and wait for the word. firmware: name and version. absent: nobody is there, which only simulated motors
    allow. Raises UserError."""
    if absent:
        if not is_simulated(firmware):
            raise UserError(
                f"--yes is for simulated robots, and {firmware or 'this firmware'} drives real motors: leave it out, and "
                f"type {WORD} when asked"
            )
        return
    if not sys.stdin.isatty():
        raise UserError("the motors move only when a person at a terminal says so: run this in a terminal")
    print(f"{what}\nTHE WHEELS MUST BE OFF THE GROUND, with hands, hair and cables away from them.", file=sys.stderr)
    print(f"Type {WORD} to begin: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != WORD:
        raise UserError(f"not armed, because the word was not {WORD}: nothing has moved")
