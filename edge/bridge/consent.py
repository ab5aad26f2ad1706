"""The word of a person, without which no command here moves a motor."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence

from edge.bridge.proof import Check
from edge.errors import UserError
from firmware_bridge.controller import Identity

WORD = "ARM"
RISK = "AT MY RISK"


def permit(who: Identity, what: str, warning: str = "THE WHEELS MUST BE OFF THE GROUND", *, absent: bool) -> None:
    """Say what will happen and wait for the word. absent: nobody is there, which only simulated motors allow. Raises UserError."""
    if absent:
        if not who.simulated:
            raise UserError(
                f"--yes is for simulated robots, and {who.firmware or 'this controller'} drives real motors: leave it out, and "
                f"type {WORD} when asked"
            )
        return
    if not sys.stdin.isatty():
        raise UserError("the motors move only when a person at a terminal says so: run this in a terminal")
    print(f"{what}\n{warning}, with hands, hair and cables away.", file=sys.stderr)
    if _typed(WORD, "begin") != WORD:
        raise UserError(f"not armed, because the word was not {WORD}: nothing has moved")


def accepts(who: Identity, checks: Sequence[Check]) -> bool:
    """Does the person take upon themselves what is not proved? Nobody who is not at a terminal does."""
    if not sys.stdin.isatty():
        return False
    print("\nNOT PROVED, and nobody but you can answer for it:", file=sys.stderr)
    for check in checks:
        print(f"  {check.name}: {check.found}", file=sys.stderr)
    if not who.unique:
        print(f"  which device this is: another one at {who.uid} would pass for it", file=sys.stderr)
    print(f"What you type is kept, with your name ({getpass.getuser()}) and the date.", file=sys.stderr)
    return _typed(RISK, "let this robot be armed nevertheless") == RISK


def _typed(word: str, to: str) -> str:
    print(f"Type {word} to {to}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
